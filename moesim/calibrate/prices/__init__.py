"""A table's rows as operations of a run: their prices, how far off these are, part by part."""
