"""What an engine's own software costs, from runs that its user measured."""
