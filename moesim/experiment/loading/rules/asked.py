"""What several rules ask of an experiment."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from moesim.experiment.loading.names import loaded
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def may_miss(experiment: Experiment, model: ModelSpec | None) -> bool:
    """Whether an expert can be missing: some GPU may hold more experts than it has room for."""
    capacity = experiment.experts.capacity
    if experiment.experts.variants is not None:
        return True
    if capacity.kind == "all" or (capacity.kind == "fraction" and capacity.amount == 1):
        return False
    if model is None or not model.moe_layers or capacity.kind in ("fraction", "auto"):
        return True
    return _slots(capacity, model) < most_local(experiment, model)


def most_local(experiment: Experiment, model: ModelSpec) -> int:
    """Experts of a MoE layer that a GPU holds, replicas among them, of the layer with the most."""
    spare = experiment.placement.spare(max(experts_of(model)), experiment.folders)
    return -(-(max(experts_of(model)) + spare) // holders(experiment))


def in_place(experiment: Experiment, model: ModelSpec | None) -> bool:
    """Whether experts are read into the one memory that CPU and GPU share. What ``auto`` leaves
    out without a drive is known, and told, once the run is built.
    """
    hardware, asked = hardware_of(experiment), experiment.experts
    if hardware is None or not hardware.unified:
        return False
    if asked.capacity.kind == "auto" and hardware.host.storage is None and asked.variants is None:
        return False
    return may_miss(experiment, model)


def hardware_of(experiment: Experiment) -> Any:
    """The machine; None where its name is wrong, which is said elsewhere."""
    return loaded("hardware", experiment.hardware, experiment.folders)


def holders(experiment: Experiment) -> int:
    """GPUs that hold experts of their own; one where there are more slices than GPUs, which is
    refused elsewhere.
    """
    asked = experiment.parallelism
    return max(1, asked.expert // asked.slices)


def prompts_go(experiment: Experiment) -> str:
    """``cache``, ``bypass`` or ``stream``: how prompts meet the caches."""
    workload = experiment.workload
    return "cache" if workload.phase == "decode" else workload.prefill.experts


def experts_of(model: ModelSpec) -> list[int]:
    """Experts of each MoE layer."""
    return [layer.moe.experts for layer in model.moe_layers if layer.moe]


def expert_bytes(model: ModelSpec) -> list[int]:
    """Bytes of an expert of each MoE layer."""
    return [layer.moe.expert.bytes for layer in model.moe_layers if layer.moe]


def _slots(capacity: Any, model: ModelSpec) -> int:
    if capacity.kind == "slots":
        return int(capacity.amount)
    return int(capacity.amount) // len(model.moe_layers) // max(expert_bytes(model))
