"""What a machine's threads read of its memory."""
