"""``moesim trace``: a module a command."""
