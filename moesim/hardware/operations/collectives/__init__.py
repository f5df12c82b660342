"""Collectives: the formula, a card's numbers in it, prices, and how they are fitted."""
