"""Engines that share requests: replicas, and instances for prompts and for answers."""
