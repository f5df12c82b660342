"""Amounts with a unit: their kinds, their text, and how many bytes or slots they are."""
