"""The answers about speed: a function for each family of ids."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

from moesim.reproduce.settings import SLOTS, TASKS, Setting, Task
from moesim.reproduce.study import Answer, Best, Study

VARIANTS = {"tutel_no_drop": "no-drop capacity", "tutel_batched": "batched experts"}


def nodes_key(nodes: int) -> str:
    """How ids name a node count."""
    return "1_node" if nodes == 1 else f"{nodes}_nodes"


def speed(study: Study, task: Task) -> Iterator[Answer]:
    """Everything about the speed of ``task``."""
    yield static_over_dense(study, task)
    yield from over(study, task, "static", study.nodes)
    yield from over(study, task, "tutel", (1,))
    yield same_batch_gain(study, task)


def static_over_dense(study: Study, task: Task) -> Answer:
    """Latencies of a batch on one node; neither depends on the routing."""
    static, dense = (
        study.time(Setting(task.name, gating, task.batch)).batch_ns
        for gating in ("static", "dense")
    )
    setting = f"8 GPUs, {task.batch} sentences a GPU"
    note = f"static {static / 1e6:.1f} ms, dense {dense / 1e6:.1f} ms a batch"
    return Answer(f"{task.name}.static_over_dense_latency", static / dense, setting, note)


def over(study: Study, task: Task, other: str, shown: tuple[int, ...]) -> Iterator[Answer]:
    """Throughput of dynamic gating over ``other``, each at its largest batch, by node count."""
    found: dict[int, Best] = {}
    for nodes in study.nodes:
        key = f"{task.name}.dynamic_over_{other}.{nodes_key(nodes)}"
        found[nodes] = study.best(key, partial(_ratio, study, task, other, nodes))
        if nodes in shown:
            words, note = _described(study, task, other, (nodes, found[nodes].domain))
            yield Answer(key, found[nodes].value, words, note)
    nodes = max(found, key=lambda one: found[one].value)
    words, _ = _described(study, task, other, (nodes, found[nodes].domain))
    note = "nodes tried: " + ", ".join(map(str, study.nodes))
    yield Answer(f"{task.name}.dynamic_over_{other}.best", found[nodes].value, words, note)


def _ratio(study: Study, task: Task, other: str, nodes: int, domain: int) -> float:
    ours, theirs = (study.largest(task, gating, nodes, domain) for gating in ("dynamic", other))
    return study.throughput(ours) / max(study.throughput(theirs), 1e-9)


def _described(study: Study, task: Task, other: str, where: tuple[int, int]) -> tuple[str, str]:
    """The setting, and a note with both throughputs and the variants' ratios."""
    ours, theirs = (study.largest(task, gating, *where) for gating in ("dynamic", other))
    words = (
        f"{ours.gpus} GPUs, dynamic {ours.batch} and {other} {theirs.batch} sentences a GPU, "
        f"{study.name(task, where[1])}"
    )
    rates = (study.throughput(ours), study.throughput(theirs))
    note = f"{rates[0]:.0f} and {rates[1]:.0f} sentences/s"
    if other == "tutel" and study.detailed:
        told = (
            f"{_ratio(study, task, name, *where):.2f} {what}" for name, what in VARIANTS.items()
        )
        note += f"; over variants of Tutel: {', '.join(told)}"
    return words, note


def same_batch_gain(study: Study, task: Task) -> Answer:
    """Time of static over that of dynamic gating, at one batch, on one node."""
    static = study.time(Setting(task.name, "static", task.batch)).batch_ns

    def gain(domain: int) -> float:
        return static / study.time(Setting(task.name, "dynamic", task.batch, 1, domain)).batch_ns

    key = f"{task.name}.same_batch_gain"
    best = study.best(key, gain)
    words = f"8 GPUs, {task.batch} sentences a GPU, {study.name(task, best.domain)}"
    others = ", ".join(f"{study.name(task, d)} {gain(d):.2f}" for d in study.domains(key))
    note = f"by domain: {others}"
    if study.detailed:
        note += f"; smaller batches: {_by_batch(study, task, best.domain)}"
    return Answer(key, best.value, words, note)


def _by_batch(study: Study, task: Task, domain: int) -> str:
    """The gain at the batches below that of the latencies."""
    told = []
    for batch in task.batches[: task.batches.index(task.batch)]:
        static, dynamic = (
            study.time(Setting(task.name, gating, batch, 1, domain)).batch_ns
            for gating in ("static", "dynamic")
        )
        told.append(f"{batch}: {static / dynamic:.2f}")
    return ", ".join(told)


def buffering(study: Study, task: Task) -> Iterator[Answer]:
    """Buffered experts of the decoder, by node count."""
    if task.name == "mt_decoder":
        yield from (buffering_over_static(study, task, nodes) for nodes in study.nodes)


def buffering_over_static(study: Study, task: Task, nodes: int) -> Answer:
    """Dynamic gating with buffering over static gating without, each at its largest batch."""
    local = study.local_experts(task, nodes)
    readings = {"per_gpu": min(SLOTS, local), "total": max(1, min(SLOTS // nodes, local))}
    chosen = str(study.values["slots"])
    key = f"{task.name}.buffering_over_static.{nodes_key(nodes)}"
    best = study.best(key, lambda d: _buffered(study, task, (nodes, d), readings[chosen]))
    ours = study.largest(task, "dynamic", nodes, best.domain, slots=readings[chosen])
    rate = study.time(replace(ours, batches=2), warm=1)
    note = f"{100 * rate.miss_rate:.1f} % of needed experts missing"
    if study.detailed and chosen == "per_gpu":
        total = _buffered(study, task, (nodes, best.domain), readings["total"])
        note += f"; with 80 slots a layer in total ({readings['total']} a GPU): {total:.2f}"
    words = (
        f"{ours.gpus} GPUs, {readings[chosen]} of {local} slots, {ours.batch} sentences a GPU, "
        f"{study.name(task, best.domain)}"
    )
    return Answer(key, best.value, words, note)


def _buffered(study: Study, task: Task, where: tuple[int, int], slots: int) -> float:
    ours = study.largest(task, "dynamic", *where, slots=slots)
    static = study.throughput(study.largest(task, "static", *where))
    return study.throughput(ours) / max(static, 1e-9)


def answers(study: Study, name: str, families: Sequence[str]) -> list[Answer]:
    """The answers of the task ``name``, those of its model among them, of some ``families``."""
    from moesim.reproduce.balance import balancing
    from moesim.reproduce.memory import memory

    found = {"speed": speed, "buffering": buffering, "memory": memory, "balancing": balancing}
    return [answer for family in families for answer in found[family](study, TASKS[name])]
