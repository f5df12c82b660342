"""Cases whose activations are decided, priced and counted in compiled code at once."""
