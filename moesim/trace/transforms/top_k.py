"""Fewer experts a token."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices


class TopK(Transform):
    """The k choices of the largest gate weight; without weights the first k of the trace."""

    kind: Literal["top_k"] = "top_k"
    k: int = Field(ge=1, description="Choices that a token has at most.")

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        if self.k > (most := choices.ids.shape[2]):
            choices = choices.noted(f"top_k: tokens have {most} choices, so that {self.k} cut none")
        kept = choices.keep(choices.ranks() < self.k)
        if choices.weights is None:
            return kept.noted("top_k: the trace has no weights, its first choices are kept")
        return kept
