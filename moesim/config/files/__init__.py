"""Files from outside: where they are, what they are, what was in them."""
