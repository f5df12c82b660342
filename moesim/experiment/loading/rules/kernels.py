"""How experts are computed: their kernels, and what a captured graph can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.names import loaded
from moesim.experiment.loading.rules.asked import may_miss
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import reduces
from moesim.hardware import load_software

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def batched_rows_are_equal(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A batched product takes as many rows of every expert."""
    del model
    if experiment.experts.kernels != "batched" or not experiment.gating.uneven:
        return None
    kind = kind_of(type(experiment.gating))
    what = f"'batched' multiplies equal rows of every expert, which '{kind}' gating does not give"
    remedy = "write grouped, or a gating that pads (static, tutel)"
    return Conflict(("experts.kernels", "gating"), f"{what}; {remedy}")


def _splits_tokens(experiment: Experiment) -> bool:
    """Whether GPUs send tokens to each other's experts."""
    asked = experiment.parallelism
    hardware = loaded("hardware", experiment.hardware, experiment.folders)
    nodes = asked.nodes or (1 if hardware is None else -(-asked.expert // hardware.gpus))
    return asked.expert > 1 and asked.slices == 1 and not reduces(experiment, nodes)


def graph_needs_a_fixed_course(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A captured graph cannot wait for the host to decide."""
    if (experiment.execution, experiment.decide) != ("graph", "host"):
        return None
    keys = ("execution", "decide")
    remedy = "write decide: device, or execution: piecewise"
    if may_miss(experiment, model):
        what = f"'graph' with decide: host cannot load missing experts; {remedy}, or capacity: all"
        return Conflict((*keys, "experts.capacity", "model", "parallelism.expert"), what)
    if experiment.gating.agrees:
        what = f"'graph' with decide: host cannot wait for the largest count; {remedy}"
        return Conflict((*keys, "gating"), what)
    if _splits_tokens(experiment) and experiment.gating.uneven:
        what = f"'graph' with decide: host cannot split tokens unevenly over GPUs; {remedy}"
        return Conflict((*keys, "gating", "parallelism.expert"), what)
    if experiment.experts.kernels == "serial" and experiment.gating.uneven:
        what = "'graph' with decide: host cannot call experts one by one whose rows only the gate"
        what += f" knows; {remedy}, or kernels: grouped"
        return Conflict((*keys, "experts.kernels", "gating"), what)
    return None


def host_beside_the_device(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Where nothing runs beside a kernel, the host cannot compute experts beside the GPU."""
    del model
    if not experiment.experts.miss.uses_host:
        return None
    if load_software(experiment.software, experiment.folders).overlap:
        return None
    what = f"'{kind_of(type(experiment.experts.miss))}' computes experts beside the GPU, and the"
    what += f" software '{experiment.software}' runs nothing beside a kernel; write miss: load"
    return Conflict(("experts.miss", "software"), what)


RULES: tuple[Rule, ...] = (
    batched_rows_are_equal,
    graph_needs_a_fixed_course,
    host_beside_the_device,
)
