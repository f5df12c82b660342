"""Requests that are served, and the tokens of the passes that serve them."""
