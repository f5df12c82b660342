"""By how often an expert is used."""

from __future__ import annotations

from typing import Literal

import numpy as np
from pydantic import Field

from moesim.config.units import Percent
from moesim.memory.choices.base import ByLimits, Ints, Seen, shares


class HotCold(ByLimits):
    """The ``high`` share of a layer's experts, those that the first part of the trace chooses most
    often, is wanted in the high variant, and so on (as DynaExq, arXiv 2511.15015, once for all).
    """

    kind: Literal["hot_cold"] = "hot_cold"
    high: Percent = Field(default=0.3, description="The most used share of a layer's experts.")
    first_part: Percent = Field(
        default=0.25, gt=0, description="Part of the trace in which use is counted."
    )

    def learning_part(self) -> float:
        """See ``VariantChoice``."""
        return self.first_part

    def scores(self, seen: Seen) -> Ints:
        """See ``VariantChoice``: the share of experts that are used as often, with this one."""
        experts = seen.usage.shape[1]
        order = np.argsort(-seen.usage, axis=1, kind="stable")
        rank = np.empty_like(order)
        np.put_along_axis(rank, order, np.arange(experts)[None], axis=1)
        of_expert = shares(rank + 1, experts)
        layers = np.arange(seen.ids.shape[1])[None, :, None]
        found: Ints = of_expert[layers, np.minimum(seen.ids, experts - 1)]
        return found
