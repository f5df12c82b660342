"""``moesim calibrate``: a module a command."""
