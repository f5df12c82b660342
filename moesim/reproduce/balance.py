"""The answers about load balance: planned on the first half of the batches, judged on the rest."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from moesim.reproduce.settings import Setting, Task
from moesim.reproduce.simulate import Timed
from moesim.reproduce.study import Answer, Study

PLANNERS = ("contiguous", "greedy", "anti_correlation")
METRICS = ("max_load", "average_max_load")
SIZES = {"same": 1.0, "half": 0.5, "double": 2.0}
BATCHES = {"lm": 8, "mt_encoder": 8, "mt_decoder": 4}


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
    batch, batches = batch_of(study, task), BATCHES[task.name]
    return {
        planner: study.time(
            Setting(
                task.name, "dynamic", batch, 1, domain, planner=planner, batches=batches
            ),
            warm=batches // 2,
        )
        for planner in PLANNERS
    }  # fmt: skip


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
