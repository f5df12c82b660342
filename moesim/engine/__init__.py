"""Engines: the only clock."""
