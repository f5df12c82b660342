"""Routed experts on a GPU: tiles, the formula, prices, how they are fitted, how wrong they are."""
