"""The price of each operation, one module an operation, found by its name."""
