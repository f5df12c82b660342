"""The slow, obvious reference, and its comparisons with the engine."""
