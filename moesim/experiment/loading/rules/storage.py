"""What is read from storage, into the host or into the one memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.asked import hardware_of, in_place, prompts_go
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def one_memory_holds_all(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Where CPU and GPU share one memory, experts that are not in it come from storage, and the
    GPU's slots are the room for them.
    """
    if not in_place(experiment, model):
        return None
    hardware, asked = hardware_of(experiment), experiment.experts
    if hardware.host.storage is None:
        what = f"'{asked.capacity}' leaves experts out, and {hardware.name} has one memory to load"
        what += " them from and to; write all, or a drive that they are read from, as in"
        what += f" hardware: {{base: {hardware.name}, storage: nvme-pcie4}}"
        return Conflict(("experts.capacity", "hardware", "model", "parallelism.expert"), what)
    if asked.host.capacity.kind != "all":
        what = f"{hardware.name} has one memory, whose room for experts is experts.capacity"
        return Conflict(("experts.host.capacity", "hardware"), f"{what}; leave this out")
    for key in ("chunk", "layers_ahead"):
        if getattr(asked.host, key) is not None:
            what = f"{hardware.name} has one memory, into which experts are read one by one"
            return Conflict((f"experts.host.{key}", "hardware"), f"{what}; leave this out")
    if asked.miss.uses_host or asked.miss.uses_link:
        what = f"'{kind_of(type(asked.miss))}' uses experts in a memory of the host, and"
        what += f" {hardware.name} has one memory"
        return Conflict(("experts.miss", "hardware"), f"{what}; write load")
    return None


def storage_below_the_host(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Reads follow what the caches of GPUs decide without a clock, in order."""
    room, keys = experiment.experts.host, ("experts.host", "experts.host.capacity")
    if room.capacity.kind == "all" and not in_place(experiment, model):
        return None
    policy, name = room.policy, kind_of(type(room.policy))
    special = policy.looks_ahead or policy.weighs or policy.restarts
    if special or policy.shared_buffers() is not None:
        what = f"'{name}' needs to know more of a use than that it is one; write lru or lfu_decay"
        return Conflict(("experts.host.policy", "experts.host.policy.kind"), what)
    if experiment.experts.prefetch.fetches and (found := _read_ahead(experiment, model)):
        return found
    if room.layers_ahead is not None and (found := _layers_ahead(experiment)):
        return found
    several = experiment.parallelism.expert > (experiment.parallelism.nodes or 1)
    if several and prompts_go(experiment) == "stream":
        what = "prompts that stream read from storage for one GPU a node yet; write bypass"
        return Conflict(("workload.prefill.experts", *keys, "parallelism.expert"), what)
    return None


def _layers_ahead(experiment: Experiment) -> Conflict | None:
    """A window over layers is of one GPU a node, and of what misses want."""
    asked, experts = experiment.parallelism, experiment.experts
    wrong = {
        "parallelism.expert": asked.expert > (asked.nodes or 1) and "for one GPU a node yet",
        "experts.prefetch": experts.prefetch.fetches and "without prefetch; write none",
        "workload.prefill.experts": prompts_go(experiment) == "stream"
        and "without prompts that stream yet; write cache or bypass",
        "experts.host.policy": kind_of(type(experts.host.policy)) != "lru"
        and "in order, and no policy chooses what makes room; leave policy out",
    }
    for key, what in wrong.items():
        if what:
            return Conflict(("experts.host.layers_ahead", key), f"layers are read ahead {what}")
    return None


def _read_ahead(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What is read ahead is of one GPU a node, which alone asks the host, and may be cancelled."""
    asked, policy = experiment.parallelism, experiment.experts.host.policy
    key = "experts.prefetch"
    if asked.expert > (asked.nodes or 1):
        what = "is read from storage for one GPU a node yet; write none, or as many nodes as GPUs"
        return Conflict((key, "parallelism.expert", "parallelism.nodes"), what)
    if policy.lists:
        what = f"reads that are cancelled go past '{kind_of(type(policy))}', which keeps lists of"
        what += " what is in memory; write lru or lfu_decay"
        return Conflict(("experts.host.policy", "experts.host.policy.kind", key), what)
    if model is None or not model.moe_layers:
        return None
    most = max(layer.moe.experts for layer in model.moe_layers if layer.moe)
    if experiment.placement.spare(most, experiment.folders) > 0:
        what = "is read from storage once for each expert, which replicas have several of yet;"
        return Conflict((key, "placement"), f"{what} plan without, or write none")
    return None


RULES: tuple[Rule, ...] = (
    one_memory_holds_all,
    storage_below_the_host,
)
