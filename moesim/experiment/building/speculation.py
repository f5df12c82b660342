"""Requests whose decode steps verify drafts, and what makes these."""

from __future__ import annotations

from moesim.config.errors import InputError
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.traces import model_of
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout, undivided_heads
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


def drafter_of(experiment: Experiment, layout: Layout) -> Drafter | None:
    """What makes the drafts of ``experiment``, as each GPU has it; None where that is free."""
    asked = experiment.workload.speculative
    if asked is None or not asked.drafts:
        return None
    times, drafter = asked.num_speculative_tokens, None
    if isinstance(asked, Mtp):
        drafter = Drafter.of_mtp(model_of(experiment), times)
    elif isinstance(asked, Draft):
        drafter = Drafter.of_model(needed("model", asked.model, experiment.folders), times)
    if drafter is not None and (what := undivided_heads(drafter.model, layout.group)) is not None:
        raise InputError(f"workload.speculative: {what}; write dense: data, or another draft model")
    return drafter and drafter.of_each(layout)
