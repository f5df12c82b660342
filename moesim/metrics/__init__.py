"""From what an engine recorded to numbers and tables."""
