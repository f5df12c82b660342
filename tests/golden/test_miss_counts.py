"""Misses of the shipped trace under every policy, and one run on the clock, to the nanosecond.

These numbers are the product. A change of any of them is a breaking change: name it in
CHANGELOG.md, with its reason, in the commit that changes it here.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import moesim
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build

SLOTS = (2, 4, 6, 8, 12, 16, 24, 28)
"""Slots a layer, of gpt-oss-20b's 32 experts."""

STATIC_1 = {
    "arc": (400_088, 270_457, 211_617, 163_174, 93_851, 51_227, 10_174, 3_310),
    "fifo": (404_319, 270_457, 223_264, 180_764, 114_973, 68_345, 18_091, 6_753),
    "gate_score": (390_227, 270_457, 200_337, 150_891, 84_395, 45_214, 9_616, 3_313),
    "least_stale": (404_154, 270_457, 214_403, 166_392, 95_699, 51_269, 10_237, 3_315),
    "lfru": (394_310, 270_457, 220_773, 176_344, 106_768, 58_889, 11_341, 3_402),
    "lfu": (394_310, 270_457, 224_721, 182_189, 112_514, 64_032, 12_903, 3_945),
    "lfu_decay": (391_380, 270_457, 200_330, 151_593, 84_687, 44_672, 9_491, 3_154),
    "lifo": (393_542, 270_457, 239_589, 212_220, 162_307, 102_208, 22_438, 5_860),
    "lru": (404_154, 270_457, 214_403, 166_392, 95_699, 51_269, 10_237, 3_315),
    "min": (372_003, 270_457, 164_014, 109_694, 52_752, 25_292, 4_764, 1_748),
    "random": (401_079, 270_457, 218_464, 175_628, 110_857, 66_336, 17_995, 6_351),
    "s3fifo": (403_451, 270_457, 205_552, 156_969, 88_402, 46_688, 9_444, 3_177),
    "static": (397_102, 270_457, 238_599, 209_429, 133_646, 76_255, 15_671, 4_551),
    "stream": (487_392, 487_392, 487_392, 487_392, 487_392, 487_392, 487_392, 487_392),
}
"""Misses over all layers at batch 1, by policy and slots."""

REFILL_8 = {
    "arc": (267_819, 231_128, 200_437, 173_127, 121_279, 75_938, 17_567, 5_283),
    "fifo": (268_348, 233_142, 204_411, 176_704, 126_680, 80_437, 24_884, 9_751),
    "gate_score": (266_672, 228_666, 195_165, 164_464, 109_628, 67_477, 14_841, 4_497),
    "least_stale": (268_367, 232_726, 202_898, 174_486, 122_437, 75_978, 17_609, 5_296),
    "lfru": (266_914, 229_110, 195_781, 165_074, 111_073, 69_334, 15_400, 4_519),
    "lfu": (266_914, 229_110, 195_807, 165_128, 111_475, 69_642, 15_613, 4_646),
    "lfu_decay": (267_145, 229_792, 196_726, 165_996, 110_155, 67_556, 14_698, 4_379),
    "lifo": (267_002, 229_157, 198_028, 169_391, 118_166, 73_117, 18_443, 6_504),
    "lru": (268_367, 232_726, 202_898, 174_486, 122_437, 75_978, 17_609, 5_296),
    "min": (264_400, 224_619, 187_344, 154_273, 95_333, 57_284, 10_991, 3_016),
    "random": (268_101, 232_493, 202_826, 174_915, 123_367, 77_519, 21_162, 7_493),
    "s3fifo": (268_284, 231_717, 200_979, 170_735, 117_938, 72_873, 16_272, 4_836),
    "static": (267_884, 230_466, 200_016, 170_528, 118_010, 74_393, 17_328, 5_139),
    "stream": (288_393, 288_393, 288_393, 288_393, 288_393, 288_393, 288_393, 288_393),
}
"""The same with refill batching of 8 requests, where up to 25 experts are needed in one step."""


def case_of(kind, batch_size):
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/quickstart.parquet",
        "workload": {"batching": {"kind": kind, "batch_size": batch_size}},
        "experts": {"capacity": "8 slots/layer"},
    }
    return build(moesim.load_experiment(source).experiment).case


@pytest.fixture(scope="module")
def cases():
    return {"static": case_of("static", 1), "refill": case_of("refill", 8)}


@pytest.fixture(scope="module")
def log():
    """What the runs share, as the points of a sweep do: their needs are found once."""
    return DecisionLog()


def test_what_has_a_row_has_it_in_both_tables_and_is_there():
    """A policy that is added needs no row: its contract tests it."""
    from moesim.memory.policies import registry

    assert set(STATIC_1) == set(REFILL_8) <= set(registry.components)


@pytest.mark.parametrize("policy", STATIC_1)
@pytest.mark.parametrize(("batching", "golden"), [("static", STATIC_1), ("refill", REFILL_8)])
def test_misses_of_the_shipped_trace(cases, log, batching, golden, policy):
    from moesim.memory.policies import registry

    case = replace(cases[batching], policy=registry.get(policy)())
    of_sizes = [replace(case, slots=np.full_like(case.slots, slots)) for slots in SLOTS]
    runs = [run_replay(one, records="summary", log=log) for one in of_sizes]
    assert tuple(int(run.counts.misses.sum()) for run in runs) == golden[policy]


def steps_of(case, layer):
    """The distinct experts of every pass in one MoE layer."""
    ids = case.trace.expert_ids[case.schedule.rows, layer]
    return [set(part.ravel().tolist()) for part in np.split(ids, case.schedule.offsets[1:-1])]


def test_the_table_is_what_a_stack_counts(cases):
    """One pass over the trace gives LRU at every size that holds a step's experts: with the stack
    taken at the step's start, the content of size C is its first C.
    """
    case, counted = cases["static"], dict.fromkeys(SLOTS[1:], 0)
    for layer in range(24):
        stack: list[int] = []
        for needed in steps_of(case, layer):
            places = [stack.index(e) if e in stack else 32 for e in needed]
            for size in counted:
                counted[size] += sum(place >= size for place in places)
            stack = sorted(needed, reverse=True) + [e for e in stack if e not in needed]
    assert tuple(counted.values()) == STATIC_1["lru"][1:]


def test_with_just_the_slots_of_one_step_only_its_repeats_hit(cases):
    """4 slots at batch 1 hold the last token's four experts whatever the policy; ``stream`` keeps
    nothing, so that each activation is a miss.
    """
    expected = 0
    for layer in range(24):
        before: set[int] = set()
        for needed in steps_of(cases["static"], layer):
            expected += len(needed - before)
            before = needed
    caches = {kind: row for kind, row in STATIC_1.items() if kind != "stream"}
    assert {row[SLOTS.index(4)] for row in caches.values()} == {expected}
    assert set(STATIC_1["stream"]) == {321_000 + 166_392}


def test_the_base_point_of_the_quickstart():
    summary = moesim.run("experiments/quickstart.yaml", records="summary").summary
    assert (summary["hits"], summary["misses"]) == (321_000, 166_392)
    assert round(summary["duration_ms"] * 1_000_000) == 254_067_942_555  # ns
    assert summary["bytes_h2d"] == 166_392 * 13_236_480
    assert summary["peak_memory_bytes"] == 6_162_996_352
