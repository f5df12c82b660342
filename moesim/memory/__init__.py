"""Where experts live: caches, policies, footprints."""
