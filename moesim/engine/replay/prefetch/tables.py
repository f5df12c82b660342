"""A case with prefetches, and its chunks, as the arrays that compiled code reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np

from moesim.engine.ahead import Predictions
from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.pricing.terms import categories_of
from moesim.engine.program import Program
from moesim.engine.replay.callback import FirstClass
from moesim.engine.replay.prefetch.arrays import (
    NOT_POOLED,
    Activating,
    Asked,
    Decided,
    Pools,
    Predicted,
    Queue,
    Variants,
)
from moesim.engine.residency.residencies import Residencies
from moesim.hardware.charge import PREDICTION
from moesim.memory.activations import ActiveExperts
from moesim.memory.decisions import is_own, new_cells
from moesim.memory.policy import ROWS
from moesim.memory.policy_reads import reads_of
from moesim.memory.split import OFFERED
from moesim.memory.variant_cache import SERVE, Room, Serving, serve_of, serving
from moesim.memory.variants import SUBSTITUTED
from moesim.runtime.compiled import njit

NO_BUDGET = 1 << 62
ALONE = Serving(np.zeros(2, np.int64), False, np.zeros((1, 1), np.int64), -1, 1)
"""How one variant serves."""


def choices_of(case: Case) -> Ints:
    """The choices named in ``prefetch_arrays``."""
    prefetcher = case.prefetch
    layers = len(case.model.moe_layers) if case.policy.scope == "global" else 1
    budget = NO_BUDGET if prefetcher.budget is None else int(prefetcher.budget)
    values = (
        case.kernels == "serial", case.order == "resident_first",
        case.miss.most_loads(), layers,
        case.kernels == "block_sparse", prefetcher.layers, prefetcher.across_passes, budget,
        case.protect == "step",
        prefetcher.by_source, prefetcher.stop == "first_missing",
        prefetcher.every if prefetcher.before_pass else 0, case.prediction_ns,
        categories_of(case).index(PREDICTION) if case.prediction_ns else 0, case.software.overlap,
    )  # fmt: skip
    return np.array(values, np.int64)


def pools_of(case: Case, residencies: Residencies) -> Pools:
    """The caches as they are."""
    caches = residencies.caches
    works = variants_in(case) * len(case.model.moe_layers) * case.gpus
    number, sizes = len(caches), [len(cache.resident) for cache in caches.values()]
    width = max(sizes)
    pools = Pools(
        of_work=np.full(works, NOT_POOLED),
        place=np.zeros(works, np.int64),
        slots=np.array([cache.slots for cache in caches.values()]),
        size=np.array(sizes),
        now=np.zeros(number, np.int64),
        resident=np.zeros((number, width), np.bool_),
        state=np.zeros((number, ROWS + case.policy.memory, width), np.int64),
        draws=np.zeros(0),
        draws_at=np.zeros(1 + number, np.int64),
        loads_of=next(iter(caches.values())).rules.loads_of,
    )
    place = {id(cache): pool for pool, cache in enumerate(caches.values())}
    for pool, cache in enumerate(caches.values()):
        pools.resident[pool, : sizes[pool]] = cache.resident
        pools.state[pool, :, : sizes[pool]] = cache.state
    for work in range(len(pools.of_work)):
        slots = residencies.slots_of(divmod(work, case.gpus))
        if slots is not None:
            pools.of_work[work], pools.place[work] = place[id(slots.cache)], slots.place
    return with_draws(pools, residencies)


def with_draws(pools: Pools, residencies: Residencies) -> Pools:
    """``pools`` with all that has been drawn."""
    draws = [cache.draws for cache in residencies.caches.values()]
    ends = np.cumsum([0, *map(len, draws)])
    if ends[-1] == len(pools.draws):
        return pools
    return pools._replace(draws=np.concatenate(draws), draws_at=ends)


def variants_in(case: Case) -> int:
    """How many variants an expert has."""
    return 1 if case.variants is None else len(case.variants.names)


def variants_of(program: Program, pool: int) -> Variants:
    """The variants of a case's experts, and room for pools of at most so many experts."""
    case, count = program.case, variants_in(program.case)
    layers, forms = range(len(case.model.moe_layers)), len(case.forms)
    how, serve, of_form = ALONE, FirstClass(_nobody, SERVE), np.zeros(forms, np.int64)
    prices = np.stack([program.work.copy_ns_of(layer) for layer in layers])
    if case.variants is not None:
        of_form, serve = case.variants.variant_of, FirstClass(serve_of(type(case.policy)), SERVE)
        how = serving(case.variants)
    local = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    return Variants(
        room=Room.of(count, pool, local, case.policy.weighs), serve=serve, how=how, of_form=of_form,
        moves=np.array([form == SUBSTITUTED for form in case.forms], np.bool_),
        copy_ns=np.broadcast_to(prices, (len(layers), forms)).copy(),
        ahead_ns=np.ascontiguousarray(prices.T[:count]).ravel(),
        taken=np.zeros(count, np.int64), serves=np.zeros(pool, np.int64),
        served=np.zeros((0, 0, 0, 0), np.int8),
    )  # fmt: skip


@njit(SERVE, cache=True, a_value=True)
def _nobody(
    _rules: Any, _how: Any, _pools: Any, _wanted: Any, _room: Any, _step: Any, _out: Any
) -> None:
    """Serves where experts have no variants."""


def queue_of(case: Case) -> Queue:
    """No prefetch yet."""
    layers, variants = len(case.model.moe_layers), variants_in(case)
    most = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    shape = (case.gpus, variants * layers * most)
    ended = (case.gpus, layers, max(2, case.prefetch.every), variants, 4)
    ends = (shape[0], shape[1] + 1)
    return Queue(
        following=np.full(ends, shape[1]),
        before=np.full(ends, shape[1]),
        issued=np.zeros(shape, np.int64),
        arrival=np.zeros(shape, np.int64),
        meant=np.zeros(shape, np.int64),
        caused=np.zeros(shape, np.bool_),
        ended=np.zeros(ended, np.int64),
        engine=np.zeros((case.gpus, 4), np.int64),
    )


def scratch_of(case: Case, pools: Pools, local: int) -> tuple[Activating, Decided]:
    """Room for the decisions of one layer, of at most ``local`` experts, in one of ``pools``."""
    pool, most = pools.resident.shape[1], int(pools.resident.sum(axis=1).max())
    own, splits = is_own(reads_of(type(case.policy))), case.miss.splits
    first = case.order == "resident_first"
    cells = new_cells(first, max(most, int(pools.slots.max())), local, pool, own, splits)
    flat = [np.zeros(local, np.int64) for _ in range(7)]
    hit, arriving = np.zeros((2, local), np.bool_)
    of_experts = np.zeros((3, local), np.int64)
    room: list[Any] = [
        np.zeros(2, np.int64), flat[0], flat[1], hit, *flat[2:6], *of_experts, arriving,
        *np.zeros((2, pool), np.bool_), np.zeros(pool, np.int64),
        np.zeros(OFFERED * local, np.int64), np.stack(case.flags), np.zeros(local, np.int64), cells,
    ]  # fmt: skip
    rows: list[Any] = [*np.zeros((10, local), np.int64), np.zeros(6, np.int64)]
    return Activating(*room), Decided(*rows)


def asked_of(case: Case, chunk: Chunk) -> Asked:
    """The active experts of a chunk and what is aligned with them."""
    assert chunk.undecided is not None, "what is decided beforehand needs no clock"
    keys = [(layer, gpu) for layer in range(len(case.model.moe_layers)) for gpu in range(case.gpus)]
    parts = [chunk.undecided.asked[key] for key in keys]
    needed = [chunk.undecided.active[key] for key in keys]
    numbers = [len(one.active_experts.experts) for one in parts]
    rows, kept, weight = (np.concatenate(one) for one in list(zip(*needed, strict=True))[2:])
    return Asked(
        base=np.cumsum([0, *numbers[:-1]]),
        offsets=np.stack([one.active_experts.offsets for one in parts]),
        experts=np.concatenate([one.active_experts.experts for one in parts]),
        next_use=_aligned([one.next_use for one in parts], numbers),
        weights=_aligned([one.weights for one in parts], numbers),
        prices=_aligned([one.prices for one in parts], numbers, (OFFERED,)),
        rows=rows,
        kept=kept,
        kept_weight=weight,
        wanted=_aligned([one.wanted for one in parts], numbers),
    )


def _aligned(parts: list[Ints | None], numbers: list[int], shape: tuple[int, ...] = ()) -> Ints:
    """``parts`` side by side, 0 where there is none; empty where there is none at all."""
    if all(part is None for part in parts):
        return np.zeros((*shape, 0), np.int64)
    filled = [
        np.zeros((*shape, number), np.int64) if part is None else part
        for part, number in zip(parts, numbers, strict=True)
    ]
    return np.ascontiguousarray(np.concatenate(filled, axis=-1))


def predicted_of(case: Case, predictions: Predictions) -> Predicted:
    """What is predicted for the passes of a chunk and the next one."""
    active = predictions.view.active
    index = np.zeros((predictions.origins, active.shape[1], case.gpus), np.int64)
    found = [ActiveExperts(np.zeros(len(active) + 1, np.int64), np.zeros(0, np.int64))]
    for origin, target, gpu in _pairs(case, predictions):
        if not case.resident(gpu)[target] or case.policy.scope == "global":
            index[origin, target, gpu] = len(found)
            found.append(predictions.predict(origin, target, gpu))
    numbers = [len(one.experts) for one in found]
    return Predicted(
        index=index,
        base=np.cumsum([0, *numbers[:-1]]),
        offsets=np.stack([one.offsets for one in found]),
        experts=np.concatenate([one.experts for one in found]),
        active=np.ascontiguousarray(active),
    )


def _pairs(case: Case, predictions: Predictions) -> Iterator[tuple[int, int, int]]:
    """Origin, target and GPU of the predictions that may be asked for."""
    active = predictions.view.active
    if not case.prefetch.by_source:
        pairs = set(product(range(predictions.origins), range(active.shape[1])))
    else:
        pairs = set()
        for runs in np.unique(active, axis=0):
            running = np.flatnonzero(runs).tolist()
            for place, source in enumerate(running):
                targets = running[place + 1 : place + 1 + case.prefetch.layers]
                pairs |= {(source, target) for target in targets}
    for origin, target in sorted(pairs):
        for gpu in range(case.gpus):
            yield origin, target, gpu
