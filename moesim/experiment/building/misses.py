"""How misses are handled in a run, with what the software says of it."""

from __future__ import annotations

from typing import Literal

from moesim.config.registry import answering, wrong_answer
from moesim.experiment.loading.rules.copies import what_stays_on_cpu
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import SoftwareProfile
from moesim.memory.host.on_cpu import OnCpu
from moesim.memory.misses.base import MissHandling, fault_of_way
from moesim.memory.misses.cpu import Cpu
from moesim.model.spec import ModelSpec


def way_of(experiment: Experiment, software: SoftwareProfile, model: ModelSpec) -> MissHandling:
    """How misses are handled; an InputError where that is no form of it."""
    way = experiment.experts.miss.resolved()
    with answering("experts.miss", way):
        fault = fault_of_way(way)
    if fault:
        raise wrong_answer("experts.miss", way, fault)
    if isinstance(way, Cpu):
        return way.model_copy(update={"copies_from": _copies_from(experiment, software, model)})
    return way


def way_beside_layers_on_cpu(
    experiment: Experiment, software: SoftwareProfile, model: ModelSpec
) -> Cpu:
    """The same where layers' experts are on the CPU, and all others are there."""
    return Cpu(copies_from=_copies_from(experiment, software, model))


def _copies_from(
    experiment: Experiment, software: SoftwareProfile, model: ModelSpec
) -> int | Literal["never"]:
    """Tokens of a pass from which on the GPU computes what the CPU has: where it is left to the
    software, of layers on the CPU alone, and where nothing else is said of prompts or copies.
    """
    miss = experiment.experts.miss
    asked = miss.copies_from if isinstance(miss, Cpu) else "software"
    if asked != "software":
        return asked
    elsewhere = experiment.experts.on_cpu == OnCpu() or experiment.host_layers > 0
    if elsewhere or software.copies_from == "never" or what_stays_on_cpu(experiment):
        return "never"
    return max(software.copies_from, _tokens_of(software.copies_from_rows, model))


def _tokens_of(rows: int, model: ModelSpec) -> int:
    """Tokens of a pass of which each expert of every layer has as many ``rows`` in the mean."""
    experts = [layer.moe for layer in model.layers if layer.moe is not None]
    return max(-(-rows * moe.experts // moe.top_k) for moe in experts)
