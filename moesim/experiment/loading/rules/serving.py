"""Requests that are served: what goes with continuous batching alone, and what does not."""

from __future__ import annotations

from typing import TYPE_CHECKING

from moesim.config.files.paths import look_up, lookup_folders, not_found
from moesim.config.registry import kind_of
from moesim.experiment.loading.rules.rule import Conflict, Rule, first_wrong
from moesim.experiment.schema.experiment import Experiment
from moesim.workload.batching.continuous import Continuous
from moesim.workload.binding import Nearest, Own
from moesim.workload.lengths.arrivals import OfArrivals
from moesim.workload.prefill import Prefill

if TYPE_CHECKING:
    from moesim.model import ModelSpec

SERVED = ("arrivals", "lengths", "routing")


def served_by_continuous_batching(
    experiment: Experiment, model: ModelSpec | None
) -> Conflict | None:
    """Arrivals, lengths and their routing are those of requests that are served."""
    del model
    workload = experiment.workload
    if workload.batching.serves:
        return None
    said = [key for key in SERVED if key in workload.model_fields_set]
    defaults = type(workload)()
    said = [key for key in said if getattr(workload, key) != getattr(defaults, key)]
    if not said:
        return None
    what = f"is of requests that are served, and '{kind_of(type(workload.batching))}' batching"
    what += " takes the trace's as they are; write batching: {kind: continuous}"
    return Conflict((f"workload.{said[0]}", "workload.batching"), what)


def served_alone(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What does not go together with requests that are served."""
    workload = experiment.workload
    if not workload.batching.serves:
        return None
    phase = workload.phase
    wrong = {
        "workload.phase": phase not in ("all", "decode")
        and f"phase '{phase}' yet; write all, or decode: prompts are computed elsewhere",
        "workload.speculative": workload.speculative is not None
        and isinstance(workload.batching, Continuous)
        and not workload.batching.scheduler.verifies_drafts
        and f"drafts under '{kind_of(type(workload.batching.scheduler))}' yet; write vllm",
        "workload.context": workload.context is not None
        and "a context; lengths say how long requests are",
        "workload.prefill.chunk": workload.prefill.chunk is not None
        and "chunks of its own; write scheduler.max_num_batched_tokens",
        "workload.prefill.experts": workload.prefill.experts != Prefill().experts
        and (experiment.experts.policy.looks_ahead or experiment.experts.prefetch.fetches)
        and "prompts around the caches of what looks ahead yet; write cache",
        "model": model is not None and model.has_encoder and "a model with an encoder yet",
    }
    said = f"'{kind_of(type(workload.batching))}' batching does not go together with"
    return first_wrong(("workload.batching",), said, wrong)


def serving_of_served(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Promises and replicas are of requests that are served."""
    del model
    if experiment.serving is None or experiment.workload.batching.serves:
        return None
    kind = kind_of(type(experiment.workload.batching))
    what = f"is of clients and their requests, and '{kind}' batching has none: nothing arrives;"
    what += " write batching: {kind: continuous}"
    return Conflict(("serving", "workload.batching"), what)


def memory_of_served(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Memory is shared out where requests are served, and one of its two parts is given."""
    del model
    serves = experiment.workload.batching.serves
    if experiment.memory is not None and not serves:
        kind = kind_of(type(experiment.workload.batching))
        what = f"is shared out where requests are served, and '{kind}' batching keeps what its"
        what += " requests need; write batching: {kind: continuous}, or leave it out"
        return Conflict(("memory", "workload.batching"), what)
    given = experiment.memory is not None and not experiment.memory.kv.is_left
    if serves and experiment.experts.capacity.kind == "auto" and not given:
        what = "experts and keys and values both take what the other leaves; write memory.kv"
        return Conflict(("experts.capacity", "memory.kv"), f"{what}, or how many experts fit")
    return None


def split_goes_with(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What slots do not go together with that change places with blocks."""
    del model
    memory, experts, parallel = experiment.memory, experiment.experts, experiment.parallelism
    if memory is None or not memory.split.moves or not experiment.workload.batching.serves:
        return None
    policy, batching = experts.policy, experiment.workload.batching
    promises = isinstance(batching, Continuous) and batching.scheduler.promises_blocks
    listed = policy.lists or policy.shared_buffers() is not None
    apart = parallel.slices > 1 and parallel.dense != "tensor"
    host = experts.host.capacity.kind != "all"
    wrong = {
        "workload.batching.scheduler": promises
        and "a scheduler that has blocks for all of a request before it begins; write vllm",
        "experts.policy": listed
        and f"'{kind_of(type(policy))}', which counts its slots; write lru",
        "experts.prefetch": experts.prefetch.fetches and "prefetches yet; write none",
        "experts.variants": experts.variants is not None and "variants yet; leave them out",
        "experts.host": host and "host memory that is a cache yet; write capacity: all",
        "experts.on_cpu": experts.on_cpu != type(experts.on_cpu)() and "layers on the CPU yet",
        "host_layers": experiment.host_layers > 0 and "layers of the host yet; write 0",
        "offload_layers": experiment.offload_layers > 0 and "layers that are copied yet; write 0",
        "parallelism.pipeline": parallel.pipeline > 1 and "stages yet; write 1",
        "parallelism.experts": apart and "sliced experts beside data parallelism; write expert",
    }
    said = f"'{kind_of(type(memory.split))}' does not go together with"
    return first_wrong(("memory.split",), said, wrong)


def lengths_of_requests(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Lengths are said before, or after, what they depend on."""
    del model
    workload = experiment.workload
    if not workload.batching.serves:
        return None
    keys, lengths = ("workload.lengths", "workload.routing"), workload.lengths
    if isinstance(workload.routing, Own) and not lengths.of_trace:
        what = f"'own' takes the trace's requests as they are, and not '{kind_of(type(lengths))}'"
        return Conflict(keys, f"routing {what} lengths; write routing: {{kind: draw}}")
    if isinstance(workload.routing, Nearest) and lengths.of_trace:
        what = "routing 'nearest' goes by lengths, and these are the trace's; write draw"
        return Conflict(keys, what)
    if isinstance(lengths, OfArrivals) and workload.arrivals.reads is None:
        kind = kind_of(type(workload.arrivals))
        what = f"'arrivals' are lengths that a file says, and '{kind}' reads none"
        return Conflict(("workload.lengths", "workload.arrivals"), f"{what}; write fixed or random")
    return None


def arrivals_are_there(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The file of arrivals can be found."""
    del model
    file = experiment.workload.arrivals.reads
    if file is None or look_up(file, experiment.folders) is not None:
        return None
    folders = experiment.folders or lookup_folders()
    return Conflict(("workload.arrivals.file",), not_found(file, folders))


def replicas_of_served(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """What replicas do not go together with."""
    del model
    asked, batching = experiment.serving, experiment.workload.batching
    if asked is None or asked.alone or not batching.serves:
        return None
    if asked.disaggregation is not None and (conflict := _apart(experiment)):
        return conflict
    policy, room = experiment.experts.policy, experiment.experts
    key, does = ("replicas", "do") if asked.disaggregation is None else ("disaggregation", "does")
    wrong = {
        "experts.policy": policy.looks_ahead
        and f"'{kind_of(type(policy))}', which looks ahead; write one that does not, as lru",
        "experts.variants": room.variants is not None and "variants of experts yet",
        "experts.host": room.host.capacity.kind != "all" and "host memory as a cache yet",
        "parallelism.pipeline": experiment.parallelism.pipeline > 1 and "pipelines yet",
        "memory.split": experiment.memory is not None
        and experiment.memory.split.moves
        and f"'{kind_of(type(experiment.memory.split))}' of memory yet; write static",
    }
    return first_wrong((f"serving.{key}",), f"{key} {does} not go together with", wrong)


def routes_by_experts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A router that goes by experts has some to go by."""
    del model
    asked, batching = experiment.serving, experiment.workload.batching
    if asked is None or not batching.serves:
        return None
    apart = asked.disaggregation
    every = {"serving.router": asked.router}
    if apart is not None:
        every["serving.disaggregation.router"] = apart.router
    found = [key for key, one in every.items() if one.reads_experts]
    if not found:
        return None
    kind = kind_of(type(every[found[0]]))
    wrong = {
        "serving.replicas": asked.alone and "a single replica; write replicas: 2, or more",
        "serving.disaggregation": apart is not None and "disaggregation yet; write another",
        "experts.capacity": experiment.experts.capacity.kind == "all"
        and "all experts in slots, where every replica has them; write least_outstanding",
        "workload.phase": experiment.workload.phase == "decode"
        and "phase: decode, whose prompts are computed elsewhere; write all",
    }
    return first_wrong((found[0],), f"'{kind}' does not go together with", wrong)


def _apart(experiment: Experiment) -> Conflict | None:
    """What prompts and answers on instances of their own do not go together with."""
    asked, batching = experiment.serving, experiment.workload.batching
    scheduler = batching.scheduler if isinstance(batching, Continuous) else None
    kind = "" if scheduler is None else kind_of(type(scheduler))
    wrong = {
        "serving.replicas": asked is not None
        and asked.replicas > 1
        and "replicas; write how many prefill and decode",
        "workload.phase": experiment.workload.phase == "decode"
        and "phase: decode, which has no prompts to send; write all",
        "workload.batching.scheduler": kind != "vllm" and f"'{kind}' yet; write vllm",
        "workload.batching.scheduler.policy": scheduler is not None
        and bool(scheduler.orders[0])
        and "policy: priority yet; write fcfs",
        "host_layers": experiment.host_layers > 0
        and "layers of the host, whose keys and values lie there; write 0",
    }
    said = "disaggregation does not go together with"
    return first_wrong(("serving.disaggregation",), said, wrong)


RULES: tuple[Rule, ...] = (
    replicas_of_served,
    routes_by_experts,
    arrivals_are_there,
    served_by_continuous_batching,
    served_alone,
    serving_of_served,
    memory_of_served,
    split_goes_with,
    lengths_of_requests,
)
