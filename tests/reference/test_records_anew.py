"""When prefetches are decided by records that begin anew with a request, worked by hand."""

from __future__ import annotations

from typing import Any

from .agreement import agree
from .prefetch_scenes import padded
from .prices import ToyPrices
from .reference_words import DECODE, Config, Layer, Model, Prefetch, Trace
from .strategies import Case

USES = {"recency": 0.0, "frequency": 1.0, "high_use": 0.0, "distance": 0.0}


def prefetched(
    passes: list[list[list[int]]], requests: list[int], prefetch: Prefetch, **choices: Any
) -> list[list[int]]:
    """By pass and MoE layer; ``passes[s][m]``: what step s, of one of the ``requests``, needs."""
    trace: Trace = {
        "expert_ids": padded(passes, 1),
        "request_id": requests,
        "position": [requests[:s].count(one) for s, one in enumerate(requests)],
        "phase": [DECODE] * len(passes),
    }
    layers = len(passes[0])
    model = Model([Layer(m, moe=True) for m in range(layers)], 4, 1, 1, 1, expert_bytes=10)
    config = Config(policy="hobbit", prefetch=prefetch, initial="empty", **choices)
    rows = agree(Case(trace, model, config, ToyPrices())).layers
    made = [row["prefetched"] for row in rows]
    return [made[at : at + layers] for at in range(0, len(made), layers)]


def test_prefetches_of_the_last_pass_go_by_the_request_that_ends() -> None:
    """One layer, 3 slots. For the new request 2 takes the slot of 1, used once, not of 0, used
    twice. Once it has begun neither 0 nor 3 was used in it: 1 takes the slot of 0, the lowest.
    """
    needs = [[[0]], [[0]], [[1]], [[3]], [[2]], [[1]], [[3]], [[0]]]
    made = prefetched(needs, [0] * 4 + [1] * 4, Prefetch(kind="oracle"), slots=3, parameters=USES)
    assert made == [[0], [0], [1], [1], [1], [1], [0], [1]]


def test_prefetches_before_the_first_pass_of_a_request_go_by_distance_alone() -> None:
    """A pool of 3: what layer 2 has comes next, what layer 1 has last, and gives its slot to 1. In
    the next pass 1 was used since the request began, and what layer 2 has, though nearer, was not.
    """
    needs = [[[0], [0], [0]], [[1], [], []], [[0], [0], []]]
    ahead = Prefetch(kind="oracle", when="before_pass")
    made = prefetched(needs, [0, 1, 1], ahead, slots=1, scope="global")
    assert made == [[1, 1, 1], [1, 0, 0], [0, 1, 0]]
