"""Causes, and what prices rest on, in words."""

from __future__ import annotations

PRICED_BY = {"datasheet": "datasheets and priors"}
"""What is written for a key of ``price_share``: a GPU's fractions are on no datasheet."""


def cause_in_words(cause: str) -> str:
    """A cause of ``time_share`` as text: ``waiting_for_gpus`` as ``waiting for GPUs``."""
    return cause.replace("_", " ").replace(" gpus", " GPUs").replace(" cpu", " CPU")
