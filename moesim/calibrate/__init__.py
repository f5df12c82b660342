"""Measurements of real hardware: tables, importers, collectors, fits, prices and their errors."""
