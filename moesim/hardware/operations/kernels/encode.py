"""Tutel's sparse encoding: rows into the places of their experts."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operation import Operation
from moesim.hardware.operations.kernels.permute import Permute
from moesim.hardware.operations.kernels.positions import positions
from moesim.hardware.prices.parts import Part, where
from moesim.model.spec import LayerSpec


class Encode(Operation):
    """The positions by running counts, the places written empty, and the kept rows moved."""

    kind: ClassVar[str] = "encode"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.PERMUTE,
            "gate",
            lambda layer, at: (layer, at.most_tokens, at.experts, at.capacity, at.rows),
            "permute rows",
            lambda setting, layer: not (setting.uneven or setting.masks) and layer.moe is not None,
            by_routing=True,
        ),
    )

    def parts(
        self,
        layer: LayerSpec,
        tokens: ArrayLike,
        experts: ArrayLike,
        capacity: ArrayLike,
        rows: ArrayLike,
    ) -> list[Part]:
        """See ``CostModel.encode_ns``."""
        count = np.asarray(tokens, np.int64)
        places = np.asarray(experts, np.float64) * np.asarray(capacity, np.float64)
        written = places * (self.model.hidden_size * self.model.activation_bytes)
        empty = [self.gpu.moves(written, "empty places"), self.gpu.starts(1)]
        moved = Permute(self.hardware, self.model).parts(layer, rows)
        return where(count > 0, [positions(self.gpu, layer, count, experts), *empty, *moved])
