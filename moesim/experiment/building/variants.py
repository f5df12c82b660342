"""The formats of a run's experts, and the slots of each."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
from numpy.typing import NDArray

from moesim.config.amounts.capacity import ExpertCapacity
from moesim.engine.case import Case, Ints
from moesim.experiment.building.slots import bytes_beside, check_on_cpu
from moesim.experiment.loading.pieces import in_piece
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.experts import Experts
from moesim.memory.choices.base import check_rule
from moesim.memory.choices.gate_cumulative import GateCumulative
from moesim.memory.footprint.footprint import expert_bytes
from moesim.memory.variants import Variants
from moesim.model.slicing import with_sliced_experts
from moesim.model.spec import LayerSpec, ModelSpec
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
    every, on_cpu = _bytes_of_run(case, room, limit_bytes), np.array(room.on_cpu.of(case.model))
    if on_cpu.any():
        check_on_cpu(case, room)
    slots = np.stack(
        [
            _slots(case, capacity, model.moe_layers, every, on_cpu)
            for capacity, model in zip(room.variants.capacities, models, strict=True)
        ]
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


def _bytes_of_run(case: Case, room: Experts, limit_bytes: int) -> Ints:
    """The bytes of each GPU that ``room`` has for experts, int64[gpus]."""
    apart = room.on_cpu.of(case.model)
    whole = sum(
        size for size, host in zip(expert_bytes(case.model), apart, strict=True) if not host
    )
    local = np.array([len(case.local_experts(gpu)) for gpu in range(case.gpus)])
    match room.capacity.kind:
        case "auto":
            return bytes_beside(case, limit_bytes)
        case "bytes":
            return np.full(case.gpus, int(room.capacity.amount))
        case "slots":
            return np.full(case.gpus, int(room.capacity.amount) * whole)
    return np.array([int(Fraction(str(room.capacity.amount)) * n * whole) for n in local.tolist()])


def _slots(
    case: Case, capacity: ExpertCapacity, layers: tuple[LayerSpec, ...], every: Ints,
    on_cpu: NDArray[np.bool_],
) -> Ints:  # fmt: skip
    """Slots int64[gpus, MoE layers] of a variant with such ``layers`` and ``capacity``, of
    ``every`` bytes; at least 1, at most the local experts, and none in those ``on_cpu``.
    """
    sizes = np.array([layer.moe.expert.bytes for layer in layers if layer.moe is not None])
    size = max(1, int(sizes[~on_cpu].sum()))
    amount = capacity.amount
    match capacity.kind:
        case "slots":
            slots = np.full(case.gpus, int(amount))
        case "bytes":
            slots = np.full(case.gpus, int(amount) // size)
        case _:
            parts = [int(Fraction(str(amount)) * of_gpu) // size for of_gpu in every.tolist()]
            slots = np.array(parts)
    local = np.array([len(case.local_experts(gpu)) for gpu in range(case.gpus)])
    return np.where(on_cpu, 0, np.clip(slots, 1, local)[:, None])
