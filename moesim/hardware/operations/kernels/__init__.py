"""Small kernels: what each moves and computes, prices, and how they are fitted."""
