"""A drive measured by reading a file, as a part of a machine."""
