"""Miss-ratio curves: the misses of every number of slots, without a clock."""
