"""Run the choices, then the best ones with upgrades."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from moesim.config.errors import InputError, Problem
from moesim.experiment.building.build import build
from moesim.experiment.loading.inputs import check_inputs
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.once import read_once
from moesim.experiment.loading.traces import trace_of
from moesim.experiment.loading.warnings import is_timed, of_inputs, paced
from moesim.experiment.questions.shares import one_memory_notes
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware
from moesim.memory.misses.cpu import Cpu
from moesim.model import load_model
from moesim.results.overwrite import SWEEPS, check_replaceable, set_aside
from moesim.sweep.advise.abilities import (
    ANY,
    ENGINES,
    LAYOUTS,
    STOCK,
    Asks,
    engine_named,
    layout_settings,
)
from moesim.sweep.advise.advice import (
    MOST_CHOSEN,
    Advice,
    Fit,
    Gain,
    LaidOut,
    chosen,
    fastest,
)
from moesim.sweep.advise.choices import (
    ALL,
    EVICTING,
    ON_HOST,
    PLAIN,
    RESIDENT,
    Choice,
    Settings,
    allowed,
    choices_of,
    common,
    launching,
    offered,
    with_settings,
)
from moesim.sweep.advise.ends import at_ends, most_runs
from moesim.sweep.advise.limits import Limit, host_limit, limits, mean_rows
from moesim.sweep.advise.ranges import Varied, variations
from moesim.sweep.advise.rebalanced import Moves, Rebalanced, can_move, moving_points
from moesim.sweep.advise.room import (
    BELOW,
    MOST_WITH_EVENTS,
    Room,
    first_requests,
    prefetches_by_events,
    room_of,
    too_small,
    with_drive,
)
from moesim.sweep.advise.scored import Scored
from moesim.sweep.advise.upgraded import upgraded_point
from moesim.sweep.advise.upgrades import UPGRADES, Upgrade
from moesim.sweep.identity import is_sweep
from moesim.sweep.lock import hold_alone
from moesim.sweep.runs import Runs
from moesim.workload.requests import Requests

SLOW = "GPUs share links here, over which they take long to play; a sweep has them"
OFTEN = "the drive decides here; a sweep has them"
WITHOUT_MISSES = ("twice_gpu_bandwidth", "twice_gpu_cores", "no_software")
"""The upgrades that can help where every expert is resident."""
OF_THE_HOST = ("next_pcie", "twice_dram", "twice_cores", "twice_host_memory")
"""Those of what a machine with one memory does not have, or not beside it."""
OF_ITS_EXPERTS = ("twice_dram", "twice_cores")
"""Those of experts on the CPU, of which a near-memory device leaves it none."""


def begin_anew(folder: Path) -> None:
    """Move what is in ``folder`` to ``.before`` there, until the new advice is complete; an
    InputError where it holds what moesim did not write, or an advice that is being made.
    """
    check_replaceable(folder)
    with ExitStack() as held:
        for name in SWEEPS:
            if is_sweep(folder / name):
                held.enter_context(hold_alone(folder / name))
        if folder.is_dir():
            set_aside(folder)


def _check(experiment: Experiment) -> None:
    """An InputError for files that are not there, for experts in several formats, and where the
    host computes all layers, prompts too, as without a GPU.
    """
    check_inputs([experiment])
    if experiment.experts.variants is not None:
        what = "choices are compared of experts in one format; leave variants and choose out, and"
        what += " compare formats with 'moesim sweep'"
        raise InputError([Problem(experiment.name, "experts.variants", what)])
    if not experiment.host_layers or Cpu(copies_from="never") != experiment.experts.miss:
        return
    layers = len(needed("model", experiment.model, experiment.folders).layers)
    if experiment.host_layers >= layers:
        what = f"the host runs all {layers} layers, as without a GPU, so no choice of one is left;"
        what += " 'moesim run' says how fast that is, 'moesim sensitivity' what moves it; leave"
        what += " host_layers and experts.miss out to ask what the GPU of 'hardware' brings"
        raise InputError([Problem(experiment.name, "host_layers", what)])


@read_once()
def advise(
    experiment: Experiment,
    runs: Runs,
    *,
    most: str = "auto",
    requests: int | None = None,
    fit: Callable[[Fit], None] | None = None,
    of: Asks | None = None,
) -> Advice:
    """Compare the choices for the base point of ``experiment``, then the best with upgrades and
    with what nobody measured set otherwise.

    ``most``: the largest room for experts; ``requests``: how many of the trace are replayed (None:
    so many that a run takes about a second); ``fit`` is told what fits, before any run;
    ``of``: whose answer it is, whose best is what that engine has, if it has any. Raises InputError
    where not even one slot a layer fits, or no choice can run.
    """
    _check(experiment)
    spread, not_spread, least = laid_out(experiment, of)
    asked = _asked(with_settings(experiment, dict(spread[0].settings)), most, requests)
    _choices(asked, most, of)
    if fit is not None:
        fit(_fit(asked, of, least, spread))
    first, spread = spread[0], run_layouts(asked.base, spread, runs)
    if spread[0].settings != first.settings:
        asked = _asked(with_settings(experiment, dict(spread[0].settings)), most, requests)
    base, room = asked.base, asked.room
    made, left_out = allowed(base, _choices(asked, most, of))
    wanted_upgrades = upgrades_of(base, room, resize=most == "auto")
    most_chosen = 1 if room.fits else MOST_CHOSEN
    own = _native(asked, of)
    later, last = len(wanted_upgrades) * most_chosen, most_runs(base, room, wanted_upgrades)
    points = [(choice.settings, one) for choice, one in made]
    summaries = runs.summaries(base, points, "choices", after=later + last)
    scored = _scored(made, summaries, runs, timed=is_timed(experiment))
    best = _fastest(experiment, scored, own)
    told = _with_times(base, best, runs, experiment)
    scored = tuple(told if one is best else one for one in scored)
    best, ones = told, chosen(scored, own)[:most_chosen]
    moved, not_moved = rebalanced(base, best, runs)
    gained = gains(base, ones, wanted_upgrades, runs, before=len(made), after=last)
    ranged, done = varied(dict(made)[best.choice], best, runs), len(made) + len(gained)
    return Advice(
        name=experiment.name,
        folder=runs.out,
        fit=_fit(asked, of, least, spread),
        requests=asked.replayed,
        recorded=asked.recorded,
        scored=scored,
        left_out={**not_spread, **asked.without, **left_out, **not_moved},
        limits=limits_of(base, best),
        gains=gained,
        native=own,
        varied=ranged,
        notes=(*paced(experiment), *of_inputs([_with_requests(experiment, asked.replayed)])),
        layouts=spread if len(spread) > 1 else (),
        layout=(*asked.layout, *_below(base, experiment)),
        rebalanced=moved,
        ends=at_ends(base, scored, own, wanted_upgrades, ranged, runs, before=done),
    )


def _fastest(experiment: Experiment, scored: tuple[Scored, ...], own: tuple[str, ...]) -> Scored:
    if (best := fastest(scored, own)) is None:
        what = f"no choice could run; {scored[0].summary.get('reason')}"
        raise InputError([Problem(experiment.name, "experts", what)])
    return best


def _scored(
    made: Sequence[tuple[Choice, Experiment]],
    summaries: Sequence[dict[str, Any]],
    runs: Runs,
    *,
    timed: bool,
) -> tuple[Scored, ...]:
    ran = enumerate(zip(made, summaries, strict=True))
    return tuple(Scored(one, told, runs.blocks("choices", n), timed) for n, ((one, _), told) in ran)


def _with_times(base: Experiment, best: Scored, runs: Runs, asked: Experiment) -> Scored:
    """``best`` with the intervals of its requests' times, which no choice was played again for."""
    if base.serving == asked.serving:
        return best
    again = with_settings(base, best.choice.settings).model_copy(update={"serving": asked.serving})
    (summary,) = runs.summaries(base, [(best.choice.settings, again)], "best", told=False)
    return replace(best, summary=summary)


def _native(asked: _Asked, of: Asks | None) -> tuple[str, ...]:
    """What the engine has; where its mapped file is read into the one memory, that."""
    if of is None:
        return ()
    return (PLAIN.miss,) if asked.unified and of.engine in STOCK else of.abilities.ways


def _below(base: Experiment, experiment: Experiment) -> Settings:
    """What is set of the host in ``base`` that ``experiment`` leaves open."""
    same = base.experts.host.capacity == experiment.experts.host.capacity
    return () if same else tuple(BELOW.items())


def _fit(asked: _Asked, of: Asks | None, least: int | None, spread: tuple[LaidOut, ...]) -> Fit:
    base, words = asked.base, spread[0].words if len(spread) > 1 else ""
    context, engine = base.workload.context, of.engine if of else None
    reserves = needed("software", base.software, base.folders).memory.reserved_tokens
    what, memory = (base.model, base.hardware, base.software), asked.room.memory
    machine = needed("hardware", base.hardware, base.folders)
    shared = tuple(one_memory_notes(machine, memory.needed)) if memory and asked.room.fits else ()
    return Fit(*what, context, asked.room, engine, least, words, reserves, shared)


def laid_out(
    experiment: Experiment, of: Asks | None
) -> tuple[tuple[LaidOut, ...], dict[str, str], int | None]:
    """The layouts of GPUs in which everything fits on them, or else the experiment's own; why the
    others are none; and the least bytes of a fullest GPU, None where no layout was tried.
    """
    own = (LaidOut("as it stands", ()),)
    if of is None or not of.layouts[1:]:
        return own, {}, None
    fitting, reasons, needed = [], {}, []
    for layout in of.layouts:
        words, settings = LAYOUTS[layout].format(of.gpus), layout_settings(layout, of.gpus)
        try:
            built = build(with_settings(experiment, {**RESIDENT.settings, **dict(settings)}))
        except InputError as error:
            reasons[words] = error.problems[0].what
            continue
        needed.append(int(built.footprint.total.max()))
        if (reason := built.out_of_memory) is None:
            fitting.append(LaidOut(words, settings))
        else:
            reasons[words] = reason
    return tuple(fitting) or own, reasons, min(needed, default=None)


def run_layouts(base: Experiment, spread: tuple[LaidOut, ...], runs: Runs) -> tuple[LaidOut, ...]:
    """``spread`` by what each reaches, the fastest first; as it is where it is one."""
    if len(spread) == 1:
        return spread
    points = []
    for one in spread:
        placed = with_settings(base, dict(one.settings))
        settings = {**RESIDENT.settings, **dict(one.settings), **dict(launching(placed, ALL))}
        points.append((settings, with_settings(base, settings)))
    summaries = runs.summaries(base, points, "layouts", told=False)
    ran = [
        replace(one, throughput=Scored(RESIDENT, summary, timed=is_timed(base)).throughput)
        for one, summary in zip(spread, summaries, strict=True)
    ]
    return tuple(sorted(ran, key=lambda one: -(one.throughput or 0.0)))


class _Asked(NamedTuple):
    """The experiment that all choices have in common, its room, how many of the ``recorded``
    requests are ``replayed``, and whether prefetches are ``slow`` to play.
    """

    base: Experiment
    room: Room
    replayed: int
    recorded: int
    slow: bool

    @property
    def without(self) -> dict[str, str]:
        """What is not among the choices, and why."""
        slots = {"expert slots": self.room.without_slots} if self.room.without_slots else {}
        if self.stored:
            return {**slots, "fewer slots and prefetches": OFTEN}
        return {**slots, **({"prefetches": SLOW} if self.slow else {})}

    @property
    def stored(self) -> bool:
        """Whether some experts are on a drive alone."""
        return self.room.drive > 0

    @property
    def unified(self) -> bool:
        """Whether CPU and GPU share one memory."""
        return load_hardware(self.base.hardware, self.base.folders).unified

    @property
    def layout(self) -> Settings:
        """What the experiment sets of ``parallelism`` by itself; nothing on one GPU."""
        asked = self.base.parallelism
        if asked.expert == asked.pipeline == 1:
            return ()
        keys = ("expert", "pipeline", "dense", "experts", *(["slice"] if asked.slice else []))
        return tuple((f"parallelism.{key}", str(getattr(asked, key))) for key in keys)


def _asked(experiment: Experiment, most: str, requests: int | None) -> _Asked:
    recorded = _recorded(experiment)
    replayed = min(requests or first_requests(experiment), recorded)
    base = with_drive(common(experiment, replayed))
    room = room_of(base, most)
    events = () if room.fits else prefetches_by_events(base)
    slow = "load" in events  # each of several GPUs, so that none is played
    if requests is None and events and not slow:
        replayed = min(first_requests(experiment, MOST_WITH_EVENTS), recorded)
        base = with_drive(common(experiment, replayed))
        room = room_of(base, most)
    return _Asked(base, room, replayed, recorded, slow)


def _recorded(experiment: Experiment) -> int:
    """The requests of the trace; of requests that are served so many as the experiment asks for,
    each of which is one of the trace's.
    """
    workload = experiment.workload
    if workload.batching.serves and workload.requests is not None:
        return workload.requests
    return Requests.of(trace_of(experiment), workload.phase).count


def _with_requests(experiment: Experiment, requests: int) -> Experiment:
    """``experiment``, whose other keys are set or not as before, with as many ``requests``."""
    workload = experiment.workload.model_copy(update={"requests": requests})
    return experiment.model_copy(update={"workload": workload})


def _choices(asked: _Asked, most: str, of: Asks | None) -> list[Choice]:
    base, room = asked.base, asked.room
    has = of.abilities if of else ENGINES.get(engine_named(base.software) or "", ANY)
    beside = launching(base, ALL if room.fits else most)
    if room.fits:
        return [RESIDENT, replace(RESIDENT, beside=beside)] if beside else [RESIDENT]
    on_cpu = [one for one in room.on_cpu if has.some_layers or one == room.layers]
    on_host = room.on_host if ON_HOST in has.ways else None
    few, ahead = asked.stored, not (asked.slow or asked.stored)
    only = (PLAIN.miss,) if asked.unified else tuple(EVICTING)
    found = choices_of(
        room.slots, most, beside, on_cpu, few=few, ahead=ahead, on_host=on_host, only=only
    )
    if asked.unified and of is not None and of.engine in STOCK:  # the system's page cache
        found = [one for one in found if one.policy == PLAIN.policy]
    if not found:
        engine = (of and of.engine) or base.software
        what = f"neither all experts fit, nor what {engine} does then: {room.without_slots}"
        raise too_small(base, most, what)
    return offered(base.software, found) if of else found


def varied(base: Experiment, best: Scored, runs: Runs) -> tuple[Varied, ...]:
    """The runs of the ``best`` choice, whose experiment is ``base``, with what nobody measured set
    otherwise.
    """
    found = list(variations(base, best.summary, best.choice.settings, runs.out / "hardware"))
    if not found:
        return ()
    points = [(one.settings, one.experiment) for one in found]
    summaries = runs.summaries(base, points, "ranges", told=False)
    return tuple(
        replace(one.varied, throughput=replace(best, summary=summary).throughput)
        for one, summary in zip(found, summaries, strict=True)
    )


def rebalanced(
    base: Experiment, best: Scored, runs: Runs
) -> tuple[Rebalanced | None, dict[str, str]]:
    """The runs of the ``best`` choice, whose experiment is ``base``, with experts that stay and
    that move between GPUs; None where these hold no whole experts of their own, or for a reason.
    """
    if not can_move(base, best.choice):
        return None, {}
    asked, points, reason = moving_points(base, best.choice, int(best.summary["steps"]))
    if reason is not None:
        return None, {"EPLB": reason}
    summaries = runs.summaries(base, points, "rebalancing", told=False)
    stays, *moves = (
        replace(best, summary=told, blocks=runs.blocks("rebalancing", number))
        for number, told in enumerate(summaries)
    )
    tried = tuple(Moves(*how, one) for how, one in zip(asked, moves, strict=True))
    return Rebalanced(stays, tried), {}


def limits_of(base: Experiment, best: Scored) -> dict[Limit, float]:
    """What limits the run of ``best``."""
    hardware = load_hardware(base.hardware, base.folders)
    model = load_model(base.model, base.folders)
    moe = model.moe_layers[0].moe
    assert moe is not None, "a layer with experts"
    rows = mean_rows(best.summary, len(model.moe_layers), moe.top_k)
    shared = -(-base.parallelism.expert // hardware.host.numa_nodes.value)
    near = base.experts.miss.near_memory
    host = "near memory" if near else host_limit(hardware, model, rows, shared)
    served = base.workload.batching.serves
    return limits(best.summary["time_share"], host, served=served)


def upgrades_of(base: Experiment, room: Room, *, resize: bool) -> list[Upgrade]:
    """The upgrades that could help; ``resize``: also those that leave more room for experts."""
    unified = load_hardware(base.hardware, base.folders).unified
    near = base.experts.miss.near_memory
    return [
        upgrade
        for upgrade in UPGRADES.values()
        if upgrade.software != base.software
        and (resize or not upgrade.resized)
        and (not room.fits or upgrade.key in WITHOUT_MISSES)
        and (not upgrade.below or room.drive)
        and (not upgrade.resident or room.fits)
        and (upgrade.key not in OF_THE_HOST or not unified)
        and (upgrade.near <= near)
        and (upgrade.key not in OF_ITS_EXPERTS or not near)
    ]


def gains(
    base: Experiment, ones: Sequence[Scored], wanted: Sequence[Upgrade], runs: Runs, *,
    before: int, after: int = 0,
) -> tuple[Gain, ...]:  # fmt: skip
    """Every upgrade ``wanted`` of every one of ``ones``, by the throughput that it reaches, after
    ``before`` other runs and before others.
    """
    pairs = [(one, upgrade) for one in ones for upgrade in wanted]
    points = [upgraded_point(base, one.choice, upgrade, runs.out) for one, upgrade in pairs]
    summaries = runs.summaries(base, points, "upgrades", before=before, after=after)
    found = [
        Gain(upgrade, Scored(one.choice, summary, timed=one.timed), one.throughput or 0.0)
        for (one, upgrade), summary in zip(pairs, summaries, strict=True)
    ]
    return tuple(sorted(found, key=lambda gain: -(gain.scored.throughput or 0.0)))
