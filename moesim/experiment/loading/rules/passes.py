"""Which passes a model can make, and which of them drafts are for."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.errors import InputError
from moesim.config.registry import kind_of
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.workload.speculation import Draft, Mtp

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def encoder_for_encode(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The phase ``encode`` runs the encoder."""
    if model is None or experiment.workload.phase != "encode" or model.has_encoder:
        return None
    what = f"'encode' needs a model with an encoder; {model.name} has none"
    return Conflict(("workload.phase", "model"), f"{what}; write decode, prefill or all")


def context_of_decode_steps(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A context is one that decode steps have, and that the model takes."""
    phase, context = experiment.workload.phase, experiment.workload.context
    if context is None:
        return None
    if phase not in ("decode", "all"):
        what = f"is that of decode steps, and phase '{phase}' has none; leave it out"
        return Conflict(("workload.context", "workload.phase"), what)
    return _beyond("workload.context", context, model)


def longest_request(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A server takes no longer requests than its model."""
    scheduler = getattr(experiment.workload.batching, "scheduler", None)
    key = "workload.batching.scheduler.max_model_len"
    return _beyond(key, getattr(scheduler, "max_model_len", None), model)


def _beyond(key: str, context: int | None, model: ModelSpec | None) -> Conflict | None:
    """That ``context``, the value at ``key``, is longer than what ``model`` takes."""
    if model is None or context is None or context <= (model.longest_context or context):
        return None
    longest = model.longest_context
    what = f"{context:,} tokens are more than the {longest:,} of {model.name}"
    remedy = f"write {longest} or less, or name a config.json with more max_position_embeddings"
    return Conflict((key, "model"), f"{what}; {remedy}, as YaRN stretches them")


def experts_to_route_to(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A trace needs MoE layers."""
    del experiment
    if model is None or model.moe_layers:
        return None
    remedy = f"its networks are one each with {{base: {model.name}, ffn: experts}}"
    return Conflict(
        ("model",), f"{model.name} has no MoE layer; name a model with experts; {remedy}"
    )


def drafts_of_decode_steps(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Drafts are verified by decode steps that are known beforehand."""
    del model
    workload = experiment.workload
    if workload.speculative is None:
        return None
    if workload.phase not in ("decode", "all"):
        what = f"drafts are verified in decode steps, and phase '{workload.phase}' has none"
        return Conflict(("workload.speculative", "workload.phase"), f"{what}; leave it out")
    if workload.batching.reads_clock:
        kind = kind_of(type(workload.batching))
        what = f"does not go together with '{kind}', which says during the run who decodes, yet"
        return Conflict(("workload.speculative", "workload.batching"), f"{what}; write static")
    return None


def what_drafts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A model has the layer that drafts, or a dense one beside it does."""
    asked = experiment.workload.speculative
    if isinstance(asked, Mtp) and model is not None and not model.mtp_layers:
        what = f"{model.name} has no MTP layer; write ngram, or draft with a smaller model"
        return Conflict(("workload.speculative.kind", "model"), what)
    if not isinstance(asked, Draft):
        return None
    try:
        smaller = needed("model", asked.model, experiment.folders)
    except InputError as error:
        said = "; ".join(problem.what for problem in error.problems)
        return Conflict(("workload.speculative.model",), said)
    if not smaller.moe_layers:
        return None
    what = f"{smaller.name} has experts, and which of them its drafts need is not known"
    return Conflict(("workload.speculative.model",), f"{what}; name a dense model")


RULES: tuple[Rule, ...] = (
    encoder_for_encode,
    context_of_decode_steps,
    longest_request,
    experts_to_route_to,
    drafts_of_decode_steps,
    what_drafts,
)
