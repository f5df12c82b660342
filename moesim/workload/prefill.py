"""How prompts are run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moesim.config.params import Params


class Prefill(Params):
    """Into how many passes prompts are cut, and whether their experts go through the caches.

    A chunk is the token budget of a step of vLLM's chunked prefill and llama.cpp's physical batch:
    over all requests of a GPU, not of each.
    """

    chunk: int | None = Field(
        default=None,
        ge=1,
        description="The most prompt tokens of a GPU in one forward pass; by default all.",
    )
    stream_from: int = Field(
        default=512,
        ge=0,
        description="Prompt tokens of a step of requests that are served, from which on its layers "
        "stream; below that they bypass.",
    )
    experts: Literal["cache", "bypass", "stream"] = Field(
        default="cache",
        description="Experts of prompts go through the cache, or leave it as it is: missing ones "
        "pass through two staging buffers (bypass), or whole layers through two of their own, one "
        "copied while the other computes (stream).",
    )
