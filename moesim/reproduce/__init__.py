"""Published studies, rebuilt by mechanism."""
