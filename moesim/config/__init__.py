"""Configuration: strict YAML with places, units, overrides, registries, and errors for users."""
