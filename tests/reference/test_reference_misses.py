"""Misses against the study's table, and against textbook caches."""

from __future__ import annotations

from pathlib import Path
from random import Random

import numpy as np
import pytest

from . import reference
from .prices import ToyPrices
from .reference import Decisions, route_pass
from .reference_batches import passes_of
from .reference_clock import Clock
from .reference_words import DECODE, Config, Layer, Model, Trace
from .scenes import play

SHARED = Path(__file__).resolve().parents[3] / "shared"
ROUTING = SHARED / "data" / "routing" / "gptoss20b_decode_160req.npz"

SLOTS = (2, 4, 8, 16)
TABLE = {  # (requests, tokens of each): expert activations, misses by policy at SLOTS
    (1, 80): (
        7680,
        {
            "lru": (6376, 4246, 2925, 1244),
            "fifo": (6357, 4246, 3096, 1480),
            "lifo": (6220, 4246, 3123, 1548),
            "lfu": (6185, 4246, 2720, 1174),
            "min": (5849, 4246, 2029, 846),
        },
    ),
    (4, 40): (
        9826,
        {
            "lru": (9020, 7648, 5388, 2396),
            "fifo": (9026, 7675, 5467, 2576),
            "lifo": (8957, 7437, 5214, 2523),
            "lfu": (8966, 7413, 5065, 2269),
            "min": (8834, 7035, 4305, 1767),
        },
    ),
    (16, 30): (
        12351,
        {
            "lru": (11691, 10443, 8178, 4230),
            "fifo": (11691, 10447, 8210, 4332),
            "lifo": (11672, 10370, 7985, 3986),
            "lfu": (11680, 10400, 8028, 3926),
            "min": (11611, 10231, 7711, 3478),
        },
    ),
}


def excerpt(requests: int, tokens: int) -> Trace:
    """The first tokens of the first requests of the real trace (see its README)."""
    with np.load(ROUTING) as data:
        ids, offsets, first = data["expert_ids"], data["offsets"], data["first_position"]
    trace: Trace = {"expert_ids": [], "request_id": [], "position": [], "phase": []}
    for request in range(requests):
        start = int(offsets[request])
        trace["expert_ids"] += ids[start : start + tokens].tolist()
        trace["request_id"] += [request] * tokens
        trace["position"] += range(int(first[request]), int(first[request]) + tokens)
        trace["phase"] += [DECODE] * tokens
    return trace


@pytest.mark.skipif(not ROUTING.exists(), reason="the full real trace is not beside the repository")
@pytest.mark.parametrize(("requests", "tokens"), TABLE)
def test_the_table_of_misses(requests: int, tokens: int, monkeypatch: pytest.MonkeyPatch) -> None:
    activations, rows = TABLE[requests, tokens]
    trace = excerpt(requests, tokens)
    model = Model([Layer(i, moe=True) for i in range(24)], 32, 4, 2880, 2, 13_000_000)
    passes = passes_of(trace, Config(batch_size=requests))
    routed = {one.step: route_pass(one, trace, model, Config()) for one in passes}
    monkeypatch.setattr(reference, "route_pass", lambda one, *_: routed[one.step])  # once for all
    for policy, expected in rows.items():
        counted = []
        for slots in SLOTS:
            config = Config(batch_size=requests, slots=slots, policy=policy)
            clock = Clock(trace, model, config, ToyPrices())  # stands still: misses need none
            decisions = Decisions(passes, trace, model, config, clock)
            decided = [decisions.activations(s, m, 0, 0) for s in range(tokens) for m in range(24)]
            assert sum(map(len, decided)) == activations
            counted.append(
                sum(activation.missed for of_layer in decided for activation in of_layer)
            )
        assert tuple(counted) == expected, policy


def textbook(policy: str, accesses: list[int], slots: int) -> int:
    """Misses of a plain cache over one access after another."""
    cache: list[int] = []  # the next victim of lru and fifo stands first
    misses = 0
    for now, expert in enumerate(accesses):
        if expert in cache:
            if policy == "lru":
                cache.remove(expert)
                cache.append(expert)
            continue
        misses += 1
        if len(cache) == slots:
            rest = accesses[now + 1 :]
            away = [rest.index(e) if e in rest else len(rest) for e in cache]
            cache.pop(away.index(max(away)) if policy == "min" else 0)
        cache.append(expert)
    return misses


@pytest.mark.parametrize("policy", ["lru", "fifo", "min"])
def test_top_1_traces_are_textbook_caches(policy: str) -> None:
    random = Random(2)
    for _ in range(60):
        experts = random.randint(2, 12)
        weights = [1 / (1 + e) ** random.choice([0, 1]) for e in range(experts)]
        accesses = random.choices(range(experts), weights, k=random.randint(1, 120))
        slots = random.randint(1, experts - 1)
        verdict = play([[e] for e in accesses], experts, slots=slots, policy=policy)
        assert verdict.misses == textbook(policy, accesses, slots)


def test_capacity_for_all_is_resident_from_the_start() -> None:
    verdict = play([[0, 1], [1, 2]], 3, slots=3)
    assert (verdict.misses, verdict.hits, verdict.stall_ns, verdict.bytes_h2d) == (0, 4, 0, 0)
