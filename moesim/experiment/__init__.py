"""Experiments: the schema, sweep axes, and how a file becomes a resolved experiment."""
