"""Which slots there are: of each layer, or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.experiment.loading.rules.asked import expert_bytes
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def pool_of_one_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A slot of a pool is in the memory of one GPU."""
    del model
    stages = experiment.parallelism.pipeline
    if stages == 1 or experiment.experts.policy.scope != "global":
        return None
    what = f"'global' shares slots over layers, which pipeline: {stages} has on several GPUs"
    keys = ("experts.policy.scope", "experts.policy", "parallelism.pipeline")
    return Conflict(keys, f"{what}; write scope: layer")


def one_pool_of_equal_slots(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A slot of a pool over all layers takes an expert of any of them."""
    if model is None or experiment.experts.policy.scope != "global":
        return None
    sizes = sorted(set(expert_bytes(model)))
    if len(sizes) <= 1:
        return None
    what = f"'global' shares slots over layers, but experts of {model.name} have from {sizes[0]} to"
    keys = ("experts.policy.scope", "experts.policy", "model")
    return Conflict(keys, f"{what} {sizes[-1]} bytes; write scope: layer")


def slots_of_one_layer(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Slots by layer need a cache of each layer."""
    del model
    if experiment.experts.slots.kind == "equal":
        return None
    policy, keys = experiment.experts.policy, ("experts.slots", "experts.policy")
    if policy.scope == "global":
        what = "'by_layer' shares slots out to layers, but scope: global has one pool of them all"
        return Conflict((*keys, "experts.policy.scope"), f"{what}; write equal, or scope: layer")
    if policy.shared_buffers() is not None:
        what = "'by_layer' shares slots out to layers, but this policy has buffers of all layers"
        return Conflict(keys, f"{what}; write equal, or another policy")
    return None


RULES: tuple[Rule, ...] = (
    pool_of_one_gpu,
    one_pool_of_equal_slots,
    slots_of_one_layer,
)
