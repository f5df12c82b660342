"""Causes in words."""

from __future__ import annotations


def cause_in_words(cause: str) -> str:
    """A cause of ``time_share`` as text: ``waiting_for_gpus`` as ``waiting for GPUs``."""
    return cause.replace("_", " ").replace(" gpus", " GPUs").replace(" cpu", " CPU")
