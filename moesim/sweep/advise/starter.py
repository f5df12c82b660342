"""An experiment to begin with, every key with a comment, from a model, a machine and a workload."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import yaml

from moesim.config.arguments import check_choice
from moesim.config.errors import InputError, Problem
from moesim.experiment.building.fitted_layers import AT_ONCE
from moesim.experiment.engine_commands.serving import GPUS_OF_A_NODE
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import fewest_on_cpu
from moesim.experiment.schema.layout import undivided_heads
from moesim.model import ModelSpec, load_model
from moesim.model.chosen import SEPARATOR
from moesim.sweep.advise.abilities import (
    REQUESTS,
    SLICED,
    STOCK,
    WHOLE,
    Abilities,
    Asks,
    layout_settings,
)
from moesim.sweep.advise.choices import CPU, ON_CPU
from moesim.sweep.advise.question import Assembled, Question, assembled, at_options
from moesim.sweep.advise.room import Room, room_of, with_drive
from moesim.workload.serving import registry as schedulers


@dataclass(frozen=True)
class Workload:
    """What is asked of the machine: ``batch`` requests at once with ``context`` tokens each, the
    last ``output`` of which are an answer where requests are ``served`` as they come.
    """

    words: str
    batch: int
    context: int
    output: int = 0

    @property
    def served(self) -> bool:
        """Whether requests come and go."""
        return self.output > 0


WORKLOADS: Mapping[str, Workload] = {
    "chat": Workload("one request after the other", 1, 4096),
    "documents": Workload("one request after the other", 1, 32768),
    "batch": Workload("16 requests at once", 16, 2048),
    "serve": Workload("requests that come by chance", 64, 2560, 512),
}
COMMENTS: Mapping[str, str] = {
    "model": "a card ('moesim list models'), a GGUF file, a config.json, {base: CARD, format: ...}",
    "hardware": "a machine, or {gpu: ..., host: ..., link: ...} ('moesim list gpus', 'hosts')",
    "software": "whose launches, copies and waits are paid ('moesim list software')",
    "trace": "which experts the tokens choose; without it the model's recording, or a stand-in",
    "parallelism": "how the GPUs share the work (docs: parallelism); another way may be faster",
    "decide": "which kernels run is decided on the GPUs, as in captured steps of servers",
    "records": "layer: the figures of layers too, for 270 bytes of memory a step, layer and GPU",
    "workload": "phase: decode, prefill or all; batching: static or refill",
    "serving": "what clients are promised: good requests keep it",
}
SERVED = "requests come and go; lengths of prompts and answers in tokens (docs: serving)"
WHOLE_MODEL: Mapping[str, Any] = {"capacity": "all"}
RESIDENT = "every expert fits on the GPU"
FIRST = "experts of the first {0} of {1} layers on the CPU, as few as fit (auto: on any card)"
SLOTS = "{0} of {1} experts of a layer have a slot; what is missing is loaded"
COMPUTED = "the {0} most used of {1} experts of a layer have a slot; the CPU computes the others"
SERVED_FORMATS = ("fp8", "int4")
"""Of the checkpoints that servers are given most, the most bits a weight first."""
BELOW = "what the host has no memory for is read from its drive"
LONG = 10_000
"""Characters of a line, which is never broken."""


def starter(question: Question, workload: str) -> str:
    """The text of an experiment that runs. Raises InputError for an unknown model, machine or
    workload, and where nothing would fit.
    """
    check_choice("--workload", workload, tuple(WORKLOADS))
    kind = WORKLOADS[workload]
    with at_options("model"):
        model = load_model(question.model)
    context = min(kind.context, model.longest_context or kind.context)
    begun = _begun(question, kind, context)
    made, room, experts = begun.made, begun.room, begun.experts
    whole = experts == WHOLE_MODEL
    served = _served(kind, context, made.asks.engine, whole=whole) if kind.served else {}
    smaller = [] if whole else _smaller(question, kind, context, made.asks.engine)
    lines = [
        f"# {workload}: {kind.words}, with a context of {context:,} tokens each.",
        *(f"# assumed: {line}" for line in made.assumed),
        *([] if whole else _beyond(made.asks, experts)),
        *smaller,
        "# moesim check FILE says where each value comes from; moesim run FILE runs it.",
    ]
    comments = {**COMMENTS, "workload": SERVED} if kind.served else COMMENTS
    name = str(made.data["name"])
    if kind.served:
        name = name.replace(f"batch-{kind.batch}", "served")
    shared = _shared(made, served=kind.served, whole=whole)
    written = {**made.data, **served, **shared, "name": name}
    for key, value in written.items():
        lines += _key(key, value, comments.get(key, ""))
    lines += _key("experts", experts, begun.words)
    asked = _search(whole) if kind.served else _next(room)
    ways = _layouts(made, model, shared.get("parallelism", {})) if whole else []
    return "\n".join([*lines, *asked, *ways]) + "\n"


class _Begun(NamedTuple):
    """A question with what is assumed, the room that it leaves, and where its experts are."""

    made: Assembled
    room: Room
    experts: dict[str, Any]
    words: str


def _begun(question: Question, kind: Workload, context: int) -> _Begun:
    made = assembled(replace(question, batch=kind.batch, context=context))
    data = dict(made.data)
    if kind.served:  # whose caches take what room there is beside one request's
        data |= {"workload": data["workload"] | {"batching": {"kind": "static"}}}
    base = with_drive(load_experiment(data, alone=True).experiment)
    room = room_of(base, "auto")
    if kind.served:
        few = _served(kind, context, made.asks.engine, whole=False)
        experts, words = _by_layers({**made.data, **few}, room.layers)
    else:
        experts, words = _experts(room, made.asks.abilities)
    if room.drive and base.experts.host.capacity.kind != "all":
        experts, words = experts | {"host": {"capacity": "auto"}}, f"{words}; {BELOW}"
    return _Begun(made, room, experts, words)


def _smaller(question: Question, kind: Workload, context: int, engine: str | None) -> Sequence[str]:
    """The checkpoint with the most bits a weight of which a server's GPUs hold every expert."""
    if engine is None or engine in STOCK or SEPARATOR in question.model:
        return []
    for form in SERVED_FORMATS:
        name = f"{question.model}{SEPARATOR}{form}"
        try:
            begun = _begun(replace(question, model=name), kind, context)
        except InputError:
            continue
        if begun.experts == WHOLE_MODEL:
            size = load_model(name).bytes / 1e9
            return [f"# note: with {name}, {size:.1f} GB, the GPUs have room for all experts"]
    return []


def _shared(made: Assembled, *, served: bool, whole: bool) -> dict[str, Any]:
    """How a server's GPUs share a step. vLLM's gather all tokens where each has requests of its
    own; others of several that hold the ``whole`` model capture their steps, for which no host
    reads what is chosen.
    """
    asked, engine = made.data.get("parallelism", {}), made.asks.engine
    gpus = asked.get("expert", 1)
    own = "dense" not in asked and gpus <= GPUS_OF_A_NODE
    if served and own and gpus > 1 and engine == "vllm":
        return {"parallelism": {**asked, "exchange": "all_gather"}}
    return {"decide": "device"} if gpus > 1 and whole and engine else {}


def _layouts(made: Assembled, model: ModelSpec, own: Mapping[str, Any]) -> Sequence[str]:
    """The ways to spread the work over the GPUs, as an axis in comments; ``own``: the file's."""
    gpus, split = made.asks.gpus, (SLICED, WHOLE)
    can = {REQUESTS, *(() if undivided_heads(model, made.asks.gpus) else split)}
    ways = [_parallelism(one, gpus) for one in made.asks.layouts if one in can]
    ways = [{**way, **own} if set(way) <= set(own) else way for way in ways]
    text = yaml.safe_dump(ways, sort_keys=False, default_flow_style=True, width=LONG).strip()
    return [f"#   parallelism: {text}"] if len(ways) > 1 else []


def _parallelism(layout: str, gpus: int) -> dict[str, Any]:
    """The key ``parallelism`` of a layout, but for what is at its default."""
    settings = dict(layout_settings(layout, gpus))
    usual = {"dense": "data", "experts": "expert"}
    told = {name: settings[f"parallelism.{name}"] for name in usual}
    return {"expert": gpus} | {name: way for name, way in told.items() if way != usual[name]}


def _by_layers(data: Mapping[str, Any], layers: int) -> tuple[dict[str, Any], str]:
    """The key ``experts`` of a service, beside whose caches as many are on the CPU as have to be,
    and what it does.
    """
    asked = {**data, "experts": {"on_cpu": {"layers": layers}}}
    fewest = fewest_on_cpu(load_experiment(asked, alone=True).experiment)
    if fewest is None:
        what = f"is written where memory has room for the experts beside {AT_ONCE} requests' caches"
        what += "; name more or larger GPUs, a larger host, fewer bits a weight, or 'batch'"
        raise InputError([Problem("--workload", "", f"serve: {what}")])
    if not fewest:
        return dict(WHOLE_MODEL), RESIDENT
    words = f"{FIRST.format(fewest, layers)} beside the caches of {AT_ONCE} requests"
    return {"on_cpu": {"layers": fewest}}, words


RATES = {True: (0.5, 1, 2), False: (0.01, 0.02, 0.05)}
"""Requests a second to begin with, by whether GPUs hold all experts; the middle one is written."""


def _search(whole: bool) -> Sequence[str]:
    """What to ask of a service, as comments."""
    rates = ", ".join(f"{rate} requests/s" for rate in RATES[whole])
    vary, sla = "--vary workload.arrivals.request_rate", "--sla 'slo_attainment.all>=0.9'"
    return [
        "# The largest rate that keeps the promise:",
        f"# moesim search FILE {vary} {sla}",
        "# sweep:",
        f"#   workload.arrivals.request_rate: [{rates}]",
    ]


def _served(kind: Workload, context: int, engine: str | None, *, whole: bool) -> dict[str, Any]:
    """The keys of requests that come by chance, as ``engine`` schedules them: fewer of them, and
    with more patience, where the GPUs do not have the ``whole`` model.
    """
    output = min(kind.output, context // 2)
    scheduler = engine if engine in schedulers.components else "vllm"
    return {
        "workload": {
            "requests": 1000 if whole else 40,
            "arrivals": {"kind": "poisson", "request_rate": f"{RATES[whole][1]} requests/s"},
            "lengths": {"kind": "fixed", "input_len": context - output, "output_len": output},
            "batching": {"kind": "continuous", "scheduler": {"kind": scheduler}},
        },
        "records": "step",
        "serving": {
            "slo": {"ttft": "1 s" if whole else "10 s", "tpot": f"{50 if whole else 100} ms"}
        },
    }


def _beyond(asks: Asks, experts: Mapping[str, Any]) -> Sequence[str]:
    """That the engine itself does not do about experts that do not fit what the file says."""
    way = ON_CPU if "on_cpu" in experts else experts.get("miss", {}).get("kind")
    if asks.engine is None or way in asks.abilities.ways:
        return []
    what = f"the GPUs have no room for all experts, and {asks.engine} has no such way for them"
    return [f"# note: {what}: this is what it would bring; moesim advise says more"]


def _experts(room: Room, has: Abilities) -> tuple[dict[str, Any], str]:
    """The key ``experts`` as an engine that ``has`` some ways may have it, and what it does."""
    if room.fits:
        return dict(WHOLE_MODEL), RESIDENT
    if room.slots and CPU in has.ways:
        by_cpu = {"capacity": "auto", "miss": {"kind": "cpu"}, "initial": "most_used"}
        return by_cpu, COMPUTED.format(room.slots, room.local)
    if room.fewest_on_cpu:
        layers = {"layers": room.fewest_on_cpu}
        return {"on_cpu": layers}, FIRST.format(room.fewest_on_cpu, room.layers)
    policy = {"policy": {"kind": "lru"}, "miss": {"kind": "load"}}
    return {"capacity": "auto", **policy}, SLOTS.format(room.slots, room.local)


def _next(room: Room) -> Sequence[str]:
    """What to try, as comments."""
    if room.fits:
        return ["# sweep:", "#   workload.batching.batch_size: [1, 2, 4, 8]  # moesim sweep FILE"]
    return [
        "# What else there is for experts that do not fit; 'moesim advise FILE' tries it:",
        "# experts: {capacity: auto, policy: {kind: lru}, miss: {kind: load}}",
        "# experts: {capacity: auto, miss: {kind: cpu}}",
        "# sweep:",
        "#   experts.capacity: [25 %, 50 %, auto]  # moesim sweep FILE",
    ]


def _key(key: str, value: Any, comment: str) -> list[str]:
    text = yaml.safe_dump([value], sort_keys=False, default_flow_style=True, width=LONG)
    return [*([f"# {comment}"] if comment else []), f"{key}: {text.strip()[1:-1]}"]
