"""What GPUs share, slice and hold."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.experiment.loading.rules.asked import experts_of, hardware_of, holders
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout, undivided_heads, undivided_layers
from moesim.model.slicing import unsliced_experts

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def expert_for_every_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Every GPU holds at least one expert of each layer."""
    if model is None or not _too_many(experiment, model):
        return None
    gpus, experts = holders(experiment), min(experts_of(model))
    what = f"{gpus} GPUs are more than the {counted(experts, 'expert')} of {model.name}"
    return Conflict(("parallelism.expert", "model"), f"{what}; {experts} or less")


def _too_many(experiment: Experiment, model: ModelSpec) -> bool:
    return bool(model.moe_layers) and holders(experiment) > min(experts_of(model))


def gpus_on_nodes(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The machine has the nodes and GPUs, and they can share the dense part."""
    hardware = hardware_of(experiment)
    if hardware is None or (model is not None and _too_many(experiment, model)):
        return None
    keys = ("parallelism.expert", "parallelism.nodes", "parallelism.pipeline", "hardware")
    try:
        layout = Layout.of(experiment, hardware)
    except InputError as error:
        at, _, what = error.problems[0].what.partition(": ")
        return Conflict((at, *(key for key in keys if key != at)), what)
    if model is None:
        return None
    if (layers := undivided_layers(model, layout.stages)) is not None:
        return Conflict(("parallelism.pipeline", "model"), layers)
    if (heads := undivided_heads(model, layout.group)) is not None:
        return Conflict(("parallelism.dense", *keys, "model"), f"{heads}; write dense: data")
    return None


def slices_of_experts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """GPUs that slice experts have equal parts of them."""
    asked = experiment.parallelism
    if model is None or asked.slices == 1:
        return None
    if (what := unsliced_experts(model, asked.slices)) is None:
        return None
    keys = ("parallelism.experts", "parallelism.slice", "parallelism.expert", "model")
    return Conflict(keys, f"{what}; or write experts: expert")


def host_of_one_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Several GPUs share the cores and the memory of their own NUMA nodes."""
    del model
    hardware = hardware_of(experiment)
    if hardware is None or hardware.host.numa_nodes.value == 1:
        return None
    host, gpus = hardware.host, experiment.parallelism.expert // (experiment.parallelism.nodes or 1)
    given = [key for key in ("remote_node_fraction", "threads") if getattr(host, key) is not None]
    if gpus <= 1 or not given:
        return None
    what = f"{counted(gpus, 'GPU')} share {counted(host.numa_nodes.value, 'NUMA node')}, and"
    what += f" host.{given[0]} is of a host that works for one GPU; leave it out, or write 1"
    return Conflict(("parallelism.expert", "parallelism.nodes", "hardware"), what)


RULES: tuple[Rule, ...] = (
    expert_for_every_gpu,
    gpus_on_nodes,
    host_of_one_gpu,
    slices_of_experts,
)
