"""A component that gives what no run can be of ends the run with one line that names it."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.gating.dynamic import Dynamic
from moesim.hardware.charge import Charge, Shapes, Stage
from moesim.hardware.cost_model import registry as operations
from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Part
from moesim.memory.activations import ActiveExperts
from moesim.memory.choices.base import Seen as Choice
from moesim.memory.choices.gate_ratio import GateRatio
from moesim.memory.misses.base import Missing
from moesim.memory.misses.cheapest import Cheapest
from moesim.memory.prefetch.next_layer import NextLayer
from moesim.placement.eplb import Eplb
from moesim.placement.greedy import Greedy
from moesim.placement.rebalance import Rebalance
from moesim.placement.task import Task
from moesim.testing.arrivals import come_in_order
from moesim.testing.batchings import keeps_within_the_batch
from moesim.testing.gatings import conserves_choices
from moesim.testing.lengths import are_one_or_more
from moesim.testing.misses import answers_as_it_says
from moesim.testing.planners import places_every_expert
from moesim.testing.prefetchers import predicts_experts_of_the_gpu, view_of
from moesim.testing.routers import chooses_a_replica
from moesim.testing.variant_choices import limits_ascend, scores_are_of_choices
from moesim.trace import read_trace
from moesim.trace.importers import registry as importers
from moesim.trace.importers.base import Importer
from moesim.trace.importing import import_trace
from moesim.trace.routing import NO_EXPERT
from moesim.trace.transforms.choices import Choices
from moesim.trace.transforms.top_k import TopK
from moesim.workload.arrivals.base import Arrived
from moesim.workload.arrivals.poisson import Poisson
from moesim.workload.batching.static import Static
from moesim.workload.lengths.fixed import Fixed
from moesim.workload.requests import Requests
from moesim.workload.routers.base import Seen
from moesim.workload.routers.round_robin import RoundRobin
from moesim.workload.schedule import Seats
from moesim.workload.serving.base import fault_of_served
from moesim.workload.serving.lists import add, due, run
from moesim.workload.serving.state import (
    ENDED,
    GIVEN,
    NEVER,
    OUTPUT,
    REQUEST_ROWS,
    RUN,
    STATUS,
    WAIT,
    WAIT_FIRST,
    State,
)
from moesim.workload.serving.stepping.cycles import UNSOUND_STEP as UNSOUND_SAID
from moesim.workload.serving.vllm import Vllm
from moesim.workload.splits.kv_first import KvFirst

SERVED = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "workload": {
        "requests": 6,
        "arrivals": {"kind": "poisson", "request_rate": "50 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 5},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
    },
}
AT: Any = np.arange(6) * 1_000_000
LATER = np.where(np.arange(6), NEVER, 0)
TEN: Any = np.full(6, 10)
ARRIVED = [
    (Arrived(AT + 0.5), "instants that are float64"),
    (Arrived(AT - 1), "an instant outside"),
    (Arrived(AT[::-1]), "instants that do not ascend"),
    (Arrived(np.arange(12)), "gives 12 requests of 6"),
    (Arrived(AT, input_tokens=TEN[1:]), r"input_tokens of shape \(5,\) for 6 requests"),
    (Arrived(AT, output_tokens=TEN + 0.5), "output_tokens that are float64"),
    (Arrived(AT, output_tokens=0 * TEN), "output_tokens below 1"),
    (Arrived(LATER), "a request that never comes"),
    (Arrived(LATER, follows=np.arange(6)), "follows itself or a later one"),
    (Arrived(LATER, follows=np.arange(6) - 1, think_ns=-TEN), "think_ns below 0"),
]
LENGTHS = [
    ((TEN + 0.5, TEN), "prompts that are float64"),
    ((TEN, 0 * TEN), "answers below 1"),
    ((TEN, np.full(9, 1)), r"answers of shape \(9,\) for 6 requests"),
    ((TEN, [10] * 6), "answers as list, not as an array"),
    ((TEN, 10**12 * TEN), "answers above 2,147,483,648 tokens"),
    ((TEN, TEN, TEN), "gives tuple, not two arrays"),
    (None, "gives NoneType, not two arrays"),
]
OFFLOADED = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "workload": {"requests": 1},
}
ZERO: Any = np.zeros(2, np.int64)
SEATS = [
    ({"slot": ZERO * 1.0}, "a slot that is float64"),
    ({"step": ZERO[1:]}, r"a step of shape \(1,\) for 2 requests"),
    ({"slot": ZERO + 1}, "a slot outside 0..0"),
    ({"step": ZERO - 1}, "before step 0"),
    ({"step": ZERO}, "a slot to two requests at once"),
]
PREDICTED = [
    ((lambda one: one.offsets, lambda one: one.experts * 1.0), "predicts experts that are float64"),
    ((lambda one: one.offsets[1:], lambda one: one.experts), "gives offsets that do not divide"),
    ((lambda one: one.offsets, lambda one: one.experts + 1000), "predicts an expert outside 0"),
    ((lambda one: one.offsets, lambda one: -1 - one.experts), "predicts an expert outside 0"),
    (
        (lambda one: 2 * one.offsets, lambda one: one.experts.repeat(2)),
        "predicts an expert twice in a pass",
    ),
]
CHOSEN = [(0.7, "chose 0.7, which is no whole number"), (-1, "chose replica -1 of 2")]


@pytest.mark.parametrize(("arrived", "what"), ARRIVED)
def test_arrivals(monkeypatch, arrived, what):
    monkeypatch.setattr(Poisson, "arrive", lambda *_: arrived)
    with pytest.raises(InputError, match=rf"workload\.arrivals: 'poisson' .*{what}"):
        moesim.run(SERVED)
    with pytest.raises(AssertionError, match=what):
        come_in_order(Poisson.model_validate({"request_rate": "50 requests/s"}), 6)


@pytest.mark.parametrize(("lengths", "what"), LENGTHS)
def test_lengths(monkeypatch, lengths, what):
    monkeypatch.setattr(Fixed, "lengths", lambda *_: lengths)
    with pytest.raises(InputError, match=rf"workload\.lengths: 'fixed' .*{what}"):
        moesim.run(SERVED)
    with pytest.raises(AssertionError, match=what):
        are_one_or_more(Fixed(input_len=1, output_len=1), Arrived(AT), None)


def test_whole_numbers_of_any_width(monkeypatch):
    usual = moesim.run(SERVED).summary["duration_ms"]
    lengths = Fixed.lengths
    monkeypatch.setattr(
        Fixed, "lengths", lambda *given: tuple(one.astype(np.int32) for one in lengths(*given))
    )
    assert moesim.run(SERVED).summary["duration_ms"] == usual


def test_what_lengths_write_into_the_arrivals_is_not_read(monkeypatch):
    usual, lengths = moesim.run(SERVED).summary["duration_ms"], Fixed.lengths

    def writes(one: Fixed, arrived: Arrived, *given: Any) -> Any:
        arrived.arrival_ns[:] = 0
        return lengths(one, arrived, *given)

    monkeypatch.setattr(Fixed, "lengths", writes)
    assert moesim.run(SERVED).summary["duration_ms"] == usual


@pytest.mark.parametrize(("chosen", "what"), CHOSEN)
def test_routers(monkeypatch, chosen, what):
    monkeypatch.setattr(RoundRobin, "choose", lambda *_: chosen)
    serving = {"replicas": 2, "router": {"kind": "round_robin"}}
    with pytest.raises(InputError, match=rf"serving\.router: 'round_robin' {what}"):
        moesim.run({**SERVED, "serving": serving})
    none = np.zeros(2, np.int64)
    seen = Seen(0, none, none, none, -1)
    with pytest.raises(AssertionError, match=what):
        chooses_a_replica(RoundRobin(), seen)


@pytest.mark.parametrize(
    ("component", "function", "key"),
    [(Poisson, "arrive", "workload.arrivals"), (Fixed, "lengths", "workload.lengths")],
)
def test_what_a_component_raises(monkeypatch, component, function, key):
    def fails(*_: Any) -> None:
        raise KeyError("nothing there")

    monkeypatch.setattr(component, function, fails)
    said = rf"^{key}: '\w+' raises KeyError: 'nothing there' \(.*test_wrong_answers\.py:\d+\)$"
    with pytest.raises(InputError, match=said):
        moesim.run(SERVED)


def nothing_there(*_: Any) -> Any:
    raise KeyError("nothing there")


def tokens_of(_layer: Any, at: Shapes) -> tuple[Any, ...]:
    return (at.tokens,)


class Extra(Operation):
    """A charge of someone else's."""

    kind: ClassVar[str] = "extra"
    charges: ClassVar[tuple[Charge, ...]] = (Charge(Stage.HEAD, "extra", tokens_of, "extra"),)

    def parts(self, tokens: Any) -> list[Part]:
        """Nothing."""
        return [Part(0.0 * np.asarray(tokens))]


@pytest.mark.parametrize(
    "wrong",
    [
        {"parts": nothing_there},
        {"sources": nothing_there},
        {"charges": (replace(Extra.charges[0], of=nothing_there),)},
        {"charges": (replace(Extra.charges[0], when=nothing_there),)},
    ],
    ids=["parts", "sources", "shape", "when"],
)
def test_an_operation_that_raises_is_named(monkeypatch, wrong):
    """It is charged in every run."""
    monkeypatch.setitem(operations.components, "extra", Extra)
    assert moesim.run(SERVED).summary["status"] == "ok"
    monkeypatch.setitem(operations.components, "extra", type("Wrong", (Extra,), wrong))
    said = r"^costs: 'extra' raises KeyError: 'nothing there' \(.*test_wrong_answers\.py:\d+\)$"
    with pytest.raises(InputError, match=said):
        moesim.run(SERVED)


def test_what_a_component_does_not_have_is_told(monkeypatch):
    monkeypatch.delattr(Vllm, "knobs")
    said = r"^workload\.batching\.scheduler: 'vllm' has no .knobs., which its base class leaves"
    with pytest.raises(InputError, match=said):
        moesim.run(SERVED)


class Chunk(NamedTuple):
    """The knobs of a rule."""

    size: int


def first_runs(state: State, rank: int) -> None:
    """The first that waits runs, if nobody does."""
    if state.ranks[RUN, rank] == 0 and state.ranks[WAIT, rank] > 0:
        run(state, state.ranks[WAIT_FIRST, rank])


def too_many_tokens(state: State, knobs: Chunk, rank: int) -> None:
    """A request has more tokens in a step than are due."""
    first_runs(state, rank)
    if state.ranks[RUN, rank] > 0 and due(state, state.running[rank, 0]) > 0:
        add(state, state.running[rank, 0], due(state, state.running[rank, 0]) + knobs.size)


def first_alone(state: State, knobs: Chunk, rank: int) -> None:
    """Who comes after the first is never served."""
    first_runs(state, rank)
    if state.ranks[RUN, rank] > 0 and state.running[rank, 0] == 0:
        count = min(due(state, 0), knobs.size)
        if count > 0:
            add(state, 0, count)


def one_too_many(state: State, knobs: Chunk, rank: int) -> None:
    """A request is twice in a step."""
    first_runs(state, rank)
    if state.ranks[RUN, rank] > 0:
        for _ in range(2):
            add(state, state.running[rank, 0], knobs.size)


def again(state: State, knobs: Chunk, rank: int) -> None:
    """One that waits runs twice."""
    if state.ranks[WAIT, rank] > 0:
        request = state.ranks[WAIT_FIRST, rank]
        for _ in range(2 * knobs.size):
            run(state, request)


def nobody(state: State, knobs: Chunk, rank: int) -> None:
    """A request that there is not."""
    first_runs(state, rank)
    add(state, 1_000_000, knobs.size)


def by_zero(state: State, knobs: Chunk, rank: int) -> None:
    """A mistake in compiled code."""
    first_runs(state, rank)
    add(state, state.running[rank, 0], 1 // (state.ranks[RUN, rank] * 0 * knobs.size))


UNSOUND = UNSOUND_SAID.partition(": ")[2]
RULES_OF_STEPS = [
    (lambda _: too_many_tokens, lambda *_: Chunk(7), UNSOUND),
    (lambda _: again, lambda *_: Chunk(1), UNSOUND),
    (lambda _: nobody, lambda *_: Chunk(1), UNSOUND),
    (lambda _: first_alone, lambda *_: Chunk(512), "leaves 5 of 6 requests without their answer"),
    (lambda _: one_too_many, lambda *_: Chunk(1), UNSOUND),
    (lambda _: by_zero, lambda *_: Chunk(1), "raises ZeroDivisionError: .*by zero"),
    (lambda _: None, lambda *_: Chunk(1), "gives None as a rule, not a function"),
    (lambda _: first_alone, lambda *_: None, "gives None as knobs, not a named tuple"),
    (lambda _: first_alone, lambda *_: {"size": 1}, "gives {'size': 1} as knobs"),
    (lambda _: first_alone, lambda *_: Chunk(0.5), r"gives knobs \[0.5\], not whole numbers"),  # type: ignore[arg-type]
]


@pytest.mark.parametrize(("rule", "knobs", "what"), RULES_OF_STEPS)
def test_schedulers(monkeypatch, rule, knobs, what):
    monkeypatch.setattr(Vllm, "rule", rule)
    monkeypatch.setattr(Vllm, "knobs", knobs)
    with pytest.raises(InputError, match=rf"workload\.batching\.scheduler: ('vllm' )?.*{what}"):
        moesim.run(SERVED)


def test_what_a_scheduler_gave():
    asked = np.ones((REQUEST_ROWS, 2), np.int64)
    asked[STATUS], asked[GIVEN], asked[OUTPUT] = ENDED, 5, [5, 4]
    state: Any = SimpleNamespace(requests=asked)
    assert fault_of_served(state) == "gives request 1 5 tokens of 4"


SPLIT = {
    **SERVED,
    "experts": {"capacity": "12 slots/layer"},
    "memory": {"kv": "30 blocks", "split": {"kind": "kv_first"}},
}


@pytest.mark.parametrize(
    ("function", "answer", "what"),
    [
        ("knobs", None, "gives None as knobs, not a named tuple"),
        ("least_blocks", -3, "promises -3 blocks of 30"),
        ("least_blocks", 10**9, "promises 1000000000 blocks of 30"),
        ("least_blocks", 2.5, "promises 2.5 blocks of 30"),
        ("move", None, "gives None as a rule, not a function"),
    ],
)
def test_splits(monkeypatch, function, answer, what):
    monkeypatch.setattr(KvFirst, function, lambda *_: answer)
    with pytest.raises(InputError, match=rf"memory\.split: 'kv_first' {what}"):
        moesim.run(SPLIT)


SCORES = [
    (lambda one: one * 1.0, "gives scores as float64, not as an array of int64"),
    (lambda one: one.tolist(), "gives scores as list"),
    (lambda one: one[1:], "gives scores of shape"),
    (lambda one: -1 - one, "gives a score outside 0..16777216"),
    (lambda one: one + (1 << 30), "gives a score outside 0..16777216"),
]
RULES = [
    ("limits", (1,), "gives limits .1,., not 2 that ascend"),
    ("limits", (1, 2, 3), "gives limits .1, 2, 3., not 2 that ascend"),
    ("limits", (2, 1), "gives limits .2, 1., not 2 that ascend"),
    ("limits", (0.5, 1.0), "gives limits or what is loaded not as whole numbers"),
    ("loaded", (0,), "loads .0,., not 3 of 0..2"),
    ("loaded", (0, 1, 77), "loads .0, 1, 77., not 3 of 0..2"),
    ("loaded", (-5, -5, -5), "loads .-5, -5, -5., not 3 of 0..2"),
    ("learning_part", 7.5, "learns from 7.5 of the trace"),
]
VARIED = {
    **OFFLOADED,
    "experts": {
        "capacity": "8 slots/layer",
        "variants": {"high": {"capacity": "70 %"}, "low": {"format": "int4", "group": 64}},
        "choose": {"kind": "gate_ratio"},
    },
}
SEEN = Choice(
    np.arange(8, dtype=np.uint16).reshape(2, 1, 4), np.full((2, 1, 4), 9), np.zeros((0, 0), int)
)


@pytest.mark.parametrize("engine", ["des", "replay"])
@pytest.mark.parametrize(("change", "what"), SCORES)
def test_scores_of_variants(monkeypatch, change, what, engine):
    scores = GateRatio.scores
    monkeypatch.setattr(GateRatio, "scores", lambda *given: change(scores(*given)))
    with pytest.raises(InputError, match=rf"experts\.choose: 'gate_ratio' {what}"):
        moesim.run({**VARIED, "engine": engine})
    with pytest.raises(AssertionError, match=what):
        scores_are_of_choices(GateRatio(), SEEN)


@pytest.mark.parametrize(("function", "answer", "what"), RULES)
def test_rules_of_variants(monkeypatch, function, answer, what):
    monkeypatch.setattr(GateRatio, function, lambda *_: answer)
    with pytest.raises(InputError, match=rf"experts\.choose: 'gate_ratio' {what}"):
        moesim.run(VARIED)
    with pytest.raises(AssertionError, match=what):
        limits_ascend(GateRatio(), 2)


def test_what_others_write_into_what_they_see_is_not_read(monkeypatch):
    usual, scores = moesim.run(VARIED).summary, GateRatio.scores

    def writes(one: GateRatio, seen: Choice) -> Any:
        found = scores(one, seen)
        seen.ids[:], seen.weights[:] = 0, 0
        return found

    monkeypatch.setattr(GateRatio, "scores", writes)
    monkeypatch.setattr(GateRatio, "__module__", __name__)
    for engine in ("des", "replay"):
        assert moesim.run({**VARIED, "engine": engine}).summary["misses"] == usual["misses"]


def changed(name: str, change: Any) -> Any:
    """A transform that gives one column otherwise."""
    return lambda _, choices: replace(choices, **{name: change(getattr(choices, name))})


TRANSFORMED = [
    (lambda *_: None, "gives NoneType, not Choices"),
    (changed("ids", lambda one: one * 1.0), "gives ids that are float64 of shape"),
    (changed("ids", lambda one: one[1:]), "gives ids that are uint16 of shape"),
    (changed("ids", lambda one: one[:, :, :2]), "gives weights that are float64 of shape"),
    (changed("ids", np.zeros_like), "chooses an expert twice"),
    (changed("ids", lambda one: one + np.uint16(900)), "an expert that does not live"),
    (changed("ids", lambda one: (one + np.uint16(1)) % np.uint16(32)), "was no choice"),
    (changed("weights", lambda one: one * np.nan), "gives a weight below 0, or none"),
    (changed("weights", lambda _: None), "gives no weights, unlike before"),
    (changed("recorded", lambda one: one * 5), "another recorded weight than it had"),
    (changed("living", lambda one: one[:, :-5]), "gives living that are bool of shape"),
    (changed("living", lambda one: one * 3), "gives living that are int64 of shape"),
    (changed("living", np.zeros_like), "an expert that does not live"),
    (changed("learnt", lambda _: 10**9), "has learnt of 1000000000 of"),
    (changed("notes", lambda _: (5,)), "gives notes that are no text"),
    (changed("predicted", lambda _: 7), "gives another prediction than was recorded"),
]


def unused_first(_: Any, choices: Choices) -> Choices:
    """Every first place is unused."""
    ids = choices.ids.copy()
    ids[:, :, 0] = NO_EXPERT
    return replace(choices, ids=ids)


def brought_back(_: Any, choices: Choices) -> Choices:
    """Writes what it is given."""
    choices.ids[:, :, 1:] = NO_EXPERT
    return choices


@pytest.mark.parametrize(
    ("apply", "what"),
    [
        *TRANSFORMED,
        (unused_first, "puts an unused place before a choice"),
        (brought_back, "raises ValueError: assignment destination is read-only"),
    ],
)
def test_transforms(monkeypatch, apply, what):
    monkeypatch.setattr(TopK, "apply", apply)
    with pytest.raises(InputError, match=rf"routing: 'top_k' .*{what}"):
        moesim.run({**OFFLOADED, "routing": [{"kind": "top_k", "k": 2}]})


@pytest.mark.parametrize(
    ("read", "what"),
    [
        (lambda *_: None, "'plain_json' gives NoneType, not a RoutingTrace"),
        (lambda *_: dict[str, int]()["ids"], r"'plain_json' raises KeyError: 'ids' \(.*\.py:\d+\)"),
    ],
)
def test_importers(monkeypatch, tmp_path, read, what):
    (tmp_path / "some.txt").write_text("some routing")
    made = {"read": read, "recognises": lambda *_: True, "kind": "plain_json"}
    named = {"__module__": __name__, "__annotations__": {"kind": Literal["plain_json"]}}
    importer = type("PlainJson", (Importer,), {**made, **named})
    monkeypatch.setitem(importers.components, "plain_json", importer)
    with pytest.raises(InputError, match=what):
        import_trace(tmp_path / "some.txt", importer="plain_json")


def predicted(offsets, experts):
    """A prediction made of the active experts of a layer."""
    return lambda _, view, source, target, gpu: ActiveExperts(
        offsets(view.active_experts[target, gpu]), experts(view.active_experts[target, gpu])
    )


@pytest.mark.parametrize("engine", ["des", "replay"])
@pytest.mark.parametrize(("predict", "what"), PREDICTED)
def test_prefetchers(monkeypatch, predict, what, engine):
    monkeypatch.setattr(NextLayer, "predict", predicted(*predict))
    prefetch = {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}
    with pytest.raises(InputError, match=rf"experts\.prefetch: 'next_layer' {what}"):
        moesim.run({**OFFLOADED, "experts": prefetch, "engine": engine})
    needed = np.random.default_rng(0).random((5, 3, 8)) < 0.5
    with pytest.raises(AssertionError, match=what):
        predicts_experts_of_the_gpu(NextLayer(), view_of(needed), 0, 1)


@pytest.mark.parametrize("engine", ["des", "replay"])
@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (None, "gives NoneType, not ActiveExperts"),
        ([3], "gives list, not ActiveExperts"),
        (ActiveExperts([0], [1]), "predicts offsets that are object"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_prediction(monkeypatch, answer, what, engine):
    monkeypatch.setattr(NextLayer, "predict", lambda *_: answer)
    prefetch = {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}
    with pytest.raises(InputError, match=rf"^experts\.prefetch: 'next_layer' {what}"):
        moesim.run({**OFFLOADED, "experts": prefetch, "engine": engine})


def is_full(*_: Any) -> Any:
    raise OSError("no")


SPREAD = {**OFFLOADED, "parallelism": {"expert": 2}, "placement": {"kind": "greedy"}}
PLACED: list[Any] = [
    (lambda *_: None, "gives NoneType, not an array of experts"),
    (lambda *_: [1], "gives list, not an array of experts"),
    (lambda *_: np.zeros(3), r"gives experts of shape \(3,\), not \[\d+ MoE layers, physical\]"),
    (lambda _, task: np.zeros((task.layers, 3)), "gives experts that are float64, not whole"),
    (lambda _, task: np.zeros((task.layers, 3), int), r"does not place each of \d+ experts"),
    (is_full, r"raises OSError: no \(.*\.py:\d+\)"),
]


@pytest.mark.parametrize(("place", "what"), PLACED)
def test_planners(monkeypatch, place, what):
    monkeypatch.setattr(Greedy, "place", place)
    for asked in (moesim.run, moesim.place):
        with pytest.raises(InputError, match=rf"placement: 'greedy' {what}"):
            asked(SPREAD)
    if place is not is_full:
        with pytest.raises(AssertionError, match=f"Greedy {what}"):
            places_every_expert(Greedy(), Task(2, np.ones((1, 2, 4), np.int64)))


REBALANCED = {
    **OFFLOADED,
    "experts": {"capacity": "all"},
    "parallelism": {"expert": 2},
    "placement": {"kind": "eplb", "interval": 4},
}
REPLANNED: list[Any] = [
    (lambda *_: None, "gives NoneType, not an array of experts"),
    (lambda *_: np.zeros(3), r"gives experts of shape \(3,\), not \[\d+ MoE layers, physical\]"),
    (lambda _, loads, __: np.zeros(loads.shape), "gives experts that are float64, not whole"),
    (lambda _, loads, __: np.zeros(loads.shape, int), r"does not place each of \d+ experts"),
    (
        lambda _, loads, __: np.tile(np.arange(loads.shape[1]), (len(loads), 2)),
        r"gives \d+ physical experts during the run, which has \d+$",
    ),
    (is_full, r"raises OSError: no \(.*\.py:\d+\)"),
]


@pytest.mark.parametrize("engine", ["des", "replay"])
@pytest.mark.parametrize(("plan", "what"), REPLANNED)
def test_what_planners_plan_anew(monkeypatch, plan, what, engine):
    monkeypatch.setattr(Eplb, "_replan", plan)
    with pytest.raises(InputError, match=rf"^placement: 'eplb' {what}"):
        moesim.run({**REBALANCED, "engine": engine})


@pytest.mark.parametrize(
    ("rules", "what"),
    [
        (3, "rebalances by 3, not by a Rebalance"),
        (Rebalance(0, 1, is_full), "rebalances with 'interval' 0, not a whole number from 1 on"),
        (Rebalance(1, 2.5, is_full), "rebalances with 'window' 2.5, not a whole"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_rebalancing(monkeypatch, rules, what):
    monkeypatch.setattr(Eplb, "rebalances", property(lambda _: rules))
    with pytest.raises(InputError, match=f"placement: 'eplb' {what}"):
        moesim.run(REBALANCED)


def test_what_is_no_plan(monkeypatch):
    monkeypatch.setattr(Greedy, "plan", lambda *_: None)
    with pytest.raises(InputError, match="placement: 'greedy' gives NoneType, not a Plan"):
        moesim.run(SPREAD)


@pytest.mark.parametrize(
    ("answer", "what"),
    [
        (None, "gives NoneType, not Seats"),
        (Seats([0], ZERO, ZERO), "gives a slot as list, not as an array"),  # type: ignore[arg-type]
    ],
)
def test_what_are_no_seats(monkeypatch, answer, what):
    monkeypatch.setattr(Static, "seats", lambda *_: answer)
    with pytest.raises(InputError, match=rf"^workload\.batching: 'static' {what}"):
        moesim.run(OFFLOADED)


@pytest.mark.parametrize(("change", "what"), SEATS)
def test_batchings(monkeypatch, change, what):
    seats = Static.seats
    monkeypatch.setattr(Static, "seats", lambda *given: replace(seats(*given), **change))
    with pytest.raises(InputError, match=rf"workload\.batching: 'static' .*{what}"):
        moesim.run({**OFFLOADED, "workload": {"requests": 2}})
    trace = read_trace("traces/small-moe.parquet")
    requests = Requests.of(trace, "decode", 2)
    with pytest.raises(AssertionError, match=what):
        keeps_within_the_batch(Static(batch_size=1), requests, trace, 1)


def test_gatings(monkeypatch):
    route = Dynamic.route

    def more(*given: Any) -> Any:
        routed: Any = route(*given)
        return replace(routed, rows=1.5 * routed.rows)

    monkeypatch.setattr(Dynamic, "route", more)
    with pytest.raises(InputError, match="gating: 'dynamic' gives rows that are float64"):
        moesim.run({**OFFLOADED, "engine": "des"})
    counts = np.ones((1, 1, 1, 4), np.int64)
    with pytest.raises(AssertionError, match="gives rows that are float64"):
        conserves_choices(Dynamic(), counts, np.ones((1, 1), np.int64), 4)


@pytest.mark.parametrize(
    ("answer", "what"),
    [(7, "answers form 7, of 2"), (-1, "answers form -1, of 2"), (1.0, "answers 1.0, which is no")],
)
def test_ways_to_handle_misses(monkeypatch, answer, what):
    def place(missing: Missing) -> Any:
        return answer if missing.loads else 1

    monkeypatch.setattr(Cheapest, "place", staticmethod(place))
    experts = {"capacity": "8 slots/layer", "miss": {"kind": "cheapest"}}
    with pytest.raises(InputError, match=rf"experts\.miss: 'cheapest' {what}"):
        moesim.run({**OFFLOADED, "experts": experts})
    with pytest.raises(AssertionError, match=what):
        answers_as_it_says(Cheapest(), (0, 0, 1, 1, 1, 1))


def test_what_a_way_to_handle_misses_raises(monkeypatch):
    monkeypatch.setattr(Cheapest, "place", staticmethod(lambda missing: missing.nothing))
    experts = {"capacity": "8 slots/layer", "miss": {"kind": "cheapest"}}
    with pytest.raises(InputError, match=r"^experts\.miss: 'cheapest' raises Attr.*py:\d"):
        moesim.run({**OFFLOADED, "experts": experts})
