"""Hidden states from stage to stage of a pipeline."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operations.copies.copy import MadeOfCopies
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.parts import Part
from moesim.hardware.prices.provenance import Source


class SendRecv(MadeOfCopies):
    """A copy from GPU to GPU behind every stage but the last, one after the other.

    The peers' latency and bandwidth, or the profile's fit of such copies.
    """

    kind: ClassVar[str] = "send_recv"
    machine_part: ClassVar[str] = "peers"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.HEAD,
            "send_recv",
            lambda _, at: (at.setting.stages, at.tokens * at.row_bytes),
            "send_recv",
            when=lambda setting, _: setting.stages > 1,
        ),
    )

    def parts(self, stages: int, size: ArrayLike) -> list[Part]:
        """``size`` bytes int[n] that each of ``stages`` but the last hands to the next."""
        amount = np.asarray(size, np.int64)
        if stages == 1:
            return [Part(np.zeros(amount.shape))]
        return self._copy.parts(amount * (stages - 1), "p2p", True, stages - 1)

    def sources(self, stages: int, size: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        if stages == 1:
            return Source.DATASHEET
        return self._copy.sources(np.asarray(size) * (stages - 1), "p2p", True, stages - 1)
