"""Measurements of real hardware: the table, importers, fits, prices and their errors."""
