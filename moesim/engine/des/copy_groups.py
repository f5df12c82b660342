"""The copies of a layer's pass, as the copy engine takes them."""

from __future__ import annotations

from itertools import chain

import simpy

from moesim.engine.des.copies import CopyGroup
from moesim.engine.des.drive import Reading
from moesim.engine.des.layer import MoeLayer

Groups = dict[int, list[CopyGroup]]
"""Copies by the launch that waits for them, in order."""
Ends = dict[int, simpy.Event]
"""The ends of launches for which copies wait."""


def copy_groups(
    env: simpy.Environment,
    layer: MoeLayer,
    index: int,
    known: int,
    reading: Reading | None = None,
) -> tuple[Groups, Ends]:
    """The pass's copies by launch, -1 where none needs them, those without a wait between them as
    one; and awaited launch ends.

    ``known``: when the counts are; ``reading``: from storage.
    """
    low, high = layer.step_copies[index], layer.step_copies[index + 1]
    groups: Groups = {}
    ends: Ends = {}
    group: CopyGroup | None = None
    previous = None
    copied, copy_ns, amount = layer.copied, layer.copy_ns, layer.amount
    for copy in range(low, high):
        launch, wait = layer.copy_launch[copy], layer.copy_wait[copy]
        if copied:
            copy_ns, amount = copied[copy]
        read = -1 if reading is None else layer.stored.copy[copy]
        if group and launch == previous and wait < 0 and read < 0 and group.amount == amount:
            group.count += 1
            continue
        group = CopyGroup(env, 1, amount, copy_ns, known, copy - low)
        if wait >= 0:
            group.after = ends.setdefault(wait, env.event())
        if reading is not None and read >= 0:
            there = reading.may_copy(copy)
            group.after = there if group.after is None else env.all_of([group.after, there])
        if launch in groups:
            groups[launch].append(group)
        else:
            groups[launch] = [group]
        previous = launch
    return groups, ends


def name_copies(groups: Groups, layer: MoeLayer, index: int, step: int) -> None:
    """Tell each group which experts it brings, of which layer and step."""
    for group in chain.from_iterable(groups.values()):
        first = layer.step_copies[index] + group.index
        group.bring(step, layer.index, *layer.copy_expert[first : first + group.count])
