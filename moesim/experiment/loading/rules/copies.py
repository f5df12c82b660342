"""What is copied when it is needed: in which order, and beside what."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.asked import prompts_go
from moesim.experiment.loading.rules.rule import Conflict, Rule
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware import load_software

if TYPE_CHECKING:
    from moesim.model import ModelSpec


def order_of_streams(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Johnson's order is of copies that nothing spares, whatever runs before."""
    del model
    experts, keys = experiment.experts, ("experts.order",)
    if experts.order != "least_makespan":
        return None
    if experts.policy.shared_buffers() is None:
        what = "'least_makespan' orders what policy: stream copies in every step; write id,"
        return Conflict((*keys, "experts.policy"), f"{what} resident_first, or policy: stream")
    if prompts_go(experiment) != "cache":
        what = "'least_makespan' does not go with prompts around the caches yet; write prefill:"
        return Conflict((*keys, "workload.prefill.experts"), f"{what} {{experts: cache}}")
    return None


def background_beside_the_kernels(
    experiment: Experiment, model: ModelSpec | None
) -> Conflict | None:
    """Copies in the background run beside kernels, between passes that go through the caches."""
    del model
    miss, keys = experiment.experts.miss, ("experts.miss",)
    if not miss.copies_behind:
        return None
    name = kind_of(type(miss))
    if experiment.experts.protect == "none":
        what = f"'{name}' copies only over what no step needs; write protect: step, or cheapest"
        return Conflict((*keys, "experts.protect"), what)
    software = load_software(experiment.software, experiment.folders)
    if software.overlap and software.blocking and experiment.execution != "graph":
        what = f"'{name}' copies beside kernels, and the software '{experiment.software}' does not"
        return Conflict((*keys, "software"), f"{what}; write cpu, or another software")
    if experiment.experts.prefetch.fetches:
        what = f"'{name}' does not go together with prefetch yet; write cheapest, or prefetch: none"
        return Conflict((*keys, "experts.prefetch"), what)
    if prompts_go(experiment) == "stream":
        what = f"'{name}' does not go together with prompts that stream; write prefill: bypass"
        return Conflict((*keys, "workload.prefill.experts"), what)
    return None


def what_stays_on_cpu(experiment: Experiment) -> tuple[str, str] | None:
    """A key, and why passes beside it cannot copy to the GPU what the CPU has; None: they can."""
    experts = experiment.experts
    wrong = {
        "workload.prefill.experts": prompts_go(experiment) != "cache"
        and "these prompts go around the caches in another way; write cache",
        "experts.order": experts.order == "least_makespan"
        and "such passes copy by the experts' numbers; write id",
        "experts.prefetch": experts.prefetch.fetches
        and "prefetches are copied into slots that such passes leave alone; write none",
        "experts.variants": experts.variants is not None and "experts have variants; write never",
        "experts.miss.computed_by": experts.miss.near_memory
        and "a near-memory device computes them; write never",
    }
    return next(((key, what) for key, what in wrong.items() if what), None)


def copies_of_many_tokens(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Passes that copy what the CPU has leave the slots as they are."""
    del model
    miss = experiment.experts.miss
    if miss.copies_all_from() is None or (found := what_stays_on_cpu(experiment)) is None:
        return None
    key, what = found
    keys = ("experts.miss.copies_from", "experts.miss", key)
    return Conflict(keys, f"it does not go with {key}: {what}")


RULES: tuple[Rule, ...] = (
    order_of_streams,
    copies_of_many_tokens,
    background_beside_the_kernels,
)
