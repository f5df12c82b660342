"""Parts of an expert, and in which formats parts and variants may be."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.pieces import pieces_of, wrong_piece
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_software
from moesim.memory.host.on_cpu import OnCpu

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def parts_of_experts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Parts are priced and copied as one expert, by GPUs that hold experts whole."""
    del model
    room = experiment.experts
    if room.parts is None:
        return None
    wrong: dict[str, str | bool] = {
        "experts.variants": room.variants is not None and "without variants yet; write either",
        "experts.miss": kind_of(type(room.miss)) not in ("load", "skip")
        and "with misses that load or skip alone",
        "experts.on_cpu": room.on_cpu != OnCpu() and "without layers on the CPU yet",
        "host_layers": experiment.host_layers > 0 and "without layers on the CPU yet; write 0",
        "offload_layers": bool(experiment.offload_layers) and "without copied layers yet; write 0",
        "software": load_software(experiment.software, experiment.folders).unpacking_bytes > 0
        and "without software that unpacks experts yet; write another software",
        "parallelism.experts": experiment.parallelism.slices > 1
        and "with whole experts yet; write parallelism.experts: expert",
        "workload.speculative": experiment.workload.speculative is not None
        and "without drafts yet; leave speculative out",
    }
    return first_wrong(("experts.parts",), "parts work", wrong)


def pieces_that_models_have(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Each variant and part is in a format, and of a rank, that the model can have."""
    for path, piece in pieces_of(experiment.experts) if model is not None else ():
        if (wrong := wrong_piece(experiment, path, piece)) is not None:
            return Conflict((wrong[0], path, path.rpartition(".")[0], "model"), wrong[1])
    return None


RULES: tuple[Rule, ...] = (parts_of_experts, pieces_that_models_have)
