"""What one GPU recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from moesim.engine.des.copies import CopyGroup
from moesim.engine.outcome import Span

ATTENTION, GATE, DISPATCH, EXPERTS, HOST, WEIGHTS, BARRIER, CPU, STORAGE = range(9)
"""What a nanosecond of a GPU is charged to."""


class Kept(NamedTuple):
    """What is recorded beside the passes: rows of ``layers``, ``spans`` of engines."""

    layers: bool
    spans: bool


@dataclass(eq=False)
class Records:
    """What one GPU recorded: by pass start, end and charges; by (pass, MoE layer) start, end, stall
    and barrier, in the order in which they ran; where they are wanted, spans of its engines, and
    when it had how many experts in slots.
    """

    starts: list[int] = field(default_factory=list)
    ends: list[int] = field(default_factory=list)
    charges: list[list[int]] = field(default_factory=list)
    layers: list[tuple[int, int, int, int, int, int]] = field(default_factory=list)
    spans: list[Span] = field(default_factory=list)
    held: list[tuple[int, int]] = field(default_factory=list)

    def copies(self, gpu: int, group: CopyGroup) -> None:
        """The copies of a group that has ended."""
        name, where = "copy ahead" if group.ahead else "copy", (group.step, group.layer)
        for expert, times in zip(group.experts, group.spans, strict=True):
            copy = Span(gpu, "copy_in", name, "copy", *times, *where, expert, group.amount)
            self.spans.append(copy)
