"""What an experiment leaves to the things that it names."""

from __future__ import annotations

from moesim.experiment.building.execution import NOTHING, Chosen, execution_of
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.experiment import Experiment


def derived(experiment: Experiment) -> tuple[Experiment, dict[str, str]]:
    """``experiment`` with what a run of it takes where it says ``auto``, and where each such value
    is from, by dotted path. Raises InputError as ``build`` does.
    """
    if experiment.execution != "auto":
        return experiment, {}
    chosen = own_execution(experiment)
    origin = f"from software {experiment.software}: {chosen.reason}"
    return experiment.model_copy(update={"execution": chosen.execution}), {"execution": origin}


def own_execution(experiment: Experiment) -> Chosen:
    """How the experiment's software launches, whatever its ``execution`` says."""
    if not needed("software", experiment.software, experiment.folders).captures:
        return NOTHING
    from moesim.experiment.building.build import build  # loads compiled code

    free = experiment.model_copy(update={"execution": "auto"})
    return execution_of(build(free).case)
