"""The choices that are compared: what a miss does, prefetch, the policy, the room for experts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.price_ranges import played_once
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.described.software import Execution

POLICIES = ("lru", "lfu_decay", "s3fifo")
OFFLINE = "min"
"""The policy that knows the future. Its throughput bounds none: a run with fewest misses need not
be the shortest."""
EVICTING = {
    "load": (*POLICIES, OFFLINE),
    "cpu": ("lru",),
    "cheapest": POLICIES,
    "split": ("lru",),
    "background": ("lru",),
    "zero_copy": ("lru",),
}
"""Policies by what a miss does, the simplest first: of equals the first is best. Where nothing is
loaded nothing is evicted, and one policy is enough."""
AT_FEWER = {**EVICTING, "cheapest": ("lru",), "split": (), "background": ()}
"""Policies with less than all the room there is: what copies while the CPU computes, which only the
engine ``des`` plays where both share DRAM, takes longer than all else together."""
CPU, BACKGROUND = "cpu", "background"
ON_CPU = "on_cpu"
"""In place of what a miss does: whole layers' experts on the CPU, all others on the GPU."""
ON_HOST = "on_host"
"""The same of layers as wholes, with their attention and caches."""
WAYS = (ON_CPU, ON_HOST, *EVICTING)
ORACLE = "oracle"
PREFETCHES = {"load": ("next_layer", ORACLE), "cheapest": ("next_layer",)}
"""Predictions by what a miss does, with LRU and all the room there is. The oracle predicts what the
next layer needs, all of it and nothing else; where the CPU may compute a miss it would load what
the CPU does sooner."""
NO_PREFETCH = "none"
SHARES = (1, 2, 4)
"""What the room for experts is divided by."""
ALL = "all"
Settings = tuple[tuple[str, str], ...]
OFFERED: Mapping[tuple[str, str], Settings] = {
    ("llama.cpp", BACKGROUND): (("software", "llama.cpp-cache"),)
}
"""What is set beside a way that a change to software would bring which is offered, in no release:
llama.cpp's pull request 27861."""
LAUNCHING: tuple[Settings, ...] = (
    (("execution", "auto"),),
    (("execution", "auto"), ("decide", "device")),
)
"""Settings with which launches may be captured that are not as the experiment stands: what the
software captures by itself, and with decisions on the device."""


@dataclass(frozen=True)
class Choice:
    """What a miss does, which expert makes room, the room, what is copied ahead (as in an
    experiment), and what is set beside these, as pairs of a dotted path and a value; or the first
    ``layers`` whose experts, or which as wholes, are on the CPU.
    """

    miss: str
    policy: str
    capacity: str
    prefetch: str = NO_PREFETCH
    beside: Settings = ()
    layers: int = 0

    @property
    def offline(self) -> bool:
        """Whether it knows the future, which no program does."""
        return self.policy == OFFLINE or self.prefetch == ORACLE

    @property
    def way(self) -> tuple[str, str, str, Settings]:
        """All of it but the room for experts; of layers on the CPU how many stands for a policy."""
        policy = f"{self.layers} layers" if self.layers else self.policy
        return self.miss, self.prefetch, policy, self.beside

    @property
    def settings(self) -> dict[str, str]:
        """What it sets, by dotted path."""
        whole = self.layers if self.miss == ON_HOST else 0
        return {
            "host_layers": str(whole),
            "experts.on_cpu": on_cpu(self.layers - whole),
            "experts.miss.kind": "cpu" if self.layers else self.miss,
            "experts.policy.kind": self.policy,
            "experts.capacity": self.capacity,
            "experts.prefetch.kind": self.prefetch,
            **dict(self.beside),
        }

    @property
    def pending(self) -> bool:
        """Whether only a change that is in no release of the software brings it."""
        return self.beside in OFFERED.values()

    @property
    def told(self) -> str:
        """What is set beside, for a sentence."""
        if self.pending:
            return "pull request 27861"
        return ", ".join(f"{path}: {value}" for path, value in self.beside)

    @property
    def words(self) -> str:
        """For a sentence or a label; the room is named where it is not all there is."""
        beside = f", {self.told}" if self.beside else ""
        if self.layers:
            kind = "whole layer" if self.miss == ON_HOST else "layer"
            return f"{counted(self.layers, kind)} on the CPU{beside}"
        if self.capacity == ALL:
            return f"all experts resident{beside}"
        policy = f" with {self.policy}" if len(EVICTING.get(self.miss, ())) > 1 else ""
        room = "" if self.capacity == "auto" else f" at {self.capacity}"
        ahead = f", prefetch {self.prefetch}" if self.prefetch != NO_PREFETCH else ""
        return f"{self.miss}{policy}{ahead}{beside}{room}"


def on_cpu(layers: int) -> str:
    """The value of ``experts.on_cpu`` with the first ``layers``."""
    return f"{{layers: {layers}}}"


CAPTURED: tuple[Execution, ...] = ("eager", "piecewise", "splits", "graph")
"""By how much is captured."""
PLAIN = Choice("load", "lru", "auto")
"""What the others are compared with."""
RESIDENT = Choice("load", "lru", ALL)


def launching(experiment: Experiment, capacity: str) -> Settings:
    """The first of ``LAUNCHING`` that captures more of the plain choice with this room; else
    nothing.
    """
    plain = {**PLAIN.settings, "experts.capacity": capacity}
    if not needed("software", experiment.software, experiment.folders).captures:
        return ()
    now = _captured(experiment, plain)
    better = (s for s in LAUNCHING if _captured(experiment, plain | dict(s)) > now)
    return next(better, ())


def _captured(experiment: Experiment, settings: dict[str, str]) -> int:
    """How much is captured; -1 where the settings do not go together."""
    try:
        case = build(with_settings(experiment, settings)).case
    except InputError:
        return -1
    return CAPTURED.index(case.execution)


def choices_of(
    slots: int,
    most: str = "auto",
    beside: Settings = (),
    on_cpu: Sequence[int] = (),
    few: bool = False,
    ahead: bool = True,
    on_host: int | None = None,
    only: Sequence[str] = tuple(EVICTING),
) -> list[Choice]:
    """All choices where ``most`` is the largest room for experts, ``slots`` a layer (0: none), and
    the experts of so many layers may be ``on_cpu``, or so many whole layers ``on_host``.

    The fewer slots are a half and a quarter of ``slots``. What is set ``beside`` is compared with
    LRU and all the room there is. ``few``: only those with all of it; ``ahead``: with prefetches,
    too; ``only`` of these things that a miss does.
    """
    whole = [
        Choice(ON_CPU, PLAIN.policy, ALL, beside=settings, layers=layers)
        for settings in dict.fromkeys(((), beside))
        for layers in on_cpu
    ]
    if on_host:
        whole.append(Choice(ON_HOST, PLAIN.policy, ALL, layers=on_host))
    slotted = _with_slots(slots, most, beside, few=few, ahead=ahead) if slots else []
    return [*whole, *(one for one in slotted if one.miss in only)]


def _with_slots(slots: int, most: str, beside: Settings, *, few: bool, ahead: bool) -> list[Choice]:
    fewer = dict.fromkeys(slots // share for share in (SHARES[:1] if few else SHARES)[1:])
    rooms = [most, *(f"{count} slots/layer" for count in fewer if count >= 1)]
    plain = [
        Choice(miss, policy, room)
        for miss, policies in EVICTING.items()
        for policy in policies
        for room in rooms
        if room == most or policy in AT_FEWER[miss]
    ]
    prefetching = [
        Choice(miss, PLAIN.policy, most, prefetch)
        for miss, prefetches in (PREFETCHES if ahead else {}).items()
        for prefetch in prefetches
    ]
    others = [Choice(miss, PLAIN.policy, most, beside=beside) for miss in EVICTING if beside]
    return [*plain, *prefetching, *others]


def offered(software: str, choices: Sequence[Choice]) -> list[Choice]:
    """``choices`` with what is set beside those that a change to ``software`` would bring."""
    return [
        replace(one, beside=OFFERED[software, one.miss]) if (software, one.miss) in OFFERED else one
        for one in choices
    ]


COMMON = {"experts.initial": "most_used", "experts.kernels": "grouped"}
"""What all choices have: slots that start with the trace's most used experts, and grouped kernels.
"""


def common(experiment: Experiment, requests: int) -> Experiment:
    """``experiment`` without its sweep and with what all choices have, its first ``requests`` and
    a summary as its only record; no run is played again for intervals of times.
    """
    alone = experiment.model_copy(update={"records": "summary", "sweep": None, "figures": []})
    return with_settings(played_once(alone), {**COMMON, "workload.requests": requests})


def with_settings(experiment: Experiment, settings: dict[str, Any]) -> Experiment:
    """``experiment`` with other values; an InputError where they do not go together."""
    return load_experiment(experiment, [f"{k}={v}" for k, v in settings.items()]).experiment


def allowed(
    experiment: Experiment, choices: Sequence[Choice]
) -> tuple[list[tuple[Choice, Experiment]], dict[str, str]]:
    """Each choice that ``experiment`` can make, with its experiment; why others cannot be made, by
    what a miss does (and what is set beside), or "prefetch". InputError where none can.
    """
    made: list[tuple[Choice, Experiment]] = []
    reasons: dict[str, str] = {}
    failure: InputError | None = None
    for choice in choices:
        about = choice.miss if choice.prefetch == NO_PREFETCH else "prefetch"
        about += f", {choice.told}" if choice.beside else ""
        if about in reasons or (choice.miss in reasons and not choice.beside):
            continue
        try:
            made.append((choice, with_settings(experiment, choice.settings)))
        except InputError as error:
            failure = error
            reasons[about] = error.problems[0].what
    if failure is not None and not made:
        raise failure
    return made, reasons
