"""Tables as they come in: from the files that people have, and what a card cannot have done."""
