"""The study's dense models, priced without an engine: nothing in a pass waits for anything."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from moesim.engine.case import Ints
from moesim.model import load_model
from moesim.model.spec import LayerSpec, ModelSpec
from moesim.reproduce.cases import Pools, prices_of, workload
from moesim.reproduce.machines import hardware_of, software_of
from moesim.reproduce.parameters import Assumptions
from moesim.reproduce.settings import TASKS, Phase, Setting
from moesim.reproduce.simulate import Timed
from moesim.workload.schedule import AttentionSums
from moesim.workload.sources import SourceSums


def dense_counterpart(model: ModelSpec) -> ModelSpec:
    """``model`` with one expert's network in place of every mixture."""
    layers = [
        replace(layer, moe=None, dense=layer.moe.expert) if layer.moe else layer
        for layer in model.layers
    ]
    return replace(model, name=f"{model.name} dense", layers=tuple(layers))


def timed_dense(setting: Setting, values: Assumptions, pools: Pools) -> Timed:
    """The counterpart on each GPU alone: a pass takes the longer of kernels and launches."""
    task = TASKS[setting.task]
    model = dense_counterpart(load_model(task.model))
    stack = "encoder" if task.phase == "encode" else "decoder"
    layers = [layer for layer in model.layers if layer.stack == stack]
    prices = prices_of(setting, values, hardware_of(values), model)
    trace, schedule = workload(pools.of(setting, values), setting, values)
    sums = AttentionSums.of(schedule, trace, setting.gpus, None)
    sources = SourceSums.of(schedule, trace, setting.gpus)
    kernels = _kernels(prices, layers, (sums, sources), task.phase).max(axis=1)
    passes = np.maximum(kernels, _launches_ns(layers, task.phase, values))
    charges = {"attention": kernels, "host": passes - kernels}
    return Timed(
        setting,
        float(passes.sum()) / setting.batches,
        {name: float(times.sum()) / setting.batches for name, times in charges.items()},
    )


def _kernels(
    prices: Any, layers: list[LayerSpec], of: tuple[AttentionSums, SourceSums], phase: Phase
) -> Ints:
    """Nanoseconds int64[passes, gpus] of all kernels of a pass."""
    sums, sources = of
    source = (sources.context_tokens, sources.kv_tokens, sources.projected_tokens)
    shape = (sums.tokens.ravel(), sums.context_tokens.ravel(), sums.kv_tokens.ravel())
    total = np.zeros(sums.tokens.size, np.int64)
    for layer in layers:
        total += prices.attention_ns(layer, *shape) + prices.dense_ns(layer, shape[0])
        total += prices.cross_attention_ns(layer, *(one.ravel() for one in source))
    if phase != "encode":
        total += prices.head_ns(shape[0])
    return total.reshape(sums.tokens.shape)


def _launches_ns(layers: list[LayerSpec], phase: Phase, values: Assumptions) -> int:
    """Nanoseconds of the host's launches of a pass."""
    software = software_of(values)
    counts = software.kernels
    of_sequence = counts.attention if counts.sequence is None else counts.sequence
    each = (counts.attention if phase == "decode" else of_sequence) + counts.dense
    head = 0 if phase == "encode" else counts.head
    return round((len(layers) * each + head) * software.launch_ns)
