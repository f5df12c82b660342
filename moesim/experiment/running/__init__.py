"""Runs: which engine plays, results, their cache, and the memory of records."""
