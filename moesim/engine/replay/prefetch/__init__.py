"""Decisions on the compiled clock, because prefetches make residency depend on it."""
