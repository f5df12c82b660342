"""The answers about memory, and what capacity alone decides."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction

from moesim.config.amounts.sizes import GIB
from moesim.memory.footprint.footprint import Residence, replicated_bytes
from moesim.memory.footprint.live import LIVE
from moesim.model import load_model
from moesim.model.spec import ModelSpec
from moesim.reproduce.settings import GPUS, MOST_SLOTS, SLOTS, Setting, Task
from moesim.reproduce.study import Answer, Study

SAVED_AT = (1, SLOTS, MOST_SLOTS)


def memory(study: Study, task: Task) -> Iterator[Answer]:
    """The rows of the model that ``task`` is the first of, and of buffering in the decoder."""
    if task.name == "mt_decoder":
        yield from saving(task)
        return
    yield static_memory(study, task)
    if task.name == "lm":
        yield from activations(study, task)
    yield from largest(study, task)
    yield waste_factor(task)


def weights_bytes(model: ModelSpec, slots: int | None = None) -> int:
    """What a GPU of one node always holds; ``slots`` a layer in the decoder, else all experts."""
    experts = max(layer.moe.experts for layer in model.moe_layers if layer.moe)
    local = experts // GPUS
    few = local if slots is None else min(slots, local)
    own = tuple(few if layer.stack == "decoder" else local for layer in model.moe_layers)
    residence = Residence(local, own)
    held = residence.resident_bytes(model) + residence.pool_bytes(model)
    return replicated_bytes(model) + held


def static_memory(study: Study, task: Task) -> Answer:
    """Weights of a GPU: what no batch changes."""
    size = weights_bytes(load_model(task.model)) / GIB
    held = sum(study.memory(Setting(task.name, "static", task.batch)).values()) / GIB
    note = f"weights alone; all of a pass of {task.batch} sentences under static gating {held:.2f}"
    return Answer(f"{task.mix}.static_memory_gib", size, "one GPU of 8", note)


def activations(study: Study, task: Task) -> Iterator[Answer]:
    """What lives in a pass beside the weights."""
    for gating in ("static", "dynamic"):
        parts = study.memory(Setting(task.name, gating, task.batch))
        size = sum(parts[part] for part in LIVE) / GIB
        told = ", ".join(f"{part.replace('_', ' ')} {parts[part] / GIB:.2f}" for part in LIVE)
        setting = f"8 GPUs, {task.batch} sentences a GPU"
        yield Answer(f"{task.name}.activation_gib.{gating}", size, setting, told)


def largest(study: Study, task: Task) -> Iterator[Answer]:
    """The most sentences a GPU that fit, of those that the study tried, on one node."""
    for gating in ("static", "dynamic"):
        key = f"{task.mix}.largest_batch.{gating}"
        batch = max(study.largest(task, gating, 1, one).batch for one in study.domains(key))
        tried = ", ".join(map(str, task.batches))
        words = f"8 GPUs, sentences a GPU, of {tried}"
        yield Answer(key, batch, words)


def saving(task: Task) -> Iterator[Answer]:
    """Weights that buffering spares, as a share of all."""
    model = load_model(task.model)
    whole = weights_bytes(model)
    for slots in SAVED_AT:
        saved = whole - weights_bytes(model, slots)
        words = f"one GPU of 8, {slots} of {MOST_SLOTS} experts a decoder layer"
        note = f"{saved / GIB:.3f} of {whole / GIB:.2f} GiB"
        key = f"{task.name}.buffering_saving_percent.{slots}_slots"
        yield Answer(key, 100 * saved / whole, words, note)


def waste_factor(task: Task) -> Answer:
    """E x C / k."""
    moe = load_model(task.model).moe_layers[0].moe
    assert moe is not None
    share = Fraction(task.capacity.removesuffix(" %")) / 100
    factor = moe.experts * share / moe.top_k
    words = f"{moe.experts} experts, capacity {task.capacity}, {moe.top_k} choices"
    return Answer(f"{task.mix}.waste_factor", float(factor), words)
