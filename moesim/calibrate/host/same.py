"""Whether an experiment describes the run that was measured, as far as that says."""

from __future__ import annotations

from math import isclose

from moesim.calibrate.host.bench_serve import check_served, served_warnings
from moesim.calibrate.host.measured import Measured
from moesim.config.errors import InputError
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_hardware
from moesim.hardware.operations.kernels.cpu_expert import fitted_speed
from moesim.model.spec import ModelSpec

FROM_PROMPTS = {"mean_ttft_ms": "first tokens", "mean_e2el_ms": "times from prompt to end"}
"""Times of requests that have their prompts in them, and what they are."""
SHALLOW = 512
"""Tokens of a context that take about as long as none."""
ROUNDED = 1e-3
"""As far as two notes of one speed may differ."""
DEPTH_APART = 0.05
"""As a share of the depth, of one that is the same."""
PARAMETERS_APART = 0.05
"""Of one model at most: layers that predict further tokens count in some files (GLM-4.5-Air: 3 %).
"""


def check_not_fitted(experiment: Experiment, tokens_per_s: float) -> None:
    """An InputError where the experiment's host was fitted to a run of just this speed."""
    fitted = fitted_speed(load_hardware(experiment.hardware, experiment.folders))
    if fitted is not None and isclose(fitted, tokens_per_s, rel_tol=ROUNDED):
        what = f"its host was fitted to a run of {fitted:g} tokens/s, which is this one; what it"
        what += " predicts of it is no evidence: take the host that it was fitted from, or a run"
        raise InputError(f"hardware: {what} that it was not fitted to")


def check_same(experiment: Experiment, model: ModelSpec, measured: Measured) -> None:
    """An InputError where the measured run had another model, or other layers on the CPU."""
    _check_model(model, measured)
    if measured.served is not None:
        check_served(experiment, measured.served)
    told = [what for name, what in FROM_PROMPTS.items() if name in measured.times]
    if told and experiment.workload.phase == "decode":
        what = f"has no {told[0]}, as its prompts are computed elsewhere (decode); write all"
        raise InputError(f"workload.phase: {what}")
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
    if depth is None or _as_deep(asked, depth):
        return []
    own = "the trace's own" if asked is None else f"{asked:,} tokens"
    what = f"the run began at a depth of {depth:,} tokens, the experiment's context is {own}"
    remedy = f"write workload: {{context: {depth}}}" if depth else "leave it out"
    return [f"warning: workload.context: {what}; {remedy}"]


def _as_deep(asked: int | None, depth: int) -> bool:
    """Whether the context that is ``asked`` for is that of a run at this ``depth``; the trace's own
    (None) is, where the run began with an empty cache.
    """
    if asked is None or not depth:
        return not depth and (asked or 0) <= SHALLOW
    return abs(asked / depth - 1) <= DEPTH_APART
