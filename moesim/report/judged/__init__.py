"""Predictions beside what was measured, and what was measured."""
