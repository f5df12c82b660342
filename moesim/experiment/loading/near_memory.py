"""What does not go together yet with experts that a near-memory device computes."""

from __future__ import annotations

from moesim.experiment.loading.names import loaded
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.on_cpu import OnCpu


def beside_near_memory(experiment: Experiment) -> dict[str, str | bool]:
    """By key what is wrong with it, in words."""
    experts, asked = experiment.experts, experiment.parallelism
    machine, cost = (
        loaded("hardware", experiment.hardware, experiment.folders),
        experiment.cost,
    )
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
