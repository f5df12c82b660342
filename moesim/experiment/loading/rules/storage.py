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
    if asked.host.chunk is not None:
        what = f"no copy follows the read where there is one memory, as on {hardware.name}"
        return Conflict(("experts.host.chunk", "hardware"), f"{what}; leave this out")
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
    if experiment.experts.prefetch.fetches:
        what = "reads from storage do not go together with prefetch yet; write prefetch: none"
        return Conflict(("experts.prefetch", *keys, "hardware"), what)
    if prompts_go(experiment) == "stream":
        what = "reads from storage do not go together with prompts that stream yet; write bypass"
        return Conflict(("workload.prefill.experts", *keys, "hardware"), what)
    return None


RULES: tuple[Rule, ...] = (
    one_memory_holds_all,
    storage_below_the_host,
)
