"""How steps follow one another: decided one by one, ahead of their times, or all at once."""
