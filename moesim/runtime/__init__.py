"""The process that moesim runs in: compiled code on disk, memory left, garbage collection."""
