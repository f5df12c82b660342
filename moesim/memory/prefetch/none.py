"""No prefetch."""

from __future__ import annotations

from typing import ClassVar, Literal

from moesim.memory.prefetch.base import Prefetcher


class NoPrefetch(Prefetcher):
    """Nothing is fetched ahead: an expert is loaded when it is needed."""

    kind: Literal["none"] = "none"
    fetches: ClassVar[bool] = False
