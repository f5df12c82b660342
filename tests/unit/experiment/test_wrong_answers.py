"""A component that gives what no run can be of ends the run with one line that names it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.gating.dynamic import Dynamic
from moesim.memory.activations import ActiveExperts
from moesim.memory.misses.base import Missing
from moesim.memory.misses.cheapest import Cheapest
from moesim.memory.prefetch.next_layer import NextLayer
from moesim.testing.arrivals import come_in_order
from moesim.testing.batchings import keeps_within_the_batch
from moesim.testing.gatings import conserves_choices
from moesim.testing.lengths import are_one_or_more
from moesim.testing.misses import answers_as_it_says
from moesim.testing.prefetchers import predicts_experts_of_the_gpu, view_of
from moesim.testing.routers import chooses_a_replica
from moesim.trace import read_trace
from moesim.workload.arrivals.base import Arrived
from moesim.workload.arrivals.poisson import Poisson
from moesim.workload.batching.static import Static
from moesim.workload.lengths.fixed import Fixed
from moesim.workload.requests import Requests
from moesim.workload.routers.base import Seen
from moesim.workload.routers.round_robin import RoundRobin
from moesim.workload.serving.state import NEVER

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
