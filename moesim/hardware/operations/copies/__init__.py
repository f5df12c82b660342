"""Copies between host and GPU: prices, and how they are fitted."""
