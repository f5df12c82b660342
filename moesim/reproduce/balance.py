"""The answers about load balance: planned on the first half of the batches, judged on the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from math import ceil

from moesim.reproduce.parameters import Assumptions, number
from moesim.reproduce.settings import Setting, Task
from moesim.reproduce.simulate import Timed
from moesim.reproduce.study import Answer, Study

PLANNERS = ("contiguous", "greedy", "anti_correlation")
METRICS = ("max_load", "average_max_load")
SIZES = {"same": 1.0, "half": 0.5, "double": 2.0}
STEPPED = 0.5
"""A decoder's share of the recorded batches, each of which is many steps."""
POOLED, LARGER = 8, 4
"""Recorded batches that a pool holds; larger pools have this many times its sentences."""


def balancing(study: Study, task: Task) -> Iterator[Answer]:
    """The largest shares of a GPU by planner (LM), and what balance brings."""
    key = f"{task.name}.balancing_gain_percent"
    if task.name == "lm":
        yield from loads(study, task)
    best = study.best(key, lambda domain: _gain(planned(study, task, domain)))
    gains = {domain: _gain(planned(study, task, domain)) for domain in study.domains(key)}
    where = f"{batch_of(study, task)} sentences a GPU, {study.name(task, best.domain)}"
    words = f"8 GPUs, dynamic, {where}, the better planner"
    told = ", ".join(f"{study.name(task, d)} {gain:.1f}" for d, gain in gains.items())
    note = f"by domain: {told}"
    yield Answer(key, best.value, words, note)


def batch_of(study: Study, task: Task) -> int:
    """Sentences a GPU."""
    return round(task.batch * SIZES[str(study.values["balancing_batch"])])


def planned(study: Study, task: Task, domain: int) -> dict[str, Timed]:
    """The second half of the batches under each planner."""
    batches = round(number(study.values, "recorded_batches"))
    batches = round(batches * STEPPED) if task.phase == "decode" else batches
    point = Setting(
        task.name, "dynamic", batch_of(study, task), 1, domain,
        batches=batches, pool=pool_of(study.values),
    )  # fmt: skip
    return {
        planner: study.time(replace(point, planner=planner), warm=batches // 2)
        for planner in PLANNERS
    }


def pool_of(values: Assumptions) -> int:
    """The pool that no sentence is drawn from twice: 1, or so many times larger."""
    recorded = number(values, "recorded_batches") / POOLED
    times = recorded * SIZES[str(values["balancing_batch"])]
    return 1 if times <= 1 else LARGER * ceil(times / LARGER)


def judged_domains(task: Task, chosen: Mapping[str, int]) -> set[int]:
    """Of the domains by question, those that the answers here are about."""
    keys = (f"{task.name}.{name}" for name in ("balancing_gain_percent", *METRICS))
    return {chosen[key] for key in keys if key in chosen}


def _gain(runs: Mapping[str, Timed]) -> float:
    """Percent more throughput of the better planner."""
    fastest = min(runs[planner].batch_ns for planner in PLANNERS[1:])
    return 100 * (runs["contiguous"].batch_ns / fastest - 1)


def loads(study: Study, task: Task) -> Iterator[Answer]:
    """Both metrics in the domain whose contiguous placement is most uneven."""
    for metric in METRICS:
        key = f"{task.name}.{metric}"

        def share(domain: int, planner: str = "contiguous", metric: str = metric) -> float:
            found = planned(study, task, domain)[planner].balance
            assert found is not None, "dynamic gating balances"
            return float(found[metric])

        worst = study.best(key, share).domain
        words = f"8 GPUs, {batch_of(study, task)} sentences a GPU, {study.name(task, worst)}"
        for planner in PLANNERS:
            shares = {domain: share(domain, planner) for domain in study.domains(key)}
            told = ", ".join(f"{study.name(task, d)} {of:.2f}" for d, of in shares.items())
            yield Answer(f"{key}.{planner}", shares[worst], words, f"by domain: {told}")
