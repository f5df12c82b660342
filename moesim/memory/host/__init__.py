"""Experts in host memory: computed there, or kept above storage."""
