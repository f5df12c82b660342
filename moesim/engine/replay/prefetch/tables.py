"""A case with prefetches, and its chunks, as the arrays that compiled code reads."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk
from moesim.engine.prefetch import Predictions
from moesim.engine.pricing.terms import categories_of
from moesim.engine.program import Program
from moesim.engine.replay.prefetch.arrays import (
    NOT_POOLED,
    POOL_LAYERS,
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
from moesim.memory.policy_reads import reads_of
from moesim.memory.slots.decisions import is_own, new_cells
from moesim.memory.slots.open_slots import Deciding, Slots, opened
from moesim.memory.slots.residency import NO_PRICES, NONE
from moesim.memory.slots.split import OFFERED
from moesim.memory.slots.variant_cache import Serving, serving
from moesim.memory.variants import SUBSTITUTED

NO_BUDGET = 1 << 62
ALONE = Serving(np.zeros(2, np.int64), False, np.zeros((1, 1), np.int64), -1, 1)
"""How one variant serves."""


def choices_of(case: Case) -> Ints:
    """The choices named in ``prefetch.arrays``."""
    prefetcher = case.prefetch
    layers = len(case.model.moe_layers) if case.policy.scope == "global" else 1
    budget = NO_BUDGET if prefetcher.budget is None else int(prefetcher.budget)
    values = (
        case.kernels == "serial", layers, case.kernels == "block_sparse", prefetcher.layers,
        prefetcher.across_passes and not case.schedule.foreseen, budget, prefetcher.by_source,
        prefetcher.stop == "first_missing",
        prefetcher.every if prefetcher.before_pass else 0, case.prediction_ns,
        categories_of(case).index(PREDICTION) if case.prediction_ns else 0, case.software.overlap,
    )  # fmt: skip
    return np.array(values, np.int64)


def pools_of(case: Case, residencies: Residencies) -> Pools:
    """Which cache is whose."""
    works = variants_in(case) * len(case.model.moe_layers) * case.gpus
    pools = Pools(np.full(works, NOT_POOLED), np.zeros(works, np.int64))
    place = {id(cache): pool for pool, cache in enumerate(residencies.caches.values())}
    for work in range(works):
        slots = residencies.slots_of(divmod(work, case.gpus))
        if slots is not None:
            pools.of_work[work], pools.place[work] = place[id(slots.cache)], slots.place
    return pools


def deciding_of(case: Case, residencies: Residencies) -> Deciding:
    """The caches as they are, and how steps of them are decided; what is asked for is to come."""
    caches = list(residencies.caches.values())
    slots, splits = opened(type(case.policy), caches), case.miss.splits
    pool, own = slots.slot_of.shape[1], is_own(reads_of(type(case.policy)))
    local = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    cells = new_cells(case.order == "resident_first", 0, local, pool, own, splits)
    how = ALONE if case.variants is None else serving(case.variants)
    variants, flat = variants_in(case), np.zeros((10, local), np.int64)
    every: list[Any] = [
        case.miss.most_loads(), int(choices_of(case)[POOL_LAYERS]), case.kernels == "serial",
        case.order == "resident_first", case.protect == "step", caches[0].rules.loads_of, slots,
        np.zeros((variants, len(cells.over)), np.bool_), cells.keys, cells.index_of, cells.planned,
        cells.missing, np.zeros(2, np.int64), flat[0], NONE, NONE, NO_PRICES, NO_PRICES, NONE,
        flat[1], np.zeros(local, np.bool_), *flat[2:6], *how,
        np.full(variants, slots.ranks.shape[1]), np.zeros(2, np.int64), *flat[6:8],
        flat[8] if case.policy.weighs else NONE, NONE, NO_PRICES,
    ]  # fmt: skip
    return Deciding(*every)


def with_draws(slots: Slots, draws: list[NDArray[np.float64]]) -> Slots:
    """``slots`` with all that has been drawn for each pool."""
    ends = np.cumsum([0, *map(len, draws)])
    if ends[-1] == len(slots.draws):
        return slots
    return slots._replace(draws=np.concatenate(draws), draws_at=ends)


def variants_in(case: Case) -> int:
    """How many variants an expert has."""
    return 1 if case.variants is None else len(case.variants.names)


def variants_of(program: Program) -> Variants:
    """The variants of a case's experts."""
    case, count = program.case, variants_in(program.case)
    layers, forms = range(len(case.model.moe_layers)), len(case.forms)
    prices = np.stack([program.work.copy_ns_of(layer) for layer in layers])
    return Variants(
        number=count,
        of_form=np.zeros(forms, np.int64) if case.variants is None else case.variants.variant_of,
        moves=np.array([form == SUBSTITUTED for form in case.forms], np.bool_),
        copy_ns=np.broadcast_to(prices, (len(layers), forms)).copy(),
        served=np.zeros((0, 0, 0, 0), np.int8),
    )


def queue_of(program: Program) -> Queue:
    """No prefetch yet."""
    case, work = program.case, program.work
    prices = np.stack([work.copy_ns_of(layer) for layer in range(len(case.model.moe_layers))])
    specs = [one.spec.moe for one in work.launches]
    sizes = np.array([0 if moe is None else moe.expert.bytes for moe in specs])
    layers, variants = len(case.model.moe_layers), variants_in(case)
    local = np.array([len(case.local_experts(gpu)) for gpu in range(case.gpus)])
    most = int(local.max())
    shelves, turns = variants * layers, 1 << (max(2, case.prefetch.every) - 1).bit_length()
    shape = (case.gpus, shelves * most)
    ends = (shape[0], shape[1] + 1)
    return Queue(
        following=np.full(ends, shape[1]),
        before=np.full(ends, shape[1]),
        issued=np.zeros(shape, np.int64),
        arrival=np.zeros(shape, np.int64),
        meant=np.zeros(shape, np.int64),
        caused=np.zeros(shape, np.bool_),
        account=np.zeros(shape, np.int64),
        ended=np.zeros((case.gpus, layers * turns * variants, 4), np.int64),
        turns=turns,
        shelf=np.minimum(np.arange(shelves * most) // local[:, None], shelves - 1),
        bytes=sizes[work.variants.T.ravel()],
        copy_ns=np.ascontiguousarray(prices.T[:variants]).ravel(),
        waits=np.zeros((case.gpus, shelves), np.int64),
        engine=np.zeros((case.gpus, 4), np.int64),
    )


def scratch_of(case: Case, pool: int) -> tuple[Activating, Decided]:
    """Room for the decisions of one layer, in pools of so many experts."""
    local = max(len(case.local_experts(gpu)) for gpu in range(case.gpus))
    of_experts, arriving = np.zeros((3, local), np.int64), np.zeros((2, local), np.bool_)
    layers_ahead = min(case.prefetch.layers, 2 * len(case.model.moe_layers))
    lacking = np.zeros((layers_ahead * local * variants_in(case) + 1, 4), np.int64)
    rows: list[Any] = [*np.zeros((10, local), np.int64), np.zeros(7, np.int64)]
    room: list[Any] = [*of_experts, *arriving, np.stack(case.flags), np.zeros(local, np.int64)]
    room += [np.zeros(pool, np.int64), lacking]
    return Activating(*room), Decided(*rows)


def asked_of(case: Case, chunk: Chunk, deciding: Deciding, moved: Ints) -> tuple[Asked, Deciding]:
    """The active experts of a chunk, and ``deciding`` with what is aligned with them; ``moved`` as
    for ``split.divide``.
    """
    assert chunk.undecided is not None, "what is decided beforehand needs no clock"
    keys = [(layer, gpu) for layer in range(len(case.model.moe_layers)) for gpu in range(case.gpus)]
    parts = [chunk.undecided.asked[key] for key in keys]
    needed = [chunk.undecided.active[key] for key in keys]
    numbers = [len(one.experts) for one in parts]
    pads = any(one.kept is not one.rows for one in needed)
    asked = Asked(
        base=np.cumsum([0, *numbers[:-1]]),
        offsets=_together([one.offsets[None] for one in needed], np.int32),
        experts=_together([one.experts for one in parts], np.int16),
        rows=_together([one.rows for one in needed], np.int32),
        kept=_together([one.kept for one in needed if pads], np.int32),
        kept_weight=np.concatenate([one.weight for one in needed]),
        share=np.concatenate([one.share for one in needed]),
    )
    return asked, deciding._replace(
        next_use=_aligned([one.next_use for one in parts], numbers),
        weights=_aligned([one.weights for one in parts], numbers),
        prices=_aligned([one.prices for one in parts], numbers, (OFFERED,)),
        wanted=_aligned([one.wanted for one in parts], numbers),
        moved=moved,
    )


def _together(parts: list[Ints], dtype: Any) -> NDArray[Any]:
    """``parts`` one behind the other, as small whole numbers."""
    if not parts:
        return np.zeros(0, dtype)
    return np.concatenate(parts, dtype=dtype, casting="same_kind")


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
    resident = [case.resident(gpu) for gpu in range(case.gpus)]
    for origin, target, gpu in _pairs(case, predictions):
        if not resident[gpu][target] or case.policy.scope == "global":
            index[origin, target, gpu] = len(found)
            found.append(predictions.predict(origin, target, gpu))
    numbers = [len(one.experts) for one in found]
    return Predicted(
        index=index,
        base=np.cumsum([0, *numbers[:-1]]),
        offsets=_together([one.offsets[None] for one in found], np.int32),
        experts=_together([one.experts for one in found], np.int16),
        active=np.ascontiguousarray(active),
    )


def _pairs(case: Case, predictions: Predictions) -> Iterator[tuple[int, int, int]]:
    """Origin, target and GPU of the predictions that may be asked for."""
    active = predictions.view.active
    if not case.prefetch.by_source:
        pairs = set(product(range(predictions.origins), range(active.shape[1])))
    else:
        pairs = set()
        for runs in active[:1] if active.all() else np.unique(active, axis=0):
            running = np.flatnonzero(runs).tolist()
            for place, source in enumerate(running):
                targets = running[place + 1 : place + 1 + case.prefetch.layers]
                pairs |= {(source, target) for target in targets}
    for origin, target in sorted(pairs):
        for gpu in range(case.gpus):
            yield origin, target, gpu
