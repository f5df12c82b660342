"""What an experiment says that does not come about, though nothing in it is wrong."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.config.files.paths import look_up
from moesim.config.registry import kind_of
from moesim.experiment.loading.default_trace import default_trace
from moesim.experiment.loading.names import figure_class, loaded
from moesim.experiment.loading.of_software import LLAMA, scheduler_of
from moesim.experiment.loading.requests import requests_in_all, requests_of_trace
from moesim.experiment.loading.rules.asked import expert_bytes, experts_of, holders, most_local
from moesim.experiment.loading.traces import recorded_trace_of
from moesim.experiment.schema.disaggregation import Disaggregation
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.experts import HostMemory
from moesim.experiment.schema.serving import Memory, Serving
from moesim.hardware import software_names
from moesim.hardware.described.versions import priced_as
from moesim.hardware.price_errors import FRAMEWORKS
from moesim.memory.prefetch.base import Prefetcher
from moesim.model import ModelSpec, load_model
from moesim.model.chosen import SEPARATOR
from moesim.trace.cards import is_drawn, scaled_from
from moesim.workload.batching.continuous import Continuous
from moesim.workload.batching.static import Static

SEES = {"prefix": "prompts that share a prefix", "session": "requests that follow one another"}
"""What routers go by that not all arrivals have."""
PLAIN = ("at_once", "closed_loop", "poisson", "gamma", "azure", "burstgpt", "csv")
"""Arrivals that say nothing of either."""
REQUESTS_A_CLIENT = 2
"""Of a closed loop; with fewer most of its requests come at the start, all at once."""
FEW_BATCHES = 20
"""With as many, a last one of fewer requests hardly changes what all are on average."""
LEAST_RECORDED = 0.5
"""Share of the tokens with experts as recorded, below which a run says so."""


def of_inputs(experiments: Collection[Experiment]) -> list[str]:
    """A line for every trace that no file names, or that is another model's, for everything that
    traces do not have, for a choice of which there is none, for clients that hardly ask again, for
    fewer requests than are asked for, for replicas of which GPUs hold different numbers, and for
    what says how to prefetch, or how to keep and read what host memory has no room for, where
    nothing is.
    """
    lines = [*unnamed_traces(experiments), *others_traces(experiments)]
    lines += [*fewer_choices(experiments), *cut_batches(experiments)]
    lines += [*lone_routers(experiments), *blind_routers(experiments)]
    lines += [*others_schedulers(experiments), *few_a_client(experiments)]
    lines += [*fewer_requests(experiments), *spare_slots(experiments), *lone_slots(experiments)]
    lines += [*dispatched_otherwise(experiments), *other_versions(experiments)]
    lines += [*unused_prefetch(experiments), *unused_host(experiments), *unused_share(experiments)]
    lines += [*uneven_replicas(experiments)]
    return list(dict.fromkeys(lines))


def unnamed_traces(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every stand-in, and for the shipped trace of an experiment that names none."""
    lines = []
    for one in experiments:
        if scaled_from(one.trace) is not None:
            model = loaded("model", one.model, one.folders)
            lines.append(drawn(one.trace, model, _why_drawn(one, model)))
        elif is_drawn(one.trace):
            lines.append(f"note: trace: '{one.trace}' is no recording: drawn from its parameters")
        elif "trace" not in one.model_fields_set:
            lines.append(f"note: trace: none is named: '{one.trace}', the shipped one of the model")
    return lines


def others_traces(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every recording that says that it is of another model than the experiment's."""
    lines = []
    for one in experiments:
        if is_drawn(one.trace) or scaled_from(one.trace) is not None:
            continue
        told, model = recorded_trace_of(one).metadata, loaded("model", one.model, one.folders)
        name, has = _plain(model.name), model.moe_layers[0].moe.experts
        if told.model is None or _plain(_known_as(told.model)) == name:
            continue
        what = f"'{one.trace}' was recorded from {told.model}, and the model is {name}"
        if told.experts == has:
            lines.append(f"note: trace: {what}: experts are those that another model chose")
        else:
            what += f", of {told.experts} and {has} experts a layer"
            lines.append(f"warning: trace: {what}: loads and misses are those of another model")
    return lines


def _known_as(recorded: str) -> str:
    """The name of the model that a trace is ``recorded`` from, as experiments have it."""
    try:
        return load_model(recorded).name
    except InputError:
        return recorded


def _plain(name: str) -> str:
    """A model's ``name`` without the format of its weights, which route alike in all."""
    return name.partition(SEPARATOR)[0].casefold()


def _why_drawn(experiment: Experiment, model: ModelSpec) -> str:
    """Why a trace that no file names is not the recording of the model, where there is one."""
    if "trace" in experiment.model_fields_set:
        return ""
    workload = experiment.workload
    return default_trace(model, workload.phase, workload.at_once).why


def drawn(trace: str, model: ModelSpec, why: str) -> str:
    """The line for a stand-in, and ``why`` it is not the recording of the model, "" for none."""
    what = f"'{trace}' is no recording: drawn for {model.name}, scaled from {scaled_from(trace)}"
    return f"warning: trace: {what}'s routing{why and f', as {why}'}"


def cut_batches(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every workload whose batches are larger than all of its requests together, or the
    last of which has fewer.
    """
    sizes: dict[tuple[str, str, int | None], dict[int, Experiment]] = {}
    for experiment in experiments:
        workload = experiment.workload
        if (size := workload.batching.in_flight) > 1 and not workload.batching.serves:
            key = (experiment.trace, workload.phase, workload.requests)
            sizes.setdefault(key, {})[size] = experiment
    lines = (line for (_, phase, _), of in sizes.items() for line in _cut(phase, of))
    return list(dict.fromkeys(lines))


def fewer_choices(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every trace whose tokens use fewer experts than the model's do, and for one of
    whose layers some experts are gone.
    """
    lines = []
    for one in experiments:
        trace, model = recorded_trace_of(one), loaded("model", one.model, one.folders)
        said = f"warning: trace: '{one.trace}' has"
        if model.top_k > (own := trace.top_k):
            what = f"{said} {counted(own, 'expert')} a token, the model {model.top_k}"
            lines.append(f"{what}: loads, reads and times are those of fewer")
        held = max((layer.moe.experts for layer in model.moe_layers if layer.moe), default=0)
        if held > (own := trace.experts):
            what = f"{said} {counted(own, 'expert')} a layer, the model {held}"
            lines.append(f"{what}: it holds all of them, of which the others are never chosen")
    return list(dict.fromkeys(lines))


def spare_slots(experiments: Iterable[Experiment]) -> list[str]:
    """A line for slots of a GPU that no expert is there for."""
    asked: dict[int, set[int]] = {}
    for one in experiments:
        model = loaded("model", one.model, one.folders)
        if one.experts.capacity.kind == "slots" and model is not None and model.moe_layers:
            local, slots = most_local(one, model), int(one.experts.capacity.amount)
            if slots > local:
                asked.setdefault(local, set()).add(slots)
    return [
        f"note: experts.capacity: {' and '.join(map(str, sorted(slots)))} slots a layer are more"
        f" than the {counted(local, 'expert')} of a layer that a GPU holds; it has {local}"
        for local, slots in asked.items()
    ]


def lone_slots(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every room below an expert a layer, of which it has one all the same."""
    lines = []
    for one in experiments:
        model = loaded("model", one.model, one.folders)
        if model is not None and model.moe_layers and (what := _below_one(one, model)):
            lines.append(f"note: experts.capacity: {one.experts.capacity} is less than {what}")
    return list(dict.fromkeys(lines))


def uneven_replicas(experiments: Iterable[Experiment]) -> list[str]:
    """A line where EPLB leaves some GPUs an expert a layer more than others, which DeepSeek's own
    (github.com/deepseek-ai/EPLB: ``assert num_physical_experts % num_gpus == 0``), and so vLLM's
    and SGLang's, refuses.
    """
    lines = []
    for one in experiments:
        model, kind = loaded("model", one.model, one.folders), kind_of(type(one.placement))
        if kind != "eplb" or model is None or not model.moe_layers:
            continue
        own, gpus = max(experts_of(model)), holders(one)
        spare = one.placement.spare(own, one.folders)
        if over := (own + spare) % gpus:
            what = f"{own} experts a layer and {spare} redundant ones are {own + spare}, of which"
            what += f" {gpus} GPUs cannot hold as many each, as EPLB of vLLM and SGLang needs"
            fits = [str(n) for n in (spare - over, spare - over + gpus) if n >= 0]
            lines.append(f"warning: placement.redundant: {what}; write {' or '.join(fits)}")
    return list(dict.fromkeys(lines))


def _below_one(experiment: Experiment, model: ModelSpec) -> str:
    """What the room of a GPU is less than, and what it has; "" where it holds an expert a layer."""
    asked, local = experiment.experts.capacity, most_local(experiment, model)
    if asked.kind == "fraction" and asked.amount * local + 1e-9 < 1:
        return f"one of the {counted(local, 'expert')} of a layer that a GPU holds; it has one slot"
    try:
        on_cpu = experiment.experts.on_cpu.of(model)
    except InputError:  # said of each point that is built
        return ""
    sizes = [size for size, apart in zip(expert_bytes(model), on_cpu, strict=True) if not apart]
    layers = -(-len(sizes) // experiment.parallelism.pipeline)
    least = layers * max(sizes, default=0)
    if asked.kind != "bytes" or asked.amount >= least:
        return ""
    what = f"an expert of each of {counted(layers, 'MoE layer')}, {least / 1e6:.4g} MB"
    return f"{what}; each has one slot"


def few_a_client(experiments: Iterable[Experiment]) -> list[str]:
    """A line for closed loops half of whose requests, or more, are those that come at once."""
    most: dict[int, int] = {}
    for one in experiments:
        clients = one.workload.arrivals.concurrency if one.workload.batching.serves else None
        left_out = (one.serving and one.serving.warm_up) or 0
        if not clients or clients == 1 or left_out >= clients:
            continue
        count = one.workload.requests
        if count is None:
            count = requests_of_trace(one)
        if count < REQUESTS_A_CLIENT * clients:
            most[count] = max(most.get(count, 0), clients)
    return [
        f"warning: workload.arrivals: {clients} clients and {counted(count, 'request')}: latencies"
        " are mostly those of the first ones, whose prompts come all at once; write 10 requests a"
        " client, or serving.warm_up"
        for count, clients in most.items()
    ]


def lone_routers(experiments: Iterable[Experiment]) -> list[str]:
    """A line for a router that is named and that none of the experiments gives a choice."""
    some: dict[tuple[str, str], bool] = {}
    for one in experiments:
        for key, owner, instances in _routed(one):
            if "router" in owner.model_fields_set:
                named = (key, str(kind_of(type(owner.router))))
                some[named] = some.get(named, False) or instances > 1
    what = "has one instance to choose, and changes nothing; write more of them, or leave it out"
    return [f"warning: {key}: '{kind}' {what}" for (key, kind), has in some.items() if not has]


def blind_routers(experiments: Iterable[Experiment]) -> list[str]:
    """A line for a router that goes by what none of the requests before it has."""
    found = {
        (key, kind, str(kind_of(type(one.workload.arrivals))))
        for one in experiments
        for key, owner, instances in _routed(one)
        if instances > 1 and (kind := str(kind_of(type(owner.router)))) in SEES
        and kind_of(type(one.workload.arrivals)) in PLAIN
    }  # fmt: skip
    what = "of arrivals '{}' there is none, and it goes by the fewest requests"
    return [
        f"warning: {key}: '{kind}' goes by {SEES[kind]}; {what.format(come)}"
        for key, kind, come in sorted(found)
    ]


def others_schedulers(experiments: Iterable[Experiment]) -> list[str]:
    """A line for requests that one engine's kernels serve as another's scheduler decides."""
    found = set()
    for one in experiments:
        batching = one.workload.batching
        if not isinstance(batching, Continuous):
            continue
        kind, own = str(kind_of(type(batching.scheduler))), scheduler_of(one.software, one.folders)
        if own not in (None, kind) and kind in {*FRAMEWORKS, LLAMA}:
            found.add((one.software, own, kind))
    return [
        f"warning: workload.batching.scheduler: '{kind}' schedules for the software '{name}'; write"
        f" scheduler: {{kind: {own}}} for its own (in a sweep, both in one axis)"
        for name, own, kind in sorted(found)
    ]


def dispatched_otherwise(experiments: Iterable[Experiment]) -> list[str]:
    """A line where requests are served by kernels of an engine whose GPUs dispatch rows as its
    servers do not unless they are told.
    """
    for one in experiments:
        asked, software = one.parallelism, loaded("software", one.software, one.folders)
        dispatches = asked.expert > 1 and asked.exchange is None and asked.dense == "data"
        served = isinstance(one.workload.batching, Continuous) and one.gating.uneven
        if not (dispatches and asked.slices == 1 and served) or software is None:
            continue
        if software.framework == "vllm" and one.decide == "host":
            what = "rows are dispatched, whose counts the host waits for, so that no step is"
            what += " captured; vLLM's servers gather all tokens unless they are told"
            return [f"note: parallelism.exchange: {what}; write exchange: all_gather for that"]
        if software.framework == "trtllm":
            what = "a row is dispatched for each expert of a token, in 16 bits; TensorRT-LLM sends"
            what += " one to a GPU, in the format of its experts' inputs, in captured steps (from"
            what += " memory)"
            how = "exchange: deduplicated, a dispatch_dtype, and decide: device"
            return [f"note: parallelism.exchange: {what}; write {how} for that"]
    return []


def other_versions(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every software that the profile of another version prices."""
    asked = {(one.software, one.folders) for one in experiments}
    named = sorted({name for name, folders in asked if look_up(name, folders) is None})
    told = (priced_as(name, software_names()) for name in named)
    return [f"note: software: {line}" for line in told if line is not None]


def _routed(experiment: Experiment) -> Iterable[tuple[str, Serving | Disaggregation, int]]:
    """Each key of a router, what it is given in, and how many instances it chooses among."""
    serving = experiment.serving
    if serving is None:
        return
    apart = serving.disaggregation
    yield "serving.router", serving, serving.replicas if apart is None else apart.prefill
    if apart is not None:
        yield "serving.disaggregation.router", apart, apart.decode


def paced(experiment: Experiment) -> list[str]:
    """A line, for what compares speeds, where requests set those of all together."""
    if not is_timed(experiment):
        return []
    what = "requests come at times of their own, which set the tokens/s of all together; compared"
    what += " is what a request gets, from when it is sent to its end. The largest rate under"
    return [f"note: workload.arrivals: {what} limits of latency: 'moesim search'"]


def is_timed(experiment: Experiment) -> bool:
    """Whether requests come at times of their own, whatever the machine does."""
    workload = experiment.workload
    return workload.batching.serves and workload.arrivals.timed


def left_out_figures(experiment: Experiment, axes: Collection[str]) -> list[str]:
    """A line for every figure that a sweep over ``axes`` cannot have."""
    lines = []
    for index, entry in enumerate(experiment.figures):
        given = {"kind": entry} if isinstance(entry, str) else dict(entry)
        figure = figure_class(given.pop("kind"))(**given)
        if why := figure.obstacle(axes):
            what = f"'{figure.kind}' will not be drawn: {why}; it needs {figure.needs}"
            lines.append(f"warning: figures.{index}: {what}")
    return lines


def unused_prefetch(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every key that says how experts are prefetched, where no point prefetches any."""
    prefetches = [one.experts.prefetch for one in experiments]
    if any(one.fetches for one in prefetches):
        return []
    said = [key for one in prefetches for key, value in one if value != _by_default(one, key)]
    return [
        f"warning: experts.prefetch.{key}: without effect, as nothing is prefetched;"
        " write a kind that does, or leave it out"
        for key in dict.fromkeys(said)
    ]


def unused_host(experiments: Collection[Experiment]) -> list[str]:
    """A line for every key that says how host memory keeps or reads experts, where it holds all of
    them at each point that has the key. With one memory it is read into slots.
    """
    said = {key for one in experiments for key in _said_of_host(one)}
    for one in experiments if said else ():
        machine = loaded("hardware", one.hardware, one.folders)
        if one.experts.host.capacity.kind != "all" or machine is None or machine.unified:
            said -= _said_of_host(one)
    return [
        f"warning: experts.host.{key}: without effect, as host memory holds all experts;"
        " write its room, as in 'capacity: 48 GiB', or leave it out"
        for key in sorted(said)
    ]


def unused_share(experiments: Iterable[Experiment]) -> list[str]:
    """A line where a share of a whole GPU is written, and no point that has it goes by it."""
    usual = Memory().gpu_memory_utilization
    said = [one for one in experiments if (one.memory or Memory()).gpu_memory_utilization != usual]
    if not said or any(_goes_by_share(one) for one in said):
        return []
    what = "without effect, as memory.kv, or TensorRT-LLM's rule, says what keys and values take"
    return [
        f"warning: memory.gpu_memory_utilization: {what}; write memory.kv: 80 %, or leave it out"
    ]


def _goes_by_share(experiment: Experiment) -> bool:
    memory, batching = experiment.memory or Memory(), experiment.workload.batching
    usual = batching.scheduler.kv_share if isinstance(batching, Continuous) else None
    return memory.kv.kind == "auto" and usual is None


def _said_of_host(experiment: Experiment) -> set[str]:
    """The keys of ``experts.host`` beside its capacity that are not the default."""
    host = experiment.experts.host
    said = {key for key, value in host if value != getattr(HostMemory(), key)}
    return said - {"capacity"}


def _by_default(prefetch: Prefetcher, key: str) -> Any:
    return type(prefetch).model_fields[key].default


def idle_prefetch(experiment: Experiment, summary: Mapping[str, Any]) -> list[str]:
    """A line for a run that was to prefetch and started none."""
    prefetch, slots = experiment.experts.prefetch, summary.get("slots_per_layer")
    if not prefetch.fetches or summary.get("prefetches") != 0:
        return []
    if slots and slots >= (summary.get("local_experts") or 0):
        return ["warning: experts.prefetch: all experts are resident, so nothing is prefetched"]
    why = prefetch.when_none_starts
    if cancelled := summary.get("prefetches_cancelled"):
        why = f"{cancelled:,} waited and were cancelled before their copy began"
    return [f"warning: experts.prefetch: '{kind_of(type(prefetch))}' started no prefetch: {why}"]


def borrowed_routing(experiment: Experiment, summary: Mapping[str, Any]) -> list[str]:
    """A line for a run most of whose tokens take experts that others chose, or that came before."""
    del experiment
    share = (summary.get("routing_share") or {}).get("recorded", 1.0)
    if share >= LEAST_RECORDED:
        return []
    what = f"{share:.0%} of the tokens have experts as recorded, the others those of rows that are"
    what += " repeated or borrowed: caches and loads see fewer different ones than they might"
    return [f"warning: workload.routing: {what}; record a longer trace, or serve shorter requests"]


def fewer_requests(experiments: Iterable[Experiment]) -> list[str]:
    """A line for every workload that has fewer requests than are asked for."""
    lines, seen = [], set[str]()
    for one in experiments:
        asked, key = one.workload.requests, repr((one.workload, one.trace, one.routing, one.seed))
        if asked is None or key in seen:
            continue
        seen.add(key)
        if (has := requests_in_all(one)) is not None and has < asked:
            what = f"{asked} are asked for, and the run has {has}, as many as there are to come"
            lines.append(f"warning: workload.requests: {what}")
    return lines


def empty_slots(experiment: Experiment, summary: Mapping[str, Any]) -> list[str]:
    """A line for a run whose slots begin empty and which nothing ever fills."""
    experts, local = experiment.experts, summary.get("local_experts") or 0
    filled = experts.miss.loads or experts.initial != "empty" or experts.prefetch.fetches
    filled = filled or experts.capacity.kind == "all"
    if filled or (summary.get("slots_per_layer") or local) >= local:
        return []
    what = f"'empty' with miss '{kind_of(type(experts.miss))}', which loads nothing"
    remedy = "every expert misses; write most_used to fill the slots at the start"
    return [f"warning: experts.initial: {what}: {remedy}"]


def _cut(phase: str, by_size: dict[int, Experiment]) -> Iterable[str]:
    """The lines for one workload under several batch sizes, each with the requests of its own
    trace: a stand-in has as many as a batch.
    """
    counts = {size: requests_of_trace(one) for size, one in sorted(by_size.items())}
    of_phase = "" if phase == "all" else f" in phase '{phase}'"
    for count in dict.fromkeys(counts.values()):
        of_run = f"the run's {counted(count, 'request')}{of_phase}"
        sizes = [size for size, own in counts.items() if own == count]
        if beyond := [size for size in sizes if size > count]:
            verb = "is" if len(beyond) == 1 else "are"
            what = f"{' and '.join(map(str, beyond))} {verb} more than {of_run}; cut to {count}"
            yield f"warning: workload.batching.batch_size: {what}"
        for size in sizes:
            static = isinstance(by_size[size].workload.batching, Static)
            if static and size < count < FEW_BATCHES * size and (last := count % size):
                what = f"the last batch of {size} has {last} of {of_run}, and the throughput counts"
                what += f" it; write requests: {count - last}"
                yield f"note: workload.batching.batch_size: {what}"
