"""The measurement table: its columns, which of its rows can be, and its files."""
