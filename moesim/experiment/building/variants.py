"""The formats of a run's experts, and the slots of each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from moesim.config.amounts.capacity import ExpertCapacity
from moesim.engine.case import Case, Ints
from moesim.experiment.building.pools import bytes_of_run, local_of, sizes_in, slots_of_pools
from moesim.experiment.building.slots import check_on_cpu
from moesim.experiment.loading.pieces import in_piece
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.choices.base import check_rule
from moesim.memory.choices.gate_cumulative import GateCumulative
from moesim.memory.variants import Variants
from moesim.model.slicing import with_sliced_experts
from moesim.model.spec import ModelSpec
from moesim.model.unpacked import with_unpacked_experts


def with_variants(case: Case, experiment: Experiment, limit_bytes: int) -> Case:
    """``case``, whose model is the first variant, with all of them and their slots;
    ``limit_bytes`` as for ``slots_of_run``.
    """
    room = experiment.experts
    assert room.variants is not None, "it has some"
    models = [
        _on_gpu(case, in_piece(experiment, case.model, one)) for _, one in room.variants.named
    ]
    every, on_cpu = bytes_of_run(case, room, limit_bytes), np.array(room.on_cpu.of(case.model))
    if on_cpu.any():
        check_on_cpu(case, room)
    each = zip(room.variants.capacities, models, strict=True)
    slots = np.stack(
        [_slots(case, room.capacity, *one, every, on_cpu, best=not n) for n, one in enumerate(each)]
    )
    names, choice = tuple(name for name, _ in room.variants.named), room.choose or GateCumulative()
    check_rule(choice, names)
    variants = Variants(
        names=names,
        layers=tuple(model.moe_layers for model in models),
        slots=slots,
        choice=choice,
        nested=tuple(one.nested for _, one in room.variants.named),
        elsewhere=case.miss.forms[1:],
    )
    return replace(case, slots=slots[0], variants=variants)


def _on_gpu(case: Case, model: ModelSpec) -> ModelSpec:
    """``model`` with what a GPU of ``case`` has of its experts, and what unpacking them moves."""
    parts = with_sliced_experts(model, case.slices)
    return with_unpacked_experts(parts, case.software.unpacking_bytes)


def _slots(
    case: Case, whole: ExpertCapacity, own: ExpertCapacity, model: ModelSpec, every: Ints,
    on_cpu: NDArray[np.bool_], *, best: bool,
) -> Ints:  # fmt: skip
    """Slots int64[gpus, MoE layers] of the variant ``model`` with its ``own`` capacity, or that
    part of the ``whole`` one's ``every`` bytes: as many in each layer, at least 1, at most the
    local experts, and none in those ``on_cpu``; or as a pool over all layers has them, with one of
    each layer at least where this is the ``best`` variant.
    """
    part = own.kind == "fraction"
    sizes = np.array(sizes_in(case, whole if part else own, model))
    size, local = max(1, int(sizes[~on_cpu].sum())), np.array(local_of(case))
    match own.kind:
        case "slots":
            room = np.minimum(int(own.amount), local) * size
        case "bytes":
            room = np.full(case.gpus, int(own.amount))
        case _:
            room = np.array([int(Fraction(str(own.amount)) * one) for one in every.tolist()])
    if case.policy.scope == "global":
        return slots_of_pools(case, room, sizes.tolist(), int(best))
    return np.where(on_cpu, 0, np.clip(room // size, 1, local)[:, None])
