"""How the GPUs of an experiment stand on nodes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.model.slicing import head_counts
from moesim.model.spread import Spread

if TYPE_CHECKING:
    from moesim.experiment.schema.experiment import Experiment
    from moesim.experiment.schema.parallelism import Parallelism
    from moesim.hardware import HardwareProfile
    from moesim.model import ModelSpec


@dataclass(frozen=True)
class Layout(Spread):
    """GPUs on ``nodes``; ``stages`` of them hold consecutive layers each, and count as one."""

    nodes: int = 1
    stages: int = 1

    @property
    def gpus_per_node(self) -> int:
        """GPUs of each node."""
        return self.gpus // self.nodes

    @classmethod
    def of(cls, experiment: Experiment, hardware: HardwareProfile) -> Layout:
        """Raises InputError where the machine, or an even share, does not allow it."""
        asked = experiment.parallelism
        nodes = asked.nodes or -(-asked.expert // hardware.gpus)
        if (wrong := _wrong(asked, nodes, hardware)) is not None:
            raise InputError(f"{wrong[0]}: {wrong[1]}")
        group = asked.expert // nodes if asked.dense == "tensor" else 1
        reduced = reduces(experiment, nodes)
        if asked.exchange in WITH_DENSE and not reduced and asked.expert > 1:
            raise InputError(f"parallelism.exchange: {not_reduced(asked.exchange)}")
        if 1 < asked.slices < asked.expert and not reduced:
            raise InputError(f"parallelism.slice: {APART}")
        spread = cls(
            asked.expert, group, asked.slices, reduced, asked.exchange == ONCE,
            asked.dispatch_dtype, nodes, asked.pipeline,
        )  # fmt: skip
        if (wrong := _wrong_rows(experiment, spread)) is not None:
            raise InputError(f"parallelism.{wrong[0]}: {wrong[1]}")
        return spread


WITH_DENSE = {"all_reduce": "tensor", "all_gather": "data"}
"""Exchanges of all tokens, by what attention leaves where they are wanted."""
ONCE = "deduplicated"
"""The exchange in which a token goes once to each GPU."""
APART = (
    "groups of GPUs that slice experts have all tokens, as no rows are dispatched between groups"
    " yet; write dense: tensor, or exchange: all_gather, with gating: dynamic"
)


def not_reduced(exchange: str) -> str:
    """What such an ``exchange`` goes with."""
    return (
        f"'{exchange}' adds up whole experts whose GPUs have the same tokens; it goes with"
        f" dense: {WITH_DENSE[exchange]}, experts: expert, one node and gating: dynamic"
    )


def reduces(experiment: Experiment, nodes: int) -> bool:
    """Whether every GPU has all tokens in front of experts of its own, or of its group's, so that
    no row is dispatched.
    """
    asked, gating = experiment.parallelism, experiment.gating
    wanted = asked.exchange or ("all_reduce" if asked.dense == "tensor" else "all_to_all")
    alike = WITH_DENSE.get(wanted) == asked.dense and nodes == 1 and asked.expert > 1
    apart = asked.slices < asked.expert and gating.uneven and not gating.agrees
    return alike and apart


def _wrong_rows(experiment: Experiment, spread: Layout) -> tuple[str, str] | None:
    """What is said of rows that go between GPUs, where none do so."""
    if spread.gpus == 1:
        return None
    padded = not experiment.gating.uneven
    if spread.once and (padded or spread.gathers):
        what = f"'{ONCE}' says how rows of whole experts are dispatched, each as its token chooses"
        return "exchange", f"{what}; it goes with gating: dynamic and experts: expert"
    if spread.dispatch_dtype is not None and spread.gathers and not spread.gathers_tokens:
        what = f"'{spread.dispatch_dtype}' is of hidden vectors that go to experts, and every GPU"
        what += " has all of them from attention"
        more = ", with exchange: all_gather" if 1 < spread.slices < spread.gpus else ""
        return "dispatch_dtype", f"{what}; leave it out, or write dense: data{more}"
    if spread.dispatch_dtype is not None and padded:
        what = (
            f"'{spread.dispatch_dtype}' is of hidden vectors as tokens have them, and gatings that"
        )
        what += " pad send the model's own"
        return "dispatch_dtype", f"{what}; leave it out, or write gating: dynamic"
    return None


def _wrong(asked: Parallelism, nodes: int, hardware: HardwareProfile) -> tuple[str, str] | None:
    if asked.pipeline > 1 and (wrong := _wrong_pipeline(asked, hardware)) is not None:
        return "parallelism.pipeline", f"{asked.pipeline} {wrong}"
    gpus, most = asked.expert, hardware.gpus
    key = "parallelism.expert" if asked.nodes is None else "parallelism.nodes"
    if nodes > 1 and hardware.network is None:
        has = f"'{hardware.name}' has no network and {counted(most, 'GPU')} at most"
        file = "a hardware file with it as 'base' and a 'network', as h100-sxm.yaml has one"
        remedy = f"write expert: {min(gpus, most)} and no nodes, or {file}"
        return key, f"{gpus} GPUs on {counted(nodes, 'node')}, but {has}; {remedy}"
    if nodes > gpus:
        return key, f"{nodes} nodes for {counted(gpus, 'GPU')}; write {gpus} or less"
    if gpus > nodes * most:
        needed = f"write {-(-gpus // most)} or more"
        has = f"has {counted(most, 'GPU')}" if nodes == 1 else f"have {nodes * most} GPUs"
        return key, f"{counted(nodes, 'node')} of '{hardware.name}' {has}; {needed}"
    if gpus % nodes:
        what = f"{gpus} GPUs are not the same number on each of {nodes} nodes"
        return key, f"{what}; write expert: {gpus - gpus % nodes} or {gpus + nodes - gpus % nodes}"
    return _wrong_slices(asked, nodes, most)


def _wrong_slices(asked: Parallelism, nodes: int, most: int) -> tuple[str, str] | None:
    gpus, slices = asked.expert, asked.slices
    if asked.experts == "tensor" and slices != gpus:
        what = f"{slices} beside experts: tensor, which is a slice of all {gpus} GPUs"
        return "parallelism.slice", f"{what}; leave one of them out"
    if gpus % slices:
        most = max(n for n in range(1, slices) if gpus % n == 0)
        return (
            "parallelism.slice",
            f"{counted(gpus, 'GPU')} in groups of {slices} leave a rest; write {most}",
        )
    if nodes == 1 or slices == 1:
        return None
    what = f"experts are sliced over GPUs of one node, and these {gpus} are on {nodes}"
    return "parallelism.experts", f"{what}; write expert and no slice, or {most} GPUs or less"


def _wrong_pipeline(asked: Parallelism, hardware: HardwareProfile) -> str | None:
    if asked.pipeline > hardware.gpus:
        has = f"'{hardware.name}' has {counted(hardware.gpus, 'GPU')}"
        return (
            f"stages need a GPU each on one node, and {has} at most; write {hardware.gpus} or less"
        )
    others = [("expert", asked.expert, 1), ("nodes", asked.nodes or 1, 1)]
    split = (
        ("dense", asked.dense, "data"),
        ("experts", asked.experts, "expert"),
        ("slice", asked.slice or 1, 1),
    )
    for key, value, alone in (*others, *split):
        if value != alone:
            return f"stages do not go together with {key}: {value} yet; write {key}: {alone}"
    return None


def undivided_layers(model: ModelSpec, stages: int) -> str | None:
    """Why ``stages`` GPUs cannot hold consecutive layers of ``model`` each, or None."""
    if stages == 1:
        return None
    if model.has_encoder:
        what = f"{model.name} has an encoder, which its decoder's stages would wait for"
        return f"{what}; write pipeline: 1"
    most = len(model.layers)
    if stages > most:
        what = f"{stages} stages for the {counted(most, 'layer')} of {model.name}"
        return f"{what}; write {most} or less"
    return None


def undivided_heads(model: ModelSpec, group: int) -> str | None:
    """Why ``group`` GPUs cannot split the attention of ``model``, or None."""
    odd = sorted(heads for heads in head_counts(model) if heads % group)
    if not odd:
        return None
    return f"{group} GPUs of a node cannot share the {odd[0]} heads of {model.name} evenly"
