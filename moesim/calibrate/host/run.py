"""The experiment that describes a measured run."""

from __future__ import annotations

from collections.abc import Sequence

from moesim.experiment.loading.resolve import Resolved, Source, load_experiment
from moesim.experiment.loading.warnings import fewer_choices
from moesim.trace.cards import STAND_IN


def experiment_of_run(source: Source, overrides: Sequence[str] = ()) -> Resolved:
    """The experiment in ``source``. Where it names no trace, and the shipped one of its model has
    fewer experts a token than the model, a stand-in with as many: the CPU read them all.
    """
    resolved = load_experiment(source, overrides, alone=True)
    one = resolved.experiment
    if "trace" in one.model_fields_set or not fewer_choices([one]):
        return resolved
    return load_experiment(source, [*overrides, f"trace={STAND_IN}{one.trace}"], alone=True)
