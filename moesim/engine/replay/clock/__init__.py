"""The compiled clock: a recursion over pass, layer and GPU."""
