"""Contract: every kind of run has a timeline, whole and without holes."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import product
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
from hypothesis import given, settings

from moesim.engine.case import Case as EngineCase
from moesim.engine.des import run as des
from moesim.engine.des.run import run_des
from moesim.engine.outcome import Outcome
from moesim.engine.program import Program
from moesim.engine.residency.residencies import Residencies
from moesim.gating import registry as gatings
from moesim.hardware.charge import CHARGES
from moesim.memory.misses import registry as misses
from moesim.memory.prefetch import registry as prefetchers
from moesim.metrics.tables import slots_table, spans_table, steps_table
from moesim.report.timeline.events import trace_events
from moesim.results.result import empty_table
from moesim.testing.timelines import check_timeline, nanoseconds

from .prices import ToyPrices
from .reference_words import DECODE, PREFILL, Config, Kernels, Layer, Model, Software
from .strategies import Case, cases
from .strategies_concepts import by_bytes_cases
from .strategies_prefetch import prefetching_cases
from .wiring import engine_case

MODEL = Model([Layer(0, moe=False), Layer(1, moe=True), Layer(2, moe=True)], 6, 2, 4, 2, 1000)


def trace_of(outcome: Outcome) -> dict[str, Any]:
    """What is written, as it is read."""
    events = list(trace_events(spans_table(outcome), empty_table("memory"), slots_table(outcome)))
    whole: dict[str, Any] = json.loads(
        json.dumps({"displayTimeUnit": "ns", "traceEvents": events}, allow_nan=False)
    )
    return whole


def check(case: EngineCase) -> dict[str, Any]:
    """The timeline of ``case``, which keeps to the format and has the times of the run."""
    programs: list[Program] = []

    def program(of: EngineCase) -> Program:
        programs.append(Program(of))
        return programs[-1]

    with patch.object(des, "Program", program):
        outcome = run_des(case, records="expert", check=True)
    trace = trace_of(outcome)
    check_slots(case, programs[0].residencies, trace)
    check_timeline(trace)
    steps = steps_table(case, outcome)
    charged: Counter[tuple[int, str]] = Counter()
    for step, gpu, parts in of_gpus(trace, case):
        edges = [nanoseconds(parts[0]), *(end_of(part) for part in parts)]
        assert [nanoseconds(part) for part in parts] == edges[:-1], (step, gpu, "a hole")
        assert (edges[0], edges[-1]) == (outcome.starts[step, gpu], outcome.ends[step, gpu])
        for part in parts:
            charged[step, part["cat"]] += round(part["dur"] * 1000)
    columns = ["attention_ns", "gate_ns", "dispatch_combine_ns", "experts_ns", "host_ns",
               "stall_ns", "barrier_ns", "cpu_wait_ns"]  # fmt: skip
    for step, row in enumerate(steps[columns].to_numpy().tolist()):
        assert [charged[step, name] for name in CHARGES] == row, step
    return trace


def check_slots(case: EngineCase, residencies: Residencies, trace: dict[str, Any]) -> None:
    """Experts in slots: never more than those, and in the end what the caches hold."""
    if case.policy.shared_buffers() is not None:
        return
    for gpu in range(case.gpus):
        local = len(case.local_experts(gpu))
        slots = int(np.minimum(case.slots[gpu], local).sum())
        if (room := case.room(gpu)) is not None:
            slots = int(np.count_nonzero(np.cumsum(np.sort(room.sizes)) <= room.limit))
        held = [
            one["args"]["experts"]
            for one in trace["traceEvents"]
            if one["ph"] == "C" and one["name"] == "in slots" and one["pid"] == gpu + 1000
        ]
        assert all(experts <= slots for experts in held)
        works = any(one["ph"] == "X" and one["pid"] == gpu + 1000 for one in trace["traceEvents"])
        assert held[-1:] == ([residencies.held(gpu)] if works else [])


def of_gpus(trace: dict[str, Any], case: EngineCase) -> list[tuple[int, int, list[dict[str, Any]]]]:
    """Step, GPU, and the spans of its time in that step; those that take time are enough."""
    events = trace["traceEvents"]
    tracks = {
        (one["pid"], one["tid"])
        for one in events
        if one["name"] == "thread_name" and one["args"]["name"] == "GPU time"
    }
    found: dict[tuple[int, int], list[dict[str, Any]]] = {}
    for one in (one for one in events if one["ph"] == "X"):
        if (one["pid"], one["tid"]) in tracks:
            found.setdefault((one["args"]["step"], one["pid"] - 1000), []).append(one)
    return [(step, gpu, parts) for (step, gpu), parts in found.items()]


def end_of(event: dict[str, Any]) -> int:
    return int(nanoseconds(event) + round(event["dur"] * 1000))


def small_case(gpus: int, **choices: Any) -> EngineCase:
    """Four requests with a prompt each, and more experts needed than there are slots."""
    draw = np.random.default_rng(3)
    phases = [PREFILL] * 3 + [DECODE] * 4
    tokens = [(name, place, phase) for name in range(4) for place, phase in enumerate(phases)]
    ids = [[draw.choice(6, 2, replace=False).tolist() for _ in range(2)] for _ in tokens]
    trace = {
        "expert_ids": ids,
        "predicted_ids": [[layer[::-1] for layer in token] for token in ids],
        "request_id": [name for name, _, _ in tokens],
        "position": [place for _, place, _ in tokens],
        "phase": [phase for _, _, phase in tokens],
    }
    software = Software(kernels=Kernels(1, 1, 1, 1, 1, 1, 1), launch_ns=20.0, host_per_copy_ns=15.0)
    config = Config(gpus=gpus, slots=2, phase="all", batch_size=2, software=software)
    return replace(engine_case(Case(trace, MODEL, config, ToyPrices())), **choices)


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize(
    ("miss", "ahead"), list(product(misses.components, prefetchers.components))
)
def test_every_way_of_missing_and_prefetching_has_a_timeline(
    miss: str, ahead: str, gpus: int
) -> None:
    for kernels in ("serial", "grouped", "block_sparse"):
        handled = {"miss": misses.get(miss)(), "prefetch": prefetchers.get(ahead)()}
        trace = check(small_case(gpus, kernels=kernels, **handled))
        assert {"attention", "gate", "head"} <= {one["name"] for one in trace["traceEvents"]}


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("gating", gatings.components)
def test_every_gating_has_a_timeline_with_its_drops(gating: str, gpus: int) -> None:
    one = gatings.get(gating)()
    for kernels in ("serial", "grouped", "block_sparse", *([] if one.uneven else ["batched"])):
        check(small_case(gpus, kernels=kernels, gating=one))


FEW = settings(max_examples=settings().max_examples // 3)  # a timeline takes long to write


@FEW
@given(cases(prompts=True))
def test_every_gating_phase_and_software_has_a_timeline(case: Case) -> None:
    check(engine_case(case))


@FEW
@given(by_bytes_cases())
def test_every_pool_by_bytes_has_a_timeline(case: Case) -> None:
    check(engine_case(case))


@FEW
@given(prefetching_cases())
def test_every_prefetch_has_a_timeline(case: Case) -> None:
    check(engine_case(case))
