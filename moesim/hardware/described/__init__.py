"""What files and people say of a machine and its software: numbers with their sources."""
