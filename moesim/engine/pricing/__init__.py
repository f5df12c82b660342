"""What passes cost, before the clock."""
