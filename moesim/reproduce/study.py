"""The simulations behind the answers, each run once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from moesim.model import load_model
from moesim.reproduce.cases import Pools
from moesim.reproduce.dense import timed_dense
from moesim.reproduce.parameters import Assumptions
from moesim.reproduce.room import largest_batch, memory_of
from moesim.reproduce.settings import Setting, Task
from moesim.reproduce.simulate import Timed, timed
from moesim.reproduce.traces import domain_names

LEVELS = ("mild", "middle", "strong")
"""The domains of a trace by how unevenly they use their experts."""
INDEPENDENT = ("static", "tutel", "tutel_batched")
"""Gatings whose time and memory the routing does not change."""


class Answer(NamedTuple):
    """One row's number: ``setting`` and ``note`` in words."""

    id: str
    value: float
    setting: str
    note: str = ""


class Best(NamedTuple):
    """The largest of a ratio over domains, and the domain."""

    value: float
    domain: int


@dataclass
class Study:
    """The study under some assumptions.

    ``nodes``: the node counts that are simulated; ``known``: largest batches that no assumption in
    question moves; ``chosen``: by question, the domain with the largest ratio, where that is known;
    ``detailed``: whether variants are worked out for the notes.
    """

    values: Assumptions
    pools: Pools
    nodes: tuple[int, ...]
    known: Mapping[Setting, int] = field(default_factory=dict)
    chosen: Mapping[str, int] = field(default_factory=dict)
    detailed: bool = False
    chosen_found: dict[str, int] = field(default_factory=dict)
    largest_found: dict[Setting, int] = field(default_factory=dict)
    times: dict[tuple[Setting, int], Timed] = field(default_factory=dict)

    def domains(self, key: str) -> tuple[int, ...]:
        """The domains in question for ``key``."""
        if key in self.chosen:
            return (self.chosen[key],)
        word = str(self.values["domain"])
        return (LEVELS.index(word),) if word in LEVELS else tuple(range(len(LEVELS)))

    def name(self, task: Task, domain: int) -> str:
        """The domain's name."""
        return domain_names(task)[domain]

    def time(self, setting: Setting, warm: int = 0) -> Timed:
        """``timed``, remembered."""
        key = (setting, warm)
        if key not in self.times:
            if setting.gating == "dense":
                self.times[key] = timed_dense(setting, self.values, self.pools)
            else:
                self.times[key] = timed(setting, self.values, self.pools, warm)
        return self.times[key]

    def largest(
        self, task: Task, gating: str, nodes: int, domain: int, slots: int | None = None
    ) -> Setting:
        """The point of the largest batch that fits; of ``domain`` where the routing decides it."""
        routed = 0 if gating in INDEPENDENT else domain
        key = Setting(task.name, gating, 0, nodes, routed, slots)
        if key not in self.largest_found:
            known = self.known.get(key)
            found = largest_batch(key, self.values, self.pools) if known is None else known
            self.largest_found[key] = found
        return replace(key, batch=self.largest_found[key])

    def throughput(self, setting: Setting) -> float:
        """Sentences a second; those that buffer experts begin with warm caches."""
        if not setting.batch:
            return 0.0
        if setting.slots is None:
            return self.time(setting).throughput
        return self.time(replace(setting, batches=2), warm=1).throughput

    def best(self, key: str, ratio: Callable[[int], float]) -> Best:
        """The largest of ``ratio`` over the domains, for ``key``."""
        best = max(Best(ratio(domain), domain) for domain in self.domains(key))
        self.chosen_found[key] = best.domain
        return best

    def memory(self, setting: Setting) -> dict[str, int]:
        """Bytes by category of the fullest pass and GPU."""
        return memory_of(setting, self.values, self.pools).at_peak()

    def local_experts(self, task: Task, nodes: int) -> int:
        """Experts of a layer on a GPU."""
        moe = load_model(task.model).moe_layers[0].moe
        assert moe is not None
        return -(-moe.experts // (Setting(task.name, "dynamic", 1, nodes).gpus))
