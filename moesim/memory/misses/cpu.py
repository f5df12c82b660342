"""Compute on the host what is missing."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.memory.misses.base import ON_HOST, MissHandling


class Cpu(MissHandling):
    """Missing experts are computed by the CPU and nothing is loaded, as llama.cpp's --n-cpu-moe.

    The slots keep what they held at the start (``initial: most_used``).
    """

    kind: Literal["cpu"] = "cpu"
    loads: ClassVar[bool] = False
    uses_host: ClassVar[bool] = True

    @staticmethod
    def place(copied, hosted, loads, copy_ns, kernel_ns, host_ns, most_loads):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """Always the host."""
        return ON_HOST
