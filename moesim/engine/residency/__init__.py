"""Which experts are where, decided without a clock."""
