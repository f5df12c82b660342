"""Load what is missing."""

from __future__ import annotations

from typing import Literal

from moesim.memory.misses.base import LOADED, MissHandling


class Load(MissHandling):
    """Every missing expert is copied into a slot before its kernel."""

    kind: Literal["load"] = "load"

    @staticmethod
    def place(copied, hosted, loads, copy_ns, kernel_ns, host_ns, most_loads):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """Always a load."""
        return LOADED
