"""What an advice consists of."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from moesim.sweep.advise.choices import COMMON, ON_CPU, PLAIN, Choice, Settings
from moesim.sweep.advise.limits import Limit
from moesim.sweep.advise.ranges import Varied
from moesim.sweep.advise.rebalanced import Rebalanced
from moesim.sweep.advise.room import Room
from moesim.sweep.advise.scored import Scored
from moesim.sweep.advise.upgrades import Upgrade
from moesim.sweep.speeds import OF_A_REQUEST, TOGETHER

Limits = tuple[float, float]
MOST_CHOSEN = 2
"""Choices that are run with upgrades, at most."""


@dataclass(frozen=True)
class Gain:
    """What an upgrade brings to a choice: its run with it, and ``ratio`` of the throughputs."""

    upgrade: Upgrade
    scored: Scored
    before: float

    @property
    def ratio(self) -> float | None:
        """After over before; None where it did not run."""
        after = self.scored.throughput
        return after / self.before if after else None


@dataclass(frozen=True)
class End:
    """Where experts on the CPU reach the ``share`` of the DRAM peak, an end of its range: tokens a
    second of choices that could be the best (``speeds``), and ``gains`` of the best one's upgrades.
    """

    share: float
    speeds: Mapping[Choice, float | None]
    gains: tuple[Gain, ...] = ()


@dataclass(frozen=True)
class Fit:
    """The question, and whether everything fits: known before any run. ``context`` in tokens, None
    where it is the trace's; ``engine``: whose command line the answer is, None where that is the
    software's own; ``least``: bytes of the fullest GPU in the layout that needs the fewest there,
    None where one was tried; ``laid_out``: in which way, of several;
    ``reserved_tokens``: of the pass for which its software reserves memory; ``shared``: what it may
    not have of one memory.
    """

    model: str
    hardware: str
    software: str
    context: int | None
    room: Room
    engine: str | None = None
    least: int | None = None
    laid_out: str = ""
    reserved_tokens: int = 0
    shared: tuple[str, ...] = ()

    @property
    def program(self) -> str:
        """What runs it."""
        return self.engine or self.software


@dataclass(frozen=True)
class LaidOut:
    """A way to spread the work over GPUs, in ``words``, what it sets, and its tokens a second."""

    words: str
    settings: Settings
    throughput: float | None = None


@dataclass(frozen=True)
class Advice:
    """The choices' runs, what limits the best, what upgrades bring, and how far the best may move.

    The first ``requests`` of the ``recorded`` ones were replayed; ``left_out``: by what a miss
    does, why it cannot be; ``gains``: of the best choice and of another (``chosen``), the fastest
    first; ``varied``: the best choice with what nobody measured set otherwise; ``native``: what of
    it the software has, where only that is to be the best; ``notes`` on the trace. Of a question
    without a file, what was ``assumed``, and the ``file`` that has the best choice; ``layouts``:
    the ways to spread the work over GPUs that were run, and the ``layout`` of all choices, over
    GPUs and below the host; ``ends``: of the host's range, where it has one that counts.
    """

    name: str
    folder: Path
    fit: Fit
    requests: int
    recorded: int
    scored: tuple[Scored, ...]
    left_out: Mapping[str, str]
    limits: Mapping[Limit, float]
    gains: tuple[Gain, ...]
    varied: tuple[Varied, ...] = ()
    native: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    assumed: tuple[str, ...] = ()
    file: Path | None = None
    layouts: tuple[LaidOut, ...] = ()
    layout: Settings = ()
    rebalanced: Rebalanced | None = None
    ends: tuple[End, ...] = ()

    @property
    def room(self) -> Room:
        """What fits."""
        return self.fit.room

    @cached_property
    def best(self) -> Scored:
        """The fastest choice that a program can make, of the ``native`` ones if any ran."""
        best = fastest(self.scored, self.native)
        assert best is not None, "an advice has a choice that ran"
        return best

    @property
    def unit(self) -> str:
        """Of all speeds."""
        return OF_A_REQUEST if self.best.timed else TOGETHER

    @property
    def beyond(self) -> Scored | None:
        """The fastest choice that the software does not have; None where none is faster."""
        found = fastest(self.scored)
        return None if found == self.best else found

    @property
    def chosen(self) -> list[Scored]:
        """The choices that were run with upgrades."""
        return chosen(self.scored, self.native)

    @property
    def most_useful(self) -> Gain | None:
        """The upgrade with which it is the fastest, of the best choice where that is the native
        one.
        """
        own = (g for g in self.gains if not self.native or g.scored.choice == self.best.choice)
        return next(own, None)

    @property
    def again(self) -> dict[str, Any]:
        """What 'moesim run' sets, by dotted path, to repeat the best choice."""
        common = {**COMMON, "workload.requests": self.requests}
        return {**dict(self.layout), **self.best.choice.settings, **common}

    @property
    def plain(self) -> Scored | None:
        """LRU with all the room there is."""
        return next((one for one in self.scored if one.choice.way == PLAIN.way), None)

    @property
    def next_best(self) -> Scored | None:
        """The fastest of the other ways, whatever their room, none that knows the future."""
        others = (o for o in self.scored if o.choice.way != self.best.choice.way)
        return fastest(tuple(others))

    @property
    def as_it_stands(self) -> Scored | None:
        """The best choice without what is set beside it; None where nothing is."""
        choice = replace(self.best.choice, beside=())
        if choice == self.best.choice:
            return None
        return next((one for one in self.scored if one.choice == choice), None)

    @property
    def pending(self) -> Scored | None:
        """The fastest that a change in no release of the software would bring."""
        ran = [one for one in self.scored if one.choice.pending and one.throughput]
        return max(ran, key=lambda one: one.throughput or 0.0, default=None)

    @property
    def offline(self) -> Scored | None:
        """The fastest that knows the future."""
        ran = [one for one in self.scored if one.choice.offline and one.throughput]
        return max(ran, key=lambda one: one.throughput or 0.0, default=None)

    def over_best(self, gain: Gain) -> float | None:
        """The throughput with an upgrade over the best one without; None where it did not run."""
        before, after = self.best.throughput, gain.scored.throughput
        return after / before if before and after else None

    def over_ends(self, one: Scored) -> Limits | None:
        """The least and the most that ``one`` is over the best choice, over the host's range."""
        best = self.best.choice
        pairs = [(end.speeds.get(one.choice), end.speeds.get(best)) for end in self.ends]
        pairs.append((one.throughput, self.best.throughput))
        known = [after / before for after, before in pairs if after and before]
        return (min(known), max(known)) if self.ends and len(known) == len(pairs) else None

    def gain_ends(self, gain: Gain) -> Limits | None:
        """The least and the most that ``gain`` is, over the host's range; None where it has none,
        or another choice than the best.
        """
        if gain.scored.choice != self.best.choice:
            return None
        others = (o for end in self.ends for o in end.gains if o.upgrade == gain.upgrade)
        known = [one.ratio for one in (gain, *others) if one.ratio]
        return (min(known), max(known)) if len(known) == len(self.ends) + 1 > 1 else None

    def to_dict(self) -> dict[str, Any]:
        """Plain data: units in the keys."""
        return {
            "name": self.name,
            "model": self.fit.model,
            "hardware": self.fit.hardware,
            "software": self.fit.software,
            "engine": self.fit.engine,
            "context_tokens": self.fit.context,
            "memory_bytes": asdict(self.room.memory) if self.room.memory else None,
            "fits": self.room.fits,
            "drive_bytes": self.room.drive,
            "moe_layers": self.room.layers,
            "fewest_layers_on_cpu": self.room.fewest_on_cpu,
            "fewest_whole_layers_on_cpu": self.room.on_host,
            "layouts": [
                {"words": o.words, "set": dict(o.settings), "throughput_tokens_per_s": o.throughput}
                for o in self.layouts
            ],
            "largest_slots_per_layer": self.room.slots,
            "local_experts": self.room.local,
            "requests": self.requests,
            "recorded_requests": self.recorded,
            "unit": self.unit,
            "best": _plain(self.best),
            "beyond": _plain(self.beyond) if self.beyond else None,
            "over_plain_lru": _over(self.best, self.plain),
            "best_over": {
                "plain_lru": _apart(self.best, self.plain),
                "next_best": _apart(self.best, self.next_best),
            },
            "limits": dict(self.limits),
            "notes": list(self.notes),
            "assumed": list(self.assumed),
            "experiment": None if self.file is None else str(self.file),
            "ranges": [asdict(one) for one in self.varied],
            "choices": [_plain(one) for one in self.scored],
            "left_out": dict(self.left_out),
            "upgrades": [
                {
                    "upgrade": gain.upgrade.title,
                    "ratio": gain.ratio,
                    "over_best": self.over_best(gain),
                    "ratio_ends": self.gain_ends(gain),
                    **_plain(gain.scored),
                }
                for gain in self.gains
            ],
            "rebalancing": self.rebalanced.to_dict() if self.rebalanced else None,
            "host_ends": [_end(one) for one in self.ends],
            "price_error": self.best.summary.get("price_error"),
            "price_share": self.best.summary.get("price_share"),
        }


def fastest(scored: tuple[Scored, ...], native: Collection[str] = ()) -> Scored | None:
    """The one with the highest throughput that neither knows the future nor is in no release, of
    the ``native`` ones if any of them ran; None where none ran.
    """
    real = [one for one in scored if not (one.choice.offline or one.choice.pending)]
    ran = [one for one in real if one.throughput]
    own = [one for one in ran if one.choice.miss in native]
    return max(own or ran, key=lambda one: one.throughput or 0.0, default=None)


def chosen(scored: tuple[Scored, ...], native: Collection[str] = ()) -> list[Scored]:
    """The best, and, where these are two, the fastest of all, else that with layers on the CPU,
    else that which loads what is missing.
    """
    best = fastest(scored, native)
    layers = fastest(tuple(one for one in scored if one.choice.miss == ON_CPU))
    loading = fastest(tuple(one for one in scored if one.choice.miss == "load"))
    others = [one for one in (fastest(scored), layers, loading) if one not in (None, best)]
    return [one for one in (best, *others[:1]) if one is not None]


def _end(end: End) -> dict[str, Any]:
    return {
        "host_share": end.share,
        "choices": [
            {"choice": one.words, "throughput_tokens_per_s": speed}
            for one, speed in end.speeds.items()
        ],
        "upgrades": [{"upgrade": one.upgrade.title, "ratio": one.ratio} for one in end.gains],
    }


def _apart(one: Scored, other: Scored | None) -> dict[str, Any] | None:
    """In percent."""
    found = one.over(other)
    if other is None or found is None:
        return None
    return {"of": other.choice.words, **asdict(found)}


def _over(one: Scored, other: Scored | None) -> float | None:
    if other is None or not one.throughput or not other.throughput:
        return None
    return one.throughput / other.throughput


def _plain(one: Scored) -> dict[str, Any]:
    numbers = ("hit_ratio_per_expert", "stall_hidden_share", "mean_tpot_ms", "time_share")
    return {
        "miss": one.choice.miss,
        "prefetch": one.choice.prefetch,
        "policy": one.choice.policy,
        "capacity": one.choice.capacity,
        "layers_on_cpu": one.choice.layers,
        "set": dict(one.choice.beside),
        "execution": one.summary.get("execution"),
        "offline": one.choice.offline,
        "slots_per_layer": one.slots,
        "status": one.summary["status"],
        "reason": one.summary.get("reason"),
        "throughput_tokens_per_s": one.throughput,
        **{name: one.summary.get(name) for name in numbers},
    }
