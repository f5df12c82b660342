"""The weights of a layer that the host keeps, copied to the GPU or read there."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.charge import Charge, Stage
from moesim.hardware.operations.copies.copy import MadeOfCopies
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.parts import Part, where
from moesim.hardware.prices.provenance import Source

if TYPE_CHECKING:
    from moesim.model.spec import LayerSpec


class LayerCopy(MadeOfCopies):
    """One copy of all its bytes, that nothing runs beside; of those that kernels read in place all
    but the experts', which are launches' own.

    So do the hooks of Accelerate 1.15.0 (``AlignDevicesHook.pre_forward`` copies what a module has
    when it is called), where a layer's experts are tensors of one module, as in transformers 5.
    """

    kind: ClassVar[str] = "layer_copy"
    charges: ClassVar[tuple[Charge, ...]] = (
        Charge(
            Stage.BEFORE_GATE,
            "layer_copies",
            lambda layer, at: (layer, at.group_tokens, at.setting.pinned or layer.zero_copy),
            "layer copy",
            when=lambda _, layer: layer.link_bytes > 0,
            first=True,
        ),
    )

    def parts(self, layer: LayerSpec, tokens: ArrayLike, pinned: bool = True) -> list[Part]:
        """From host memory that is ``pinned`` or not, where there are ``tokens`` int[n]."""
        count = np.asarray(tokens, np.float64)
        return where(count > 0, self._copy.parts(_bytes(layer, count), "h2d", pinned))

    def sources(self, layer: LayerSpec, tokens: ArrayLike, pinned: bool = True) -> Source | Ints:
        """See ``Operation``."""
        return self._copy.sources(_bytes(layer, np.asarray(tokens)), "h2d", pinned)


def _bytes(layer: LayerSpec, like: Floats | Ints) -> Ints:
    return np.full(like.shape, layer.link_bytes, np.int64)
