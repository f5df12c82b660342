"""Load what is missing."""

from __future__ import annotations

from typing import Any, Literal

from moesim.memory.forms import IN_SLOT
from moesim.memory.misses.base import MissHandling


class Load(MissHandling):
    """Every missing expert is copied into a slot before its kernel."""

    kind: Literal["load"] = "load"

    @staticmethod
    def place(missing: Any) -> Any:
        """Always a load."""
        return IN_SLOT
