"""The best choice, its rivals and its upgrades where the host reaches the least and the most."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware
from moesim.hardware.operations.kernels.cpu_expert import REACHED, share_is_prior
from moesim.sweep.advise.advice import End, Gain, fastest
from moesim.sweep.advise.choices import PLAIN, with_settings
from moesim.sweep.advise.profiles import write_upgrade
from moesim.sweep.advise.ranges import HOST, Varied, reaching, span
from moesim.sweep.advise.room import Room
from moesim.sweep.advise.scored import Scored
from moesim.sweep.advise.upgraded import upgraded_point
from moesim.sweep.advise.upgrades import Upgrade
from moesim.sweep.runs import Runs

RIVALS = 3
"""Ways to handle misses that are compared at both ends, the best included."""
MATTERS = 0.02
"""Of the best choice's speed: upgrades of what the host's range moves less are as they are."""
Point = tuple[dict[str, Any], Experiment]


def most_runs(base: Experiment, room: Room, wanted: Sequence[Upgrade]) -> int:
    """How many runs ``at_ends`` makes at most."""
    unsure = not room.fits and share_is_prior(load_hardware(base.hardware, base.folders))
    return len(REACHED) * (RIVALS + 2 + len(wanted)) if unsure else 0


def at_ends(
    base: Experiment,
    scored: Sequence[Scored],
    native: Collection[str],
    wanted: Sequence[Upgrade],
    varied: Sequence[Varied],
    runs: Runs,
    *,
    before: int,
) -> tuple[End, ...]:
    """The speeds of the ``scored`` choices that could be the best, and the upgrades ``wanted`` of
    the best, at both ends of the host's share where that is a prior: nothing, where it is none, or
    no such choice computes experts on the host. ``before``: other runs, for the progress.
    """
    best = fastest(tuple(scored), native)
    if best is None or not share_is_prior(load_hardware(base.hardware, base.folders)):
        return ()
    every = rivals(scored, native)
    moved = [one for one in every if one.summary.get("host_notes")]
    if not moved:
        return ()
    own = best.throughput or 0.0
    found = span(tuple(varied), HOST, own)
    upgrades = wanted if found and found[1] - found[0] > MATTERS * own else ()
    points = [
        point for share in REACHED for point in _points(base, share, best, moved, upgrades, runs)
    ]
    told = runs.summaries(base, points, "ends", before=before)
    each = len(moved) + len(upgrades)
    return tuple(
        _end(share, best, every, moved, upgrades, told[place * each : (place + 1) * each])
        for place, share in enumerate(REACHED)
    )


def rivals(scored: Sequence[Scored], native: Collection[str]) -> list[Scored]:
    """The fastest of each way to handle misses that could be the best, the fastest first, at most
    ``RIVALS``; beside them those that the answer names over the best.
    """
    real = [o for o in scored if o.throughput and not (o.choice.offline or o.choice.pending)]
    own = [one for one in real if one.choice.miss in native] or real
    first: dict[str, Scored] = {}
    for one in sorted(own, key=lambda one: -(one.throughput or 0.0)):
        first.setdefault(one.choice.miss, one)
    pending = [one for one in scored if one.choice.pending and one.throughput]
    found = [*first.values()][:RIVALS]
    found += [one for one in (fastest(tuple(real)),) if one is not None]
    found += [one for one in scored if one.choice.way == PLAIN.way and one.throughput][:1]
    found += sorted(pending, key=lambda one: -(one.throughput or 0.0))[:1]
    return list({one.choice: one for one in found}.values())


def _points(
    base: Experiment,
    share: float,
    best: Scored,
    moved: Sequence[Scored],
    upgrades: Sequence[Upgrade],
    runs: Runs,
) -> list[Point]:
    """Of each choice, then of the best with each upgrade."""
    hardware, at = load_hardware(base.hardware, base.folders), reaching(share)
    profile = write_upgrade(runs.out / "hardware", base, hardware, at)
    there = base.model_copy(update={"hardware": profile})
    same = {"hardware": profile}
    made: list[Point] = [
        (one.choice.settings | same, with_settings(there, one.choice.settings)) for one in moved
    ]
    for upgrade in upgrades:
        named = replace(upgrade, key=f"{at.key}_{upgrade.key}")
        made.append(upgraded_point(there, best.choice, named, runs.out))
    return made


def _end(
    share: float,
    best: Scored,
    every: Sequence[Scored],
    moved: Sequence[Scored],
    upgrades: Sequence[Upgrade],
    told: Sequence[Mapping[str, Any]],
) -> End:
    """By the summaries that were ``told``; what does not use the host is as it was."""
    there = {
        one.choice: replace(one, summary=summary, blocks=None)
        for one, summary in zip(moved, told, strict=False)
    }
    speeds = {one.choice: there.get(one.choice, one).throughput for one in every}
    before = speeds.get(best.choice) or 0.0
    gains = tuple(
        Gain(upgrade, replace(best, summary=summary, blocks=None), before)
        for upgrade, summary in zip(upgrades, told[len(moved) :], strict=True)
    )
    return End(share, speeds, gains)
