"""The copies of a layer's pass, as the copy engine takes them."""

from __future__ import annotations

import simpy

from moesim.engine.des.copies import CopyGroup
from moesim.engine.des.layer import MoeLayer

Groups = dict[int, list[CopyGroup]]
"""Copies by the wave that waits for them, in order."""
Ends = dict[int, simpy.Event]
"""The ends of waves for which copies wait."""


def copy_groups(
    env: simpy.Environment, layer: MoeLayer, index: int, known: int
) -> tuple[Groups, Ends]:
    """The pass's copies by wave, those without a wait between them as one; and awaited wave ends.

    ``known``: when the counts are.
    """
    low, high = layer.step_copies[index], layer.step_copies[index + 1]
    groups: Groups = {}
    ends: Ends = {}
    previous = -1
    for copy in range(low, high):
        wave, wait = layer.copy_wave[copy], layer.copy_wait[copy]
        if wave == previous and wait < 0:
            groups[wave][-1].count += 1
            continue
        after = ends.setdefault(wait, env.event()) if wait >= 0 else None
        group = CopyGroup(1, layer.amount, layer.copy_ns, known, copy - low, env.event(), after)
        groups.setdefault(wave, []).append(group)
        previous = wave
    return groups, ends


def name_copies(groups: Groups, layer: MoeLayer, index: int, step: int) -> None:
    """Tell each group which experts it brings, of which layer and step."""
    for group in (group for of_wave in groups.values() for group in of_wave):
        first = layer.step_copies[index] + group.index
        copies = range(first, first + group.count)
        group.experts = [layer.expert_of_copy(copy) for copy in copies]
        group.layer, group.step = layer.index, step
