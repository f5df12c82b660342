"""What an experiment says: its keys, axes, settings and origins, as text and as a JSON Schema."""
