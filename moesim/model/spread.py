"""How GPUs share what a model has."""

from __future__ import annotations

from dataclasses import dataclass


class Shared:
    """Of ``gpus`` neighbours, ``group`` of them, share the dense part and ``slices`` each expert;
    ``reduces``: every GPU has all tokens before whole experts of its own, and what comes of them is
    added up, by an all-reduce or, where each GPU's attention has tokens of its own, a
    reduce-scatter.
    """

    gpus: int
    group: int
    slices: int
    reduces: bool

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


@dataclass(frozen=True)
class Spread(Shared):
    """Such GPUs, of any machine."""

    gpus: int = 1
    group: int = 1
    slices: int = 1
    reduces: bool = False


ALONE = Spread()
"""One GPU that has all."""
