"""How GPUs share what a model has."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from moesim.model.spec import ModelSpec


class RowFormat(NamedTuple):
    """Values of ``bits`` each, and a scale of ``scale_bytes`` for a ``block`` of them, None: for
    all of a row.
    """

    bits: int
    block: int | None
    scale_bytes: int

    def row_bytes(self, values: int) -> int:
        """Bytes of a row of so many ``values``."""
        scales = 1 if self.block is None else -(-values // self.block)
        return -(-values * self.bits // 8) + scales * self.scale_bytes


DISPATCHED = {
    "fp8": RowFormat(8, None, 4),
    "fp8_block": RowFormat(8, 128, 4),
    "mxfp8": RowFormat(8, 32, 1),
    "nvfp4": RowFormat(4, 16, 1),
    "int8": RowFormat(8, None, 4),
}
"""What hidden vectors may be rounded to before they are dispatched: fp8 and int8 with an fp32 scale
a token, fp8 with one for 128 values (DeepEP's), and the two microscaled formats.
"""


class Shared:
    """Of ``gpus`` neighbours, ``group`` of them, share the dense part and ``slices`` each expert;
    ``reduces``: every GPU has all tokens before whole experts of its own, and what comes of them is
    added up, by an all-reduce or, where each GPU's attention has tokens of its own, a
    reduce-scatter. ``once``: what is dispatched goes once to a GPU, for all its experts.
    ``dispatch_dtype``: one of DISPATCHED, None: as the model has hidden vectors.
    """

    gpus: int
    group: int
    slices: int
    reduces: bool
    once: bool
    dispatch_dtype: str | None

    @property
    def holders(self) -> int:
        """GPUs, or groups of them that slice experts, that hold experts of their own."""
        return self.gpus // self.slices

    @property
    def sharing(self) -> int:
        """Neighbouring GPUs that run the same tokens in a MoE layer."""
        return self.gpus if self.reduces else self.slices

    @property
    def senders(self) -> int:
        """GPUs, or groups of them with the same tokens, whose tokens are counted apart."""
        return self.gpus // self.sharing

    @property
    def gathers(self) -> bool:
        """Whether GPUs with the same tokens meet before and after the experts, where others
        dispatch and combine.
        """
        return self.sharing > 1

    @property
    def gathers_tokens(self) -> bool:
        """Whether they exchange hidden vectors there: attention over all gives each GPU all."""
        return self.sharing > self.group

    def row_bytes(self, model: ModelSpec) -> tuple[int, int]:
        """Bytes of a row that goes to experts, and of one that comes back."""
        back = model.hidden_size * model.activation_bytes
        if self.dispatch_dtype is None:
            return back, back
        return DISPATCHED[self.dispatch_dtype].row_bytes(model.hidden_size), back


@dataclass(frozen=True)
class Spread(Shared):
    """Such GPUs, of any machine."""

    gpus: int = 1
    group: int = 1
    slices: int = 1
    reduces: bool = False
    once: bool = False
    dispatch_dtype: str | None = None


ALONE = Spread()
"""One GPU that has all."""
