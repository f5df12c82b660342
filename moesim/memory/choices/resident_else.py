"""Whatever is resident; a miss takes one way."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from pydantic import Field

from moesim.memory.choices.base import SCORE_UNIT, Ints, Seen, VariantChoice


class ResidentElse(VariantChoice):
    """The best resident variant serves, whatever the token needs; where none is resident, the
    expert is loaded in its high or low variant, skipped, or another computes its
    rows.
    """

    kind: Literal["resident_else"] = "resident_else"
    then: Literal["high", "low", "skip", "substitute"] = Field(
        default="low",
        description="What is done about an expert that no variant is resident of: it is loaded, "
        "skipped, or its tokens go to the expert of the pass with most gate weight.",
    )

    @property
    def worse(self) -> bool:
        """See ``VariantChoice``."""
        return True

    @property
    def substitutes(self) -> bool:
        """See ``VariantChoice``."""
        return self.then == "substitute"

    def scores(self, seen: Seen) -> Ints:
        """See ``VariantChoice``: all are needed."""
        return np.zeros(seen.ids.shape, np.int64)

    def limits(self, names: Sequence[str]) -> tuple[int, ...]:
        """See ``VariantChoice``."""
        return (SCORE_UNIT,) * len(names)

    def loaded(self, variants: int) -> tuple[int, ...]:
        """See ``VariantChoice``."""
        then = {"high": 0, "low": variants - 1}.get(self.then, variants)
        return (then,) * (variants + 1)
