"""What prices are made of: fitted numbers, curves, parts, and what they rest on."""
