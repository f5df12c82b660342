"""What does not go together yet with experts that a near-memory device computes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.experiment.loading.rules.asked import hardware_of
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.described.near_memory import NearMemory
from moesim.memory.host.on_cpu import OnCpu
from moesim.memory.misses.cpu import Cpu

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def near_memory_of_one_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A near-memory device holds all experts of one GPU that are not there."""
    del model
    if not experiment.experts.miss.near_memory:
        return None
    keys = ("experts.miss.computed_by", "experts.miss")
    return first_wrong(keys, "experts are computed near memory", _beside(experiment))


def _beside(experiment: Experiment) -> dict[str, str | bool]:
    """By key what is wrong with it, in words."""
    experts, asked = experiment.experts, experiment.parallelism
    machine, cost = hardware_of(experiment), experiment.cost
    return {
        "hardware": machine is not None
        and machine.near_memory is None
        and "by a device that the machine has; write one, as in hardware: {base: rtx-4090,"
        " near_memory: monde} ('moesim list near_memory')",
        "parallelism.expert": asked.expert > 1 and "for one GPU alone yet; write 1",
        "parallelism.pipeline": asked.pipeline > 1 and "for one GPU alone yet; write 1",
        "host_layers": experiment.host_layers > 0 and "without layers on the CPU; write 0",
        "experts.on_cpu": experts.on_cpu != OnCpu() and "in every layer; leave on_cpu out",
        "offload_layers": bool(experiment.offload_layers)
        and "without layers that the host keeps; write 0",
        "experts.host.capacity": experts.host.capacity.kind != "all"
        and "which holds all of them, and no storage below it; write all",
        "energy": experiment.energy is not None
        and "without energy, as what such a device draws is not known yet; leave energy out",
        "cost.electricity": cost is not None
        and cost.electricity is not None
        and "without energy, as what such a device draws is not known yet; leave this out",
    }


def units_of_an_expert(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Experts that lie on some units of a device are all computed there."""
    del model
    miss, machine = experiment.experts.miss, hardware_of(experiment)
    if miss.near_units is None:
        return None
    device: NearMemory | None = None if machine is None else machine.near_memory
    wrong: dict[str, str | bool] = {
        "experts.miss.computed_by": not miss.near_memory
        and "are a near-memory device's; write computed_by: near_memory, or leave this out",
        "experts.miss": not isinstance(miss, Cpu)
        and "go with kind: cpu alone: the others add up what experts take one after the other,"
        " which groups of units do not; leave this out",
        "hardware": device is not None
        and miss.near_units > device.number
        and f"are {device.number:,} at most, those that the device has; write fewer, or more of"
        " hardware.near_memory.units",
    }
    said = f"{miss.near_units:,} units of an expert"
    return first_wrong(("experts.miss.units_per_expert", "experts.miss"), said, wrong)


RULES: tuple[Rule, ...] = (near_memory_of_one_gpu, units_of_an_expert)
