"""How operations are priced and fitted: a folder a family, or a file an operation, by its name."""
