"""What may be asked without a run: what fits, which plan, which misses."""
