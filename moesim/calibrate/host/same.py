"""Whether an experiment describes the run that was measured, as far as that says."""

from __future__ import annotations

from moesim.calibrate.host.bench_serve import check_served, served_warnings
from moesim.calibrate.host.measured import Measured
from moesim.config.errors import InputError
from moesim.experiment.schema.experiment import Experiment
from moesim.model.spec import ModelSpec

PARAMETERS_APART = 0.05
"""Of one model at most: layers that predict further tokens count in some files (GLM-4.5-Air: 3 %).
"""


def check_same(experiment: Experiment, model: ModelSpec, measured: Measured) -> None:
    """An InputError where the measured run had another model, or other layers on the CPU."""
    _check_model(model, measured)
    if measured.served is not None:
        check_served(experiment, measured.served)
    if (first := measured.layers_on_cpu) is None:
        return
    wanted = [layer.index < first for layer in model.moe_layers]
    if (own := experiment.experts.on_cpu.of(model)) != wanted:
        what = f"has {sum(own)} layers on the CPU, but the run had n_cpu_moe {first}"
        raise InputError(f"experts.on_cpu: {what}; write layers: {sum(wanted)}")


def _check_model(model: ModelSpec, measured: Measured) -> None:
    if (theirs := measured.parameters) is None:
        return
    if abs(theirs / model.parameters - 1) > PARAMETERS_APART:
        own = f"'{model.name}' has {model.parameters / 1e9:.1f} B parameters"
        what = f"{own}, but the run's model {theirs / 1e9:.1f} B; name the run's"
        raise InputError(f"model: {what}")


def run_warnings(experiment: Experiment, measured: Measured) -> list[str]:
    """What of the run is otherwise in the experiment, where both are known: the contexts that its
    cache held, or the requests.
    """
    if measured.served is not None:
        return list(served_warnings(experiment, measured.served))
    asked, depth = experiment.workload.context, measured.depth
    if not depth or (asked is not None and abs(asked / depth - 1) <= PARAMETERS_APART):
        return []
    own = "the trace's own" if asked is None else f"{asked:,} tokens"
    what = f"the run began at a depth of {depth:,} tokens, the experiment's context is {own}"
    return [f"warning: workload.context: {what}; write workload: {{context: {depth}}}"]
