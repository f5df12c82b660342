"""What pictures and their sheets have in common."""
