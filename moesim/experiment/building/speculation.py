"""Requests whose decode steps verify drafts, and what makes these."""

from __future__ import annotations

from moesim.experiment.loading.names import needed
from moesim.experiment.schema.experiment import Experiment
from moesim.model import ModelSpec
from moesim.model.drafting import Drafter
from moesim.trace import RoutingTrace
from moesim.workload.requests import Requests
from moesim.workload.speculation import Draft, Mtp, speculated


def requests_of(experiment: Experiment, trace: RoutingTrace) -> Requests:
    """The requests of ``experiment``, with the steps that it speculates them to have."""
    workload = experiment.workload
    requests = Requests.of(trace, workload.phase, workload.requests)
    asked = workload.speculative
    if asked is None or not asked.drafts:
        return requests
    return speculated(requests, trace, asked, experiment.seed)


def drafter_of(experiment: Experiment, model: ModelSpec) -> Drafter | None:
    """What makes the drafts of ``experiment``; None where that is free."""
    asked = experiment.workload.speculative
    if asked is None or not asked.drafts:
        return None
    times = asked.num_speculative_tokens
    if isinstance(asked, Mtp):
        return Drafter.of_mtp(model, times)
    if isinstance(asked, Draft):
        return Drafter.of_model(needed("model", asked.model, experiment.folders), times)
    return None
