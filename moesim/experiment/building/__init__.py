"""From a resolved experiment to what an engine plays: placement, slots, memory."""
