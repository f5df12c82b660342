"""How far the best choice's speed moves with what nobody measured."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.described.host import ExpertShare
from moesim.hardware.described.reached import faults_reach
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.operations.copies.storage_read import faults_are_prior
from moesim.hardware.operations.kernels.cpu_expert import REACHED, node_notes, share_is_prior
from moesim.sweep.advise.choices import with_settings
from moesim.sweep.advise.profiles import write_upgrade
from moesim.sweep.advise.upgrades import CHANGED, Upgrade, changed, times
from moesim.trace.cards import STAND_IN, scaled_from
from moesim.trace.synthesis.stand_in import RECORDED

HOST, NODES, DRIVE, TRACE, CONTEXT = "host", "nodes", "drive", "trace", "context"
"""What a varied run is about."""


@dataclass(frozen=True)
class Varied:
    """The best choice with something that nobody knows set otherwise: ``of`` what, in ``words``,
    and its tokens a second, None where it did not run.
    """

    of: str
    words: str
    throughput: float | None = None


@dataclass(frozen=True)
class Variation:
    """A run to be made: what it is, what it sets, its experiment."""

    varied: Varied
    settings: Mapping[str, Any]
    experiment: Experiment


def variations(
    best: Experiment, summary: Mapping[str, Any], settings: Mapping[str, Any], out: Path
) -> Iterator[Variation]:
    """Of the experiment of the best choice, whose run has ``summary`` and which sets ``settings``:
    the host's share where that is a prior, its other NUMA nodes where nothing says what they add,
    what page faults reach where that is another drive's, the traces where there is a stand-in, and
    no context where one is set. Profiles go to the folder ``out``.
    """
    context = best.workload.context
    same = {"hardware": best.hardware, "trace": best.trace, "workload.context": context}
    guessed = summary.get("host_notes") and share_is_prior(_machine(best))
    for share in REACHED if guessed else ():
        profile = write_upgrade(out, best, _machine(best), reaching(share))
        made = best.model_copy(update={"hardware": profile})
        varied = Varied(HOST, f"{share:.0%} of the DRAM peak")
        yield Variation(varied, {**settings, **same, "hardware": profile}, made)
    nodes = summary.get("host_notes") and node_notes(_machine(best).host)
    if nodes and best.parallelism.expert == 1:
        profile = write_upgrade(out, best, _machine(best), ALL_NODES)
        made = best.model_copy(update={"hardware": profile})
        varied = Varied(NODES, "all of the other NUMA nodes")
        yield Variation(varied, {**settings, **same, "hardware": profile}, made)
    faults = summary.get("storage_path") == "mmap" and faults_are_prior(_machine(best))
    for share in faults_reach() if faults else ():
        profile = write_upgrade(out, best, _machine(best), _faulting(share))
        made = best.model_copy(update={"hardware": profile})
        varied = Varied(DRIVE, f"{share:.0%} of the drive's reads by page faults")
        yield Variation(varied, {**settings, **same, "hardware": profile}, made)
    for name in stand_ins(best):
        made = best.model_copy(update={"trace": name})
        yield Variation(Varied(TRACE, name), {**settings, **same, "trace": name}, made)
    if context is not None:
        made = with_settings(best, {"workload.context": "null"})
        varied = Varied(CONTEXT, "the trace's own lengths")
        yield Variation(varied, {**settings, **same, "workload.context": None}, made)


def stand_ins(experiment: Experiment) -> list[str]:
    """The other traces that might stand in where a stand-in is the trace."""
    if scaled_from(experiment.trace) is None:
        return []
    every = (f"{STAND_IN}{one}" for one in RECORDED)
    return [name for name in every if name != experiment.trace]


def _machine(experiment: Experiment) -> HardwareProfile:
    return load_hardware(experiment.hardware, experiment.folders)


def reaching(share: float) -> Upgrade:
    """No upgrade, but a machine whose experts on the CPU reach this share of the DRAM peak."""

    def change(hardware: HardwareProfile) -> HardwareProfile:
        reached = ExpertShare.of(share, CHANGED)
        return changed(hardware, host=changed(hardware.host, expert_fraction=reached))

    title = f"experts on the CPU at {share:.0%} of the DRAM peak"
    return Upgrade(f"host_share_{share:.0%}".rstrip("%"), title, change)


def _of_all_nodes(hardware: HardwareProfile) -> HardwareProfile:
    added = Sourced(value=1.0, source=CHANGED)
    return changed(hardware, host=changed(hardware.host, remote_node_fraction=added))


ALL_NODES = Upgrade("all_nodes", "experts with all of the other NUMA nodes", _of_all_nodes)
"""No upgrade, but a machine whose experts on the CPU lie on all its NUMA nodes without loss."""


def _faulting(share: float) -> Upgrade:
    """No upgrade, but a machine whose page faults reach this share of the drive's reads."""

    def change(hardware: HardwareProfile) -> HardwareProfile:
        storage = hardware.host.storage
        assert storage is not None, "a machine with a drive"
        reached = changed(storage, mapped_bandwidth=times(storage.bandwidth, share))
        return changed(hardware, host=changed(hardware.host, storage=reached))

    title = f"page faults at {share:.0%} of the drive's reads"
    return Upgrade(f"faults_{share:.0%}".rstrip("%"), title, change)


def span(varied: tuple[Varied, ...], of: str, own: float) -> tuple[float, float] | None:
    """The least and the most tokens a second over the runs ``of`` one thing and the answer's
    ``own``; None where none ran.
    """
    found = [one.throughput for one in varied if one.of == of and one.throughput]
    return (min(*found, own), max(*found, own)) if found else None
