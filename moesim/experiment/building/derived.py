"""What an experiment leaves to the things that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.counted import counted
from moesim.experiment.building.execution import NOTHING, Chosen, execution_of
from moesim.experiment.building.of_card import said_of_card
from moesim.experiment.building.storage_path import ChosenPath, path_of
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.traces import model_of
from moesim.experiment.schema.experiment import Experiment

if TYPE_CHECKING:
    from moesim.experiment.building.built import Built


def derived(
    experiment: Experiment, built: list[Built] | None = None
) -> tuple[Experiment, dict[str, str]]:
    """``experiment`` with what a run of it takes where it says ``auto`` or leaves it to the card,
    and where each such value is from, by dotted path. What it had to build as a run does is left in
    ``built``. Raises InputError as ``build`` does.
    """
    experiment, origins = said_of_card(experiment)
    of = f"from software {experiment.software}"
    experiment, fitted = layers_in_numbers(experiment)
    if fitted:
        origins["experts.on_cpu.layers"] = fitted
    if experiment.execution == "auto":
        launched = own_execution(experiment, [] if built is None else built)
        origins["execution"] = f"{of}: {launched.reason}"
        experiment = experiment.model_copy(update={"execution": launched.execution})
    room = experiment.experts.host
    if room.path == "auto" and room.capacity.kind != "all":
        came = own_path(experiment)
        origins["experts.host.path"] = f"{of}: {came.reason}"
        read = room.model_copy(update={"path": came.path})
        experts = experiment.experts.model_copy(update={"host": read})
        experiment = experiment.model_copy(update={"experts": experts})
    return experiment, origins


def layers_in_numbers(experiment: Experiment, context: int | None = None) -> tuple[Experiment, str]:
    """``experiment`` with the layers that ``auto`` leaves to the CPU as a number, and how many
    these are, in words; "" where it says no such thing. ``context``: tokens of a request, in place
    of its own. Raises InputError as ``build`` does.
    """
    if not experiment.experts.on_cpu.fitted:
        return experiment, ""
    from moesim.experiment.building.build import with_layers_fitted  # loads compiled code

    fitted = with_layers_fitted(experiment, context)
    flags = fitted.experts.on_cpu.of(model_of(experiment))
    return fitted, f"auto: {sum(flags)} of {counted(len(flags), 'layer')} on the CPU"


def own_path(experiment: Experiment) -> ChosenPath:
    """How the experiment's software has experts from its drive, if nothing is said."""
    hardware = needed("hardware", experiment.hardware, experiment.folders)
    software = needed("software", experiment.software, experiment.folders)
    return path_of(experiment.experts.host, software, hardware)


def own_execution(experiment: Experiment, built: list[Built]) -> Chosen:
    """How the experiment's software launches; what is ``built`` for it is added."""
    if not needed("software", experiment.software, experiment.folders).captures:
        return NOTHING
    from moesim.experiment.building.build import build  # loads compiled code

    built.append(build(experiment))
    return execution_of(built[-1].case)
