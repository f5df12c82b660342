"""Slots and who is in them: residency as decided, step by step, without a clock."""
