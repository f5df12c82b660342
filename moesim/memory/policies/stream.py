"""Streaming without a cache."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from moesim.memory.policy import LAST_USE, CachePolicy


class Stream(CachePolicy):
    """Pass a step's experts through ``buffers`` in turn; nothing stays for the next step.

    InfMoE (CPM-2, arXiv 2106.10715), which copies one expert while another computes: there experts
    run one by one (``kernels: serial``), in ``id`` order. All layers share the buffers, whatever
    the capacity: it only says that experts are not resident.
    """

    kind: Literal["stream"] = "stream"
    scope: Literal["layer"] = Field(default="layer", description="There are no slots to share.")
    buffers: int = Field(default=2, ge=1, description="Experts that fit on the GPU at a time.")

    def shared_buffers(self) -> int | None:
        """The buffers."""
        return self.buffers

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The activation of the last use: the buffer that was filled first."""
        return state[LAST_USE, expert]
