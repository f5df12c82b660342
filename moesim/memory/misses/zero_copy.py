"""Kernels read missing weights over the link."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.memory.misses.base import OVER_LINK, MissHandling


class ZeroCopy(MissHandling):
    """The kernel reads a missing expert's weights from pinned host memory; nothing is loaded."""

    kind: Literal["zero_copy"] = "zero_copy"
    loads: ClassVar[bool] = False
    uses_link: ClassVar[bool] = True

    @staticmethod
    def place(copied, hosted, loads, copy_ns, kernel_ns, host_ns, most_loads):  # type: ignore[no-untyped-def]  # noqa: ANN205, ANN001
        """Always over the link."""
        return OVER_LINK
