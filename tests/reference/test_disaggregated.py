"""Prompts and answers apart: the package's order of all that happens against the judge's."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.workload.serving.fleets.disaggregated import Disaggregated
from moesim.workload.serving.fleets.wire import CachedLayer, Roles, Wire
from moesim.workload.serving.state import ENDED, STATUS
from moesim.workload.serving.stepping.steps import filled_with

from . import judge_disaggregated as judges
from .judge_disaggregated import Apart
from .judge_serving import Settings
from .serving_cases import (
    ServingCase,
    Wish,
    asked_of,
    judge_of,
    of_vllm,
    room_of,
    times_of,
    vllm_of,
)
from .test_replicas import ROUTERS, Order, in_order, routed_of, toy

LAYERS = st.lists(
    st.tuples(st.integers(0, 5), st.none() | st.integers(1, 6)), min_size=1, max_size=4
)
APART = st.builds(
    Apart,
    prefill=st.integers(1, 3),
    decode=st.integers(1, 3),
    layers=LAYERS,
    rate=st.sampled_from([100, 1000, 7000, 10**9]),
    latency=st.sampled_from([0, 0, 11]),
    by_layer=st.booleans(),
    again=st.booleans(),
)
ROUTER = st.tuples(st.sampled_from(ROUTERS), st.sampled_from([0, 0, 25]))


def roles_of(apart: Apart, routers: list[tuple[str, int]], seed: int) -> Roles:
    layers = tuple(CachedLayer(*one) for one in apart.layers)
    first, last = (routed_of(*(kind, 1, interval, 0)).router for kind, interval in routers)
    wire = Wire(apart.rate * 10**6, apart.latency, layers)
    return Roles(
        apart.prefill, apart.decode, (first, last), wire, apart.by_layer, apart.again, seed
    )


def served(case: ServingCase, roles: Roles, *, plain: bool = True) -> tuple[Order, Disaggregated]:
    scheduler = vllm_of(case.settings)
    fill = filled_with(scheduler.rule()) if plain else None
    parts = (asked_of(case), room_of(case), scheduler, roles, times_of(case), fill)
    fleet = Disaggregated(*parts)
    return in_order(fleet), fleet


def judged(
    case: ServingCase, apart: Apart, routers: list[tuple[str, int]], seed: int
) -> judges.Disaggregated:
    judge = judge_of(case)
    found = judges.Disaggregated(judge.requests, judge.settings, apart, routers, seed)
    found.run(toy)
    return found


def first_come(case: ServingCase) -> ServingCase:
    """Instances set room for windows aside."""
    one = replace(case.settings, priority=False, windows=(None,), times=(), inside=False)
    return replace(case, settings=one)


@settings(max_examples=100)
@given(
    of_vllm().map(first_come), APART, st.lists(ROUTER, min_size=2, max_size=2), st.integers(0, 9)
)
def test_instances_decide_as_the_judges_do(case, apart, routers, seed):
    order, fleet = served(case, roles_of(apart, routers, seed))
    judge = judged(case, apart, routers, seed)
    assert order == judge.order
    count = len(case.wishes)
    assert fleet.sent.prefill.tolist() == [judge.source.get(n, -1) for n in range(count)]
    told = np.array([judge.sent[n] for n in range(count)]).T
    assert [one.tolist() for one in fleet.sent[1:]] == told.tolist()
    assert not any((*fleet._lines, *fleet._leaving))
    for number, wish in enumerate(case.wishes):  # nobody who came is left behind
        if fleet.sent.prefill[number] >= 0:
            requests = fleet.servers[fleet.replica[number]].state.requests
            assert requests[STATUS, number] == ENDED
            assert fleet._given[number] == wish.answer


@given(of_vllm().map(first_come), APART, ROUTER)
def test_so_do_the_compiled_rules(case, apart, router):
    roles = roles_of(apart, [router, router], 1)
    assert served(case, roles, plain=False)[0] == served(case, roles)[0]


TWO = ServingCase(
    [Wish(4, 3, 0, 0, None, 0, 0, 0), Wish(6, 2, 0, 0, None, 0, 0, 1)],
    None,
    4,
    settings=Settings(budget=8),
)
LEAST = [("least_outstanding", 0)] * 2


def test_one_of_each_by_hand() -> None:
    """A step takes 5 ns and 2 for each token; a token has one byte, of which the wire takes one in
    1 ns, 11 ns before it is there. Both come at 0: in 21 ns all of the first prompt and 4 of 6
    tokens of the second are done, in 9 more the rest. 4 bytes are sent from 21 to 25, and there at
    36; 6 from 30 to 36, there at 47. From 36 on the first decodes, 7 ns a token; at 50 the second.
    """
    apart = Apart(1, 1, [(1, None)], 1000, 11, by_layer=False, again=False)
    order, fleet = served(TWO, roles_of(apart, LEAST, 0))
    assert order == [
        (0, 0, [(0, 0, 4, 1), (1, 0, 4, 0)]),
        (0, 21, [(1, 4, 2, 1)]),
        (1, 36, [(0, 4, 1, 1)]),
        (1, 43, [(0, 5, 1, 1)]),
        (1, 50, [(1, 6, 1, 1)]),
    ]
    told = [one.tolist() for one in fleet.sent]
    assert told == [[0, 0], [21, 30], [21, 30], [21, 30], [36, 47], [4, 6]]
    assert judged(TWO, apart, LEAST, 0).order == order


def test_layer_by_layer_by_hand() -> None:
    """Two such layers. Blocks are there at 0. The first layer is done at 10: 4 bytes of each are
    sent to 14 and to 18; the second at 21: to 25, so that the first is there at 36, and to 29. Of
    the other's last 2 tokens the layers are done at 25 and 30: they are sent to 31 and 33, and
    there at 44.
    """
    apart = Apart(1, 1, [(1, None)] * 2, 1000, 11, by_layer=True, again=False)
    order, fleet = served(TWO, roles_of(apart, LEAST, 0))
    assert [(number, now) for number, now, _ in order] == [
        (0, 0),
        (0, 21),
        (1, 36),
        (1, 43),
        (1, 50),
    ]
    told = [one.tolist() for one in fleet.sent]
    assert told == [[0, 0], [21, 30], [0, 0], [10, 14], [36, 44], [8, 12]]
    assert judged(TWO, apart, LEAST, 0).order == order


def test_few_blocks_by_hand() -> None:
    """Three blocks of 4 tokens: the prompts take one and two where they are computed, and what they
    are decoded in, two each (a token more than the prompt): the second waits until the first is
    done at 50. It is sent from 50 to 56 and there at 67.
    """
    apart = Apart(1, 1, [(1, None)], 1000, 11, by_layer=False, again=False)
    case = replace(TWO, blocks=3)
    order, fleet = served(case, roles_of(apart, LEAST, 0))
    assert fleet.sent.blocks_ns.tolist() == [21, 50]
    assert fleet.sent.there_ns.tolist() == [36, 67]
    assert [now for number, now, _ in order if number == 1] == [36, 43, 67]
    assert judged(case, apart, LEAST, 0).order == order
