"""Run the choices, then the best ones with upgrades."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from moesim.config.errors import InputError, Problem
from moesim.experiment.loading.inputs import check_inputs
from moesim.experiment.loading.traces import trace_of
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware
from moesim.metrics.blocks import Blocks
from moesim.model import load_model
from moesim.results.blocks import read_blocks
from moesim.results.overwrite import check_replaceable, clear
from moesim.sweep.advise.advice import MOST_CHOSEN, Advice, Gain, Scored, chosen, fastest
from moesim.sweep.advise.choices import (
    ALL,
    RESIDENT,
    Choice,
    allowed,
    choices_of,
    common,
    launching,
    with_settings,
)
from moesim.sweep.advise.limits import Limit, host_limit, limits, mean_rows
from moesim.sweep.advise.profiles import write_upgrade
from moesim.sweep.advise.room import Room, first_requests, room_of
from moesim.sweep.advise.upgrades import UPGRADES, Upgrade
from moesim.sweep.identity import is_sweep
from moesim.sweep.lock import hold_alone
from moesim.sweep.point import point_folder
from moesim.sweep.run import Points, Progress, SweepOptions, run_sweep
from moesim.sweep.table import summary_of
from moesim.workload.requests import Requests

WITHOUT_MISSES = ("twice_gpu_bandwidth", "no_software")
"""The upgrades that can help where every expert is resident."""


@dataclass(frozen=True)
class Runs:
    """How the runs of an advice are made: in the folder ``out``, ``jobs`` at the same time."""

    out: Path
    jobs: int = 1
    progress: Progress | None = None

    def summaries(
        self, base: Experiment, points: Points, name: str, *, before: int = 0, after: int = 0
    ) -> list[dict[str, Any]]:
        """The summaries of ``points``, a sweep in the folder ``name``; what has run is kept, what
        failed is tried again. ``before``, ``after``: other runs of the advice, for the progress.
        """

        def told(finished: int, total: int) -> None:
            if self.progress:
                self.progress(before + finished, before + total + after)

        folder = self.out / name
        run_sweep(
            base,
            points,
            folder,
            options=SweepOptions(jobs=self.jobs, retry_failed=True),
            progress=told,
        )
        return [summary_of(folder, number) for number in range(len(points))]

    def blocks(self, name: str, number: int) -> Blocks | None:
        """The blocks of point ``number`` of the sweep in the folder ``name``."""
        return read_blocks(point_folder(self.out / name, number))


def begin_anew(folder: Path) -> None:
    """Empty ``folder``; an InputError where it holds what moesim did not write, or an advice that
    is being made.
    """
    check_replaceable(folder)
    with ExitStack() as held:
        for name in ("choices", "upgrades"):
            if is_sweep(folder / name):
                held.enter_context(hold_alone(folder / name))
        if folder.is_dir():
            clear(folder)


def advise(
    experiment: Experiment, runs: Runs, *, most: str = "auto", requests: int | None = None
) -> Advice:
    """Compare the choices for the base point of ``experiment``, then the best with upgrades.

    ``most``: the largest room for experts; ``requests``: how many of the trace are replayed (None:
    so many that a run takes about a second). Raises InputError where not even one slot a layer
    fits, or no choice can run.
    """
    check_inputs([experiment])
    wanted = requests or first_requests(experiment)
    recorded = Requests.of(trace_of(experiment), experiment.workload.phase).count
    replayed = min(wanted, recorded)
    base = common(experiment, replayed)
    room = room_of(base, most)
    beside = launching(base, ALL if room.fits else most)
    resident = [RESIDENT, replace(RESIDENT, beside=beside)] if beside else [RESIDENT]
    choices = resident if room.fits else choices_of(room.slots, most, beside)
    made, left_out = allowed(base, choices)
    wanted_upgrades = upgrades_of(base, room, resize=most == "auto")
    later = len(wanted_upgrades) * (1 if room.fits else MOST_CHOSEN)
    points = [(choice.settings, one) for choice, one in made]
    summaries = runs.summaries(base, points, "choices", after=later)
    scored = tuple(
        Scored(choice, summary, runs.blocks("choices", number))
        for number, ((choice, _), summary) in enumerate(zip(made, summaries, strict=True))
    )
    best = fastest(scored)
    if best is None:
        what = f"no choice could run; {scored[0].summary.get('reason')}"
        raise InputError([Problem(experiment.name, "experts", what)])
    return Advice(
        name=experiment.name,
        folder=runs.out,
        model=experiment.model,
        hardware=experiment.hardware,
        room=room,
        requests=replayed,
        recorded=recorded,
        scored=scored,
        left_out=left_out,
        limits=limits_of(base, best),
        gains=gains(base, chosen(scored), wanted_upgrades, runs, before=len(made)),
    )


def limits_of(base: Experiment, best: Scored) -> dict[Limit, float]:
    """What limits the run of ``best``."""
    hardware = load_hardware(base.hardware, base.folders)
    model = load_model(base.model, base.folders)
    moe = model.moe_layers[0].moe
    assert moe is not None, "a layer with experts"
    rows = mean_rows(best.summary, len(model.moe_layers), moe.top_k)
    shared = -(-base.parallelism.expert // hardware.host.numa_nodes.value)
    host = host_limit(hardware, model, rows, shared)
    return limits(best.summary["time_share"], host)


def upgrades_of(base: Experiment, room: Room, *, resize: bool) -> list[Upgrade]:
    """The upgrades that could help; ``resize``: also those that leave more room for experts."""
    return [
        upgrade
        for upgrade in UPGRADES.values()
        if upgrade.software != base.software
        and (resize or not upgrade.resized)
        and (not room.fits or upgrade.key in WITHOUT_MISSES)
    ]


def gains(
    base: Experiment, ones: Sequence[Scored], wanted: Sequence[Upgrade], runs: Runs, *, before: int
) -> tuple[Gain, ...]:
    """Every upgrade ``wanted`` of every one of ``ones``, by the throughput that it reaches, after
    ``before`` other runs.
    """
    pairs = [(one, upgrade) for one in ones for upgrade in wanted]
    points = [upgraded_point(base, one.choice, upgrade, runs.out) for one, upgrade in pairs]
    summaries = runs.summaries(base, points, "upgrades", before=before)
    found = [
        Gain(upgrade, Scored(one.choice, summary), one.throughput or 0.0)
        for (one, upgrade), summary in zip(pairs, summaries, strict=True)
    ]
    return tuple(sorted(found, key=lambda gain: -(gain.scored.throughput or 0.0)))


def upgraded_point(
    base: Experiment, choice: Choice, upgrade: Upgrade, out: Path
) -> tuple[dict[str, str], Experiment]:
    """What is set, and the experiment, of ``choice`` with ``upgrade``."""
    settings = choice.settings | ({"experts.capacity": "auto"} if upgrade.resized else {})
    experiment = with_settings(base, settings)
    if upgrade.software is not None:
        update = {"software": upgrade.software}
    else:
        hardware = load_hardware(base.hardware, base.folders)
        update = {"hardware": write_upgrade(out / "hardware", base, hardware, upgrade)}
    same = {"hardware": base.hardware, "software": base.software}
    return settings | same | update, experiment.model_copy(update=update)
