"""Which slots there are: of each layer, or of all."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.asked import expert_bytes
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.forms import LOADED
from moesim.memory.slots.room import goes_by_bytes

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


def pool_by_bytes(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Where experts of layers differ in bytes, one that comes into a pool may push out several."""
    experts = experiment.experts
    if model is None or experts.policy.scope != "global":
        return None
    sizes = sorted(set(expert_bytes(model)))
    if len(sizes) <= 1:
        return None
    policy, miss = kind_of(type(experts.policy)), kind_of(type(experts.miss))
    several = experts.miss.loads and experts.miss.forms != (LOADED,)
    wrong: dict[str, str | bool] = {
        "experts.policy": not goes_by_bytes(type(experts.policy))
        and f"without '{policy}' yet; write lru, fifo, lifo, lfu or static, or scope: layer",
        "experts.miss": several
        and f"without '{miss}' yet; write load, cpu, zero_copy or skip, or scope: layer",
        "experts.prefetch": experts.prefetch.fetches
        and "without prefetch yet; write none, or scope: layer",
        "experts.variants": experts.variants is not None
        and "without variants yet; leave them out, or write scope: layer",
    }
    keys = ("experts.policy.scope", "experts.policy", "model")
    of = f"of {sizes[0]} to {sizes[-1]} bytes, as {model.name} has them,"
    return first_wrong(keys, f"'global' pools experts {of}", wrong)


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
    pool_by_bytes,
    slots_of_one_layer,
)
