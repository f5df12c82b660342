"""What is copied ahead of need."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.pieces import experts_in, wrong_piece
from moesim.experiment.loading.rules.asked import expert_bytes, prompts_go
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_software
from moesim.memory.choices.gate_cumulative import GateCumulative

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def prefetch_beside_the_kernels(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Prefetches are copied beside kernels, into slots that a policy gives up."""
    del model
    prefetch, policy = experiment.experts.prefetch, experiment.experts.policy
    if not prefetch.fetches:
        return None
    name, keys = kind_of(type(prefetch)), ("experts.prefetch",)
    software = load_software(experiment.software, experiment.folders)
    beside = software.overlap and not (software.blocking and experiment.execution != "graph")
    if not (beside or prefetch.before_pass):
        what = f"'{name}' copies beside kernels, and the software '{experiment.software}' does not"
        remedy = "write none, when: before_pass, or another software"
        return Conflict((*keys, "software"), f"{what}; {remedy}")
    if policy.lists or policy.shared_buffers() is not None:
        what = f"'{name}' puts experts into slots past '{kind_of(type(policy))}', which keeps lists"
        what += " of what is in them; write none, or another policy such as lru"
        return Conflict((*keys, "experts.policy"), what)
    if prompts_go(experiment) != "cache":
        what = f"'{name}' goes through the caches, and these prompts around them; write none, or"
        return Conflict((*keys, "workload.prefill.experts"), f"{what} prefill: {{experts: cache}}")
    return None


def budget_for_an_expert(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A budget below one expert would prefetch nothing."""
    prefetch = experiment.experts.prefetch
    if model is None or not model.moe_layers or not prefetch.fetches or prefetch.budget is None:
        return None
    least = min(expert_bytes(model))
    if (room := experiment.experts.variants) is not None and prefetch.variant != "high":
        if any(wrong_piece(experiment, "", one) for _, one in room.named):
            return None
        least = min(experts_in(experiment, one)[0].bytes for _, one in room.named)
    if prefetch.budget >= least:
        return None
    what = f"{prefetch.budget} bytes would prefetch nothing: one expert of {model.name} has {least}"
    keys = ("experts.prefetch.budget", "experts.prefetch", "model")
    return Conflict(keys, f"{what} bytes; write '{least} B' or more")


def variants_of_prefetches(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Who predicts experts need not know in which variant they will be wanted."""
    del model
    prefetch, room = experiment.experts.prefetch, experiment.experts.variants
    keys = ("experts.prefetch.variant", "experts.prefetch", "experts.variants")
    if room is None:
        if prefetch.variant == "wanted":
            return None
        what = f"'{prefetch.variant}' says in which variant experts are prefetched, and there are"
        return Conflict(keys, f"{what} none; leave it out, or write experts.variants")
    if not prefetch.fetches or prefetch.variant != "wanted":
        return None
    if not prefetch.weighs:
        what = f"'{kind_of(type(prefetch))}' says which experts will be needed, and not how much;"
        return Conflict(keys, f"{what} write prefetch: {{variant: low}}, or high")
    count = len(room.named)
    rule = experiment.experts.choose or GateCumulative()
    if set(rule.loaded(count)) == {count}:
        what = "is none, since nothing is loaded that is in no slot: the variant that is wanted;"
        return Conflict((*keys, "experts.choose"), f"{what} write prefetch: {{variant: low}}")
    return None


RULES: tuple[Rule, ...] = (
    prefetch_beside_the_kernels,
    variants_of_prefetches,
    budget_for_an_expert,
)
