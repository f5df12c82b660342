"""Measuring the machine that this runs on, into a measurement table."""
