"""What a batch needs of a GPU's memory, and the largest that fits."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.engine.case import Case
from moesim.experiment.building.built import limit_of
from moesim.experiment.building.footprints import (
    footprint_of,
    live_of,
    pins,
    residences_of,
    scores_of,
)
from moesim.experiment.building.layer_rows import rows_alike
from moesim.memory.footprint.footprint import Footprint
from moesim.memory.footprint.live import Tokens
from moesim.reproduce.cases import Pools, case_of
from moesim.reproduce.machines import hardware_of
from moesim.reproduce.parameters import Assumptions
from moesim.reproduce.settings import TASKS, Setting
from moesim.workload.schedule import AttentionSums
from moesim.workload.sources import SourceSums


def memory_of(setting: Setting, values: Assumptions, pools: Pools) -> Footprint:
    """Bytes of every pass; a batch beyond the pool is as uneven as one that it holds."""
    workers = 1 if values["sentences"] == "same" else setting.gpus
    most = max(1, getattr(pools, TASKS[setting.task].mix) // workers)
    known = replace(setting, batch=min(setting.batch, most), batches=1)
    case = case_of(known, values, pools)
    if known.batch == setting.batch:
        return footprint_of(case, residences_of(case))
    return _grown(case, setting.batch / known.batch)


def _grown(case: Case, times: float) -> Footprint:
    """Bytes of the passes of ``case`` with so many times the tokens on every GPU."""
    sums = AttentionSums.of(case.schedule, case.trace, case.gpus, None)
    sources = SourceSums.of(case.schedule, case.trace, case.gpus)
    tokens, cached, held, scores = (
        np.ceil(one * times).astype(np.int64)
        for one in (sums.tokens, sums.cached_tokens, sources.cached_tokens, scores_of(case))
    )
    kv = cached * sum(layer.attention.kv_bytes_per_token for layer in case.model.layers)
    layers = case.layers_of(int(case.schedule.phase[0]))
    encodes = layers[0].stack == "encoder"
    counted = Tokens(tokens, np.zeros_like(tokens) if encodes else tokens, scores)
    residences = residences_of(case)
    return Footprint.of(
        case.shares,
        residences,
        kv_bytes=kv + held * case.model.source_bytes_per_token,
        live=live_of(case, rows_alike(case, tokens), counted, residences),
        pinned=pins(case),
    )


def fits(setting: Setting, values: Assumptions, pools: Pools) -> bool:
    """Whether the point's batch fits in GPU memory."""
    needed = memory_of(setting, values, pools).total.max()
    return bool(needed <= limit_of(hardware_of(values)))


def largest_batch(setting: Setting, values: Assumptions, pools: Pools) -> int:
    """The most sentences a GPU, of those that the study tried, that fit; 0 where none does.

    A translation's batch must fit in the encoder and in the decoder.
    """
    mix = [task for task in TASKS.values() if task.mix == TASKS[setting.task].mix]
    low, sizes = 0, TASKS[setting.task].batches
    high = len(sizes)
    while low < high:
        middle = (low + high) // 2
        tried = [replace(setting, task=task.name, batch=sizes[middle], batches=1) for task in mix]
        if all(fits(one, values, pools) for one in tried):
            low = middle + 1
        else:
            high = middle
    return sizes[low - 1] if low else 0
