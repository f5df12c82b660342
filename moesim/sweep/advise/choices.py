"""The choices that are compared: what a miss does, prefetch, the policy, the room for experts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from moesim.config.errors import InputError
from moesim.experiment.resolve import load_experiment
from moesim.experiment.schema import Experiment

POLICIES = ("lru", "lfu_decay", "s3fifo")
BOUND = "min"
"""The policy that knows the future: where every miss is loaded, no other misses less."""
EVICTING = {
    "load": (*POLICIES, BOUND),
    "cpu": ("lru",),
    "cheapest": POLICIES,
    "zero_copy": ("lru",),
}
"""Policies by what a miss does, the simplest first: of equals the first is best. Where nothing is
loaded nothing is evicted, and one policy is enough."""
ORACLE = "oracle"
PREFETCHES = {"load": ("next_layer", ORACLE), "cheapest": ("next_layer",)}
"""Predictions by what a miss does, with LRU and all the room there is. The oracle is a bound where
every miss is loaded: it predicts what the next layer needs, all of it and nothing else. Where the
CPU may compute a miss it is none, as it loads what the CPU would do sooner."""
NO_PREFETCH = "none"
SHARES = (1, 2, 4)
"""What the room for experts is divided by."""
ALL = "all"


@dataclass(frozen=True)
class Choice:
    """What a miss does, which expert makes room, the room, and what is copied ahead (as in an
    experiment).
    """

    miss: str
    policy: str
    capacity: str
    prefetch: str = NO_PREFETCH

    @property
    def bound(self) -> bool:
        """Whether it is a bound that no program can reach."""
        return self.policy == BOUND or self.prefetch == ORACLE

    @property
    def way(self) -> tuple[str, str, str]:
        """All of it but the room."""
        return self.miss, self.prefetch, self.policy

    @property
    def settings(self) -> dict[str, str]:
        """What it sets, by dotted path."""
        return {
            "experts.miss.kind": self.miss,
            "experts.policy.kind": self.policy,
            "experts.capacity": self.capacity,
            "experts.prefetch.kind": self.prefetch,
        }

    @property
    def words(self) -> str:
        """For a sentence or a label; the room is named where it is not all there is."""
        if self.capacity == ALL:
            return "all experts resident"
        policy = f" with {self.policy}" if len(EVICTING[self.miss]) > 1 else ""
        room = "" if self.capacity == "auto" else f" at {self.capacity}"
        ahead = f", prefetch {self.prefetch}" if self.prefetch != NO_PREFETCH else ""
        return f"{self.miss}{policy}{ahead}{room}"


PLAIN = Choice("load", "lru", "auto")
"""What the others are compared with."""
RESIDENT = Choice("load", "lru", ALL)


def choices_of(slots: int, most: str = "auto") -> list[Choice]:
    """All choices where ``most`` is the largest room for experts, ``slots`` a layer.

    The fewer slots are a half and a quarter of ``slots``.
    """
    fewer = dict.fromkeys(slots // share for share in SHARES[1:])
    rooms = [most, *(f"{count} slots/layer" for count in fewer if count >= 1)]
    plain = [
        Choice(miss, policy, room)
        for miss, policies in EVICTING.items()
        for policy in policies
        for room in rooms
    ]
    ahead = [
        Choice(miss, PLAIN.policy, most, prefetch)
        for miss, prefetches in PREFETCHES.items()
        for prefetch in prefetches
    ]
    return [*plain, *ahead]


COMMON = {"experts.initial": "most_used", "experts.kernels": "grouped"}
"""What all choices have: slots that start with the trace's most used experts, one kernel a wave."""


def common(experiment: Experiment, requests: int) -> Experiment:
    """``experiment`` without its sweep and with what all choices have, its first ``requests`` and
    a summary as its only record.
    """
    alone = experiment.model_copy(update={"records": "summary", "sweep": None, "figures": []})
    return with_settings(alone, {**COMMON, "workload.requests": requests})


def with_settings(experiment: Experiment, settings: dict[str, Any]) -> Experiment:
    """``experiment`` with other values; an InputError where they do not go together."""
    return load_experiment(experiment, [f"{k}={v}" for k, v in settings.items()]).experiment


def allowed(
    experiment: Experiment, choices: Sequence[Choice]
) -> tuple[list[tuple[Choice, Experiment]], dict[str, str]]:
    """Each choice that ``experiment`` can make, with its experiment; why others cannot be made, by
    what a miss does, or "prefetch". InputError where none can.
    """
    made: list[tuple[Choice, Experiment]] = []
    reasons: dict[str, str] = {}
    failure: InputError | None = None
    for choice in choices:
        about = choice.miss if choice.prefetch == NO_PREFETCH else "prefetch"
        if about in reasons or choice.miss in reasons:
            continue
        try:
            made.append((choice, with_settings(experiment, choice.settings)))
        except InputError as error:
            failure = error
            reasons[about] = error.problems[0].what
    if failure is not None and not made:
        raise failure
    return made, reasons
