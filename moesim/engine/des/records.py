"""What one GPU recorded."""

from __future__ import annotations

from dataclasses import dataclass, field

from moesim.engine.des.copies import CopyGroup
from moesim.engine.des.layer import MoeLayer

ATTENTION, GATE, DISPATCH, EXPERTS, HOST, WEIGHTS, BARRIER, CPU = range(8)
"""What a nanosecond of a GPU is charged to."""


@dataclass(eq=False)
class Records:
    """What one GPU recorded: by pass start, end and charges; by (pass, MoE layer) start, end, stall
    and barrier, in the order in which they ran; spans of its engines where they are wanted.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    charges: list[list[int]] = field(default_factory=list)
    layers: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    spans: list[tuple[int, str, str, int, int, int, int]] = field(default_factory=list)

    def job(
        self, engine: str, name: str, start: int, end: int, where: tuple[int, int, int]
    ) -> None:
        """One job of an engine; ``where``: GPU, step and layer."""
        gpu, step, layer = where
        self.spans.append((gpu, engine, name, start, end, step, layer))

    def wave(
        self, layer: MoeLayer, wave: int, start: int, end: int, where: tuple[int, int]
    ) -> None:
        """The kernel of a wave, named by its experts; ``where``: GPU and step."""
        experts = ",".join(layer.experts_of_wave(wave))
        name = f"layer {layer.index} experts {experts}"
        self.job("compute", name, start, end, (*where, layer.index))

    def copies(self, group: CopyGroup, gpu: int) -> None:
        """The copies of a group that has ended."""
        for expert, (start, end) in zip(group.experts, group.spans, strict=True):
            name = f"copy layer {group.layer} expert {expert}"
            self.job("copy_in", name, start, end, (gpu, group.step, group.layer))
