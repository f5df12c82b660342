"""The compiled engine: the semantics of ``des`` where no decision reads the clock."""
