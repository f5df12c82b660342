"""Drafts of further tokens, made before a pass verifies them."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Part
from moesim.model.drafting import Drafter


class Drafting(Operation):
    """Reads what a GPU has of all that a draft needs, once a draft, and starts its kernels; no
    attention, and nothing that GPUs send one another.
    """

    kind: ClassVar[str] = "drafting"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "drafting",
            lambda _, at: (at.setting.drafter, at.drafting),
            "drafting",
            when=lambda setting, _: setting.drafter is not None,
        ),
    )

    def parts(self, drafter: Drafter, requests: ArrayLike) -> list[Part]:
        """Of drafts for each of ``requests`` int[n] of all GPUs, the n-th of all at once."""
        count = np.asarray(requests, np.int64)
        runs = drafter.times * (count > 0)
        chosen = np.minimum(-(-count * drafter.top_k // drafter.ranks), drafter.experts)
        size = drafter.fixed_bytes + drafter.expert_bytes * chosen
        return [self.gpu.reads(size * runs), self.gpu.starts(drafter.kernels * runs)]
