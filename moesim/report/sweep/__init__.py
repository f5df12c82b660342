"""The points of a sweep or a search."""
