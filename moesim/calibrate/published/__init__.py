"""Published runs of real engines: what they measured, beside what moesim makes of them."""
