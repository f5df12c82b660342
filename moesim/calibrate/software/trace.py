"""Hit ratios of a trace with the slots that rows of an engine name."""

from __future__ import annotations

from collections.abc import Sequence

from moesim.config.errors import InputError
from moesim.engine.program import Program
from moesim.engine.tally import Tally
from moesim.experiment.building.build import build
from moesim.experiment.schema.experiment import Experiment


def trace_hits(trace: str, model: str, hardware: str, slots: Sequence[str]) -> dict[str, float]:
    """Hits over activations under lru of every entry of ``slots`` that is a whole number of
    experts.

    InputError where the trace does not fit the model.
    """
    found = {}
    for name in slots:
        if not (name.isdecimal() and int(name)):
            continue
        experiment = Experiment.model_validate(
            {
                "model": model,
                "hardware": hardware,
                "trace": trace,
                "experts": {"capacity": f"{int(name)} slots/layer"},
            }
        )
        built = build(experiment)
        tally = Tally(built.case)
        for chunk in Program(built.case).chunks():
            tally.add(chunk)
        counts = tally.total()
        found[name] = float(counts.hits.sum() / counts.activations.sum())
    if not found:
        raise InputError("--trace: no row's slots are a whole number of experts above 0")
    return found
