"""The engine on a slice of the shipped trace: what must not change the clock, and what it keeps."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from math import ceil
from typing import Any

import numpy as np
import pytest
import simpy

import moesim
from moesim.config.errors import InputError
from moesim.engine import routing
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.engine.replay.run_clock import Clock
from moesim.experiment.building.build import build
from moesim.hardware import load_hardware
from moesim.memory.policies import registry as policies

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "h100-sxm",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 8, "batching": {"kind": "refill", "batch_size": 4}},
    "experts": {"capacity": "3 slots/layer"},
}
STEPS = 12


def case_of(limit_steps=STEPS, **choices):
    source = {**SOURCE, **choices}
    return build(moesim.load_experiment(source).experiment, limit_steps).case


def same(one, other):
    """Equal in everything that an outcome says of the run."""
    for name in ("starts", "ends", "charges"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    for name, values in vars(one.counts).items():
        np.testing.assert_array_equal(values, getattr(other.counts, name), err_msg=name)
    assert one.copies == other.copies


@pytest.fixture(scope="module", params=["one GPU", "two GPUs", "a shared switch", "hf-eager"])
def case(request):
    """Rule (b) everywhere: 4 requests need up to 16 experts of a layer, 3 have a slot."""
    two = {"parallelism": {"expert": 2}}
    choices: dict[str, dict[str, Any]] = {
        "one GPU": {},
        "two GPUs": two,
        "a shared switch": two | {"hardware": "dgx-h100"},
        "hf-eager": two | {"software": "hf-eager"},
    }
    return case_of(**choices[request.param])


def test_what_is_kept_does_not_change_the_clock(case):
    """Copies are grouped; with records: expert each is named on its own."""
    finest = run_des(case, records="expert", check=True)
    for records in ("summary", "step", "layer"):
        same(run_des(case, records=records), finest)
    assert len([span for span in finest.spans if span.engine == "copy_in"]) == finest.copies


def test_every_miss_is_one_copy_of_one_expert(case):
    outcome = run_des(case, records="expert")
    copies = (span for span in outcome.spans if span.engine == "copy_in")
    copied = {(copy.gpu, copy.step, copy.layer, copy.experts) for copy in copies}
    assert len(copied) == outcome.copies == int(outcome.counts.misses.sum())
    assert outcome.copies > 0


def test_a_copy_takes_its_price_or_longer_where_the_link_is_shared(case):
    expert = case.model.moe_layers[0].moe.expert
    copies = case.software.copies_per_expert(expert)
    price = case.prices.copy_ns(expert.bytes, "h2d", case.software.pinned, copies)
    outcome = run_des(case, records="expert")
    copies_made = (span for span in outcome.spans if span.engine == "copy_in")
    took = [copy.end_ns - copy.start_ns for copy in copies_made]
    if case.links is None:
        assert set(took) == {price}
    else:  # two GPUs behind an uplink that one can fill
        assert min(took) == price
        bytes_ns = ceil(expert.bytes * 1e9 / case.links.rate(0, "h2d"))
        assert price < max(took) <= price + bytes_ns


def test_the_shared_switch_moves_no_more_than_it_can():
    """Bytes conserved: two GPUs' copies through one uplink take at least bytes / capacity."""
    case = case_of(parallelism={"expert": 2}, hardware="dgx-h100")
    outcome = run_des(case, records="expert")
    spans = sorted((s.start_ns, s.end_ns) for s in outcome.spans if s.engine == "copy_in")
    busy, end = 0, 0
    for start, stop in spans:  # the union of all copies
        busy, end = busy + max(0, stop - max(start, end)), max(end, stop)
    amount = outcome.copies * case.model.moe_layers[0].moe.expert.bytes
    assert busy >= amount / case.links.capacity["switch 0 h2d"] * 1e9


def test_one_gpu_behind_a_switch_has_the_plain_times():
    plain, dgx = case_of(), case_of(hardware="dgx-h100")
    assert dgx.links is None  # one GPU cannot exceed its uplink
    same(run_des(plain), run_des(dgx))
    shared = replace(plain, links=load_hardware("dgx-h100").links(1))
    same(run_des(plain), run_des(shared, check=True))


def test_two_gpus_on_two_switches_have_the_plain_times():
    plain = case_of(parallelism={"expert": 2})
    apart = load_hardware("dgx-h100").links([0, 2])
    h2d = {0: apart.h2d[0], 1: apart.h2d[2]}
    same(run_des(plain), run_des(replace(plain, links=replace(apart, h2d=h2d))))


@pytest.mark.parametrize("policy", ["lru", "lfu", "random", "static"])
@pytest.mark.parametrize("gpus", [1, 2])
def test_the_first_steps_do_not_depend_on_the_later_ones(policy, gpus):
    experts = {"capacity": "4 slots/layer", "policy": {"kind": policy}, "initial": "most_used"}
    choices = {"parallelism": {"expert": gpus}, "experts": experts}
    long, short = (run_des(case_of(steps, **choices)) for steps in (20, 9))
    np.testing.assert_array_equal(long.ends[:9], short.ends)
    np.testing.assert_array_equal(long.charges[:9], short.charges)
    np.testing.assert_array_equal(long.counts.hits[:9], short.counts.hits)
    assert len(short.ends) == 9


@pytest.mark.parametrize("policy", ["lru", "min", "random"])
def test_chunks_are_an_implementation_detail(monkeypatch, policy):
    case = replace(case_of(20, parallelism={"expert": 2}), policy=policies.get(policy)())
    whole = run_des(case)
    cells = len(case.model.moe_layers) * case.gpus * case.trace.experts
    monkeypatch.setattr(routing, "CELLS", 3 * cells)  # 20 passes: seven chunks of 3 and less
    assert len(list(routing.Routing(case).pieces())) == 7
    same(whole, run_des(case))


def test_a_run_is_as_long_as_its_charges_and_never_idle():
    outcome = run_des(case_of(parallelism={"expert": 2}))
    charged = outcome.charges.sum(axis=2)
    np.testing.assert_array_equal(charged, outcome.ends - outcome.starts)
    np.testing.assert_array_equal(outcome.starts[1:], outcome.ends[:-1])
    assert not outcome.starts[0].any()


def test_ideal_resident_time_is_the_sum_of_the_prices():
    """One GPU, everything resident, no host: a pass takes the sum of its operations' prices."""
    source = {**SOURCE, "workload": {"requests": 1}, "experts": {"capacity": "all"}}
    case = build(moesim.load_experiment(source).experiment, 5).case
    case = replace(case, decide="device")
    outcome = run_des(case)
    prices: Any = case.prices
    for step, row in enumerate(case.schedule.rows[:5]):
        context, total = int(case.trace.position[row]) + 1, int(prices.head_ns(1))
        for layer in case.model.layers:
            seen = min(context, layer.attention.window or context)
            total += int(prices.attention_ns(layer, 1, seen, seen))
            total += int(prices.gate_ns(layer, 1)) + 2 * int(prices.permute_ns(layer, 4))
            total += int(prices.experts_ns(layer, np.ones(4, int), np.array([0]))[0])
        assert int(outcome.ends[step, 0] - outcome.starts[step, 0]) == total


@pytest.mark.parametrize("gating", ["dynamic", "static"])
@pytest.mark.parametrize("gpus", [1, 3])
def test_the_model_says_how_many_experts_there_are(gating, gpus):
    """A trace that names more experts than it uses costs no more, and splits over GPUs alike."""
    case = case_of(gating={"kind": gating}, parallelism={"expert": gpus})
    metadata = replace(case.trace.metadata, experts=5000)
    wider = replace(case, trace=replace(case.trace, metadata=metadata))
    same(run_des(case), run_des(wider))


def test_streamed_prompts_do_not_matter_to_prefetch_where_there_are_none():
    """The trace has answers only, so that 'prefill' says nothing about its passes."""
    experts = SOURCE["experts"] | {"prefetch": {"kind": "oracle"}}
    cases = [
        case_of(experts=experts, workload=SOURCE["workload"] | {"prefill": {"experts": way}})
        for way in ("cache", "stream")
    ]
    same(*(run_des(case) for case in cases))


ALMOST = (1 << 63) - 1000
"""Nanoseconds at which a clock is a microsecond from the last that int64 holds."""


def test_a_run_beyond_the_clock_is_refused_by_des(monkeypatch):
    late = partial(simpy.Environment, initial_time=ALMOST)
    monkeypatch.setattr("moesim.engine.des.run.simpy.Environment", late)
    with pytest.raises(InputError, match="more than 292 years"):
        run_des(case_of(2))


def test_a_run_beyond_the_clock_is_refused_by_replay(monkeypatch):
    class Late(Clock):
        def __init__(self, *args, **keeps):
            super().__init__(*args, **keeps)
            self.gpus.time[:] += ALMOST

    monkeypatch.setattr("moesim.engine.replay.run.Clock", Late)
    with pytest.raises(InputError, match="more than 292 years"):
        run_replay(case_of(2))
