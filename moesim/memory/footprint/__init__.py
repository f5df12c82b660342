"""What each GPU's memory holds, in bytes, before any clock runs."""
