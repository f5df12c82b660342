"""One run, and what its numbers rest on."""
