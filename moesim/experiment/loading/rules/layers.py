"""Whole layers that the CPU runs, or that are copied."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.asked import hardware_of, prompts_go
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.memory.host.on_cpu import OnCpu
from moesim.memory.misses.cpu import Cpu

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def layers_of_the_host(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Whole layers on the CPU are for answers of one GPU."""
    if not experiment.host_layers:
        return None
    hardware = hardware_of(experiment)
    wrong = {
        "parallelism.expert": experiment.parallelism.expert > 1 and "with one GPU alone; write 1",
        "parallelism.pipeline": experiment.parallelism.pipeline > 1
        and "of one GPU yet; write pipeline: 1, or experts.on_cpu",
        "workload.phase": experiment.workload.phase != "decode"
        and Cpu(copies_from="never") != experiment.experts.miss
        and "in decode steps alone, as of longer prompts engines copy the layers; write phase:"
        " decode, or experts: {miss: {kind: cpu, copies_from: never}} where the CPU computes them",
        "gating": kind_of(type(experiment.gating)) != "dynamic" and "with dynamic gating alone",
        "experts.prefetch": experiment.experts.prefetch.fetches and "without prefetch; write none",
        "hardware": hardware is not None
        and hardware.unified
        and "where the GPU has a memory of its own",
        "model": model is not None and model.has_encoder and "of models without an encoder",
    }
    return first_wrong(("host_layers",), "layers run on the CPU", wrong)


def layers_that_are_copied(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Whole layers are copied over a link that nothing else uses meanwhile, to one GPU."""
    del model
    if not experiment.offload_layers:
        return None
    hardware = hardware_of(experiment)
    experts, asked = experiment.experts, experiment.parallelism
    wrong = {
        "parallelism.expert": asked.expert > 1 and "to one GPU alone yet; write 1",
        "parallelism.pipeline": asked.pipeline > 1 and "to one GPU alone yet; write pipeline: 1",
        "host_layers": experiment.host_layers > 0 and "and run on the GPU; leave host_layers out",
        "experts.on_cpu": experts.on_cpu != OnCpu()
        and "with their experts; leave on_cpu out, or offload_layers",
        "experts.host": experts.host.capacity.kind != "all"
        and "from a host that holds all of them; write capacity: all",
        "experts.policy": experts.policy.scope == "global"
        and "beside slots of each other layer; write scope: layer",
        "experts.slots": experts.slots.kind != "equal"
        and "beside equal slots of the others; write equal",
        "experts.prefetch": experts.prefetch.fetches and "without prefetch yet; write none",
        "experts.miss": experts.miss.copies_behind
        and "without copies in the background yet; write load or cpu",
        "workload.prefill.experts": prompts_go(experiment) == "stream"
        and "without prompts that stream; write cache",
        "hardware": hardware is not None
        and hardware.unified
        and "where the GPU has a memory of its own",
    }
    return first_wrong(("offload_layers",), "layers are copied", wrong)


def layers_that_fit(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """How many layers the CPU has to take follows only where all others are whole on the GPUs."""
    del model
    room, keys = experiment.experts, ("experts.on_cpu.layers", "experts.capacity")
    if not room.on_cpu.fitted or room.capacity.kind == "all":
        return None
    what = "'auto' is the fewest layers with which the GPUs hold all experts of the others, and"
    what += f" capacity: {room.capacity} holds a part; write capacity: all, or a number of layers"
    return Conflict(keys, what)


RULES: tuple[Rule, ...] = (
    layers_that_fit,
    layers_of_the_host,
    layers_that_are_copied,
)
