"""Hits over capacity: of the slots, and of the host's memory."""
