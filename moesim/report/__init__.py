"""Reports: figures, tables for the terminal, timelines; the only package that plots."""
