"""Replicas and routers: the package's order of all that happens against the judge's."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.workload.routers import registry
from moesim.workload.serving.fleets.fleet import Fleet, Routed
from moesim.workload.serving.fleets.recent_experts import Experts
from moesim.workload.serving.state import BEGIN, COUNT, DECIDED, STEPS, VERIFIES, State
from moesim.workload.serving.stepping.clock import steps_of
from moesim.workload.serving.stepping.steps import filled_with

from . import judge_replicas as judges
from .judge_replicas import Replicas
from .judge_serving import Told
from .serving_cases import ServingCase, asked_of, judge_of, of_vllm, room_of, times_of, vllm_of
from .step_times import with_step_times
from .test_serving_scheduler import step_time, told

Order = list[tuple[int, int, list[tuple[int, ...]]]]
ROUTERS = ("least_outstanding", "power_of_two", "prefix", "random", "round_robin", "session",
           "vllm")  # fmt: skip


def routed_of(kind: str, count: int, interval: int, seed: int) -> Routed:
    given: dict[str, Any] = {"stats_interval": f"{interval} ns"}
    if kind == "prefix":
        given |= {"balance_abs_threshold": 2, "balance_rel_threshold": 1.5}
    return Routed(count, registry.get(kind)(**given), seed)


def choices(request: int, token: int) -> list[list[int]]:
    """Of two layers of five experts, two a token; requests are of three kinds."""
    kind = request % 3
    return [[kind, (kind + token) % 5], [(2 * kind + token // 3) % 5, (token * token) % 5]]


SLOTS = [2, 3]


def arrays(request: Any, token: Any) -> Any:
    pairs = zip(request.tolist(), token.tolist(), strict=True)
    return np.array([choices(*one) for one in pairs], np.int64).reshape(-1, 2, 2)


def played(case: ServingCase, routed: Routed, *, plain: bool = True) -> tuple[Order, Fleet]:
    scheduler = vllm_of(case.settings)
    fill = filled_with(scheduler.rule()) if plain else None
    parts = (asked_of(case), room_of(case), scheduler, routed, times_of(case), fill)
    fleet = Fleet(*parts)
    fleet.sees(Experts(arrays, 5, np.array(SLOTS)))
    return in_order(fleet), fleet


def in_order(fleet: Fleet) -> Order:
    """All steps, as (replica, decided, entries)."""
    order, made = Order(), list[tuple[int, int]]()
    turns, ended = fleet.turns(), None
    while True:
        try:
            number, state, start, _ = next(turns) if ended is None else turns.send(ended)
        except StopIteration:
            assert fleet.order() == made
            return order
        step = int(state.numbers[STEPS]) - 1
        made.append((number, step))
        low, high = state.steps[BEGIN, step : step + 2]
        entries = [tuple(one) for one in state.log[:VERIFIES, low:high].T.tolist()]
        order.append((number, int(state.steps[DECIDED, step]), entries))
        ended = start + step_time(int(state.log[COUNT, low:high].sum()))


def toy(replica: int, start: int, host: int, entries: list[Told]) -> int:
    """Every step takes what its tokens do."""
    del replica, host
    return start + step_time(sum(one[2] for one in entries))


def judged(case: ServingCase, choose: tuple[str, int], count: int, seed: int) -> Replicas:
    judge = judge_of(case)
    found = Replicas(judge.requests, judge.settings, count, choose, seed)
    found.router.experts = judges.Experts(choices, SLOTS)
    found.run(toy)
    return found


PARTS = (
    st.integers(1, 3),
    st.sampled_from((*ROUTERS, *["expert"] * 4)),
    st.sampled_from([0, 0, 25]),
)


@settings(max_examples=100)
@given(of_vllm(), *PARTS, st.integers(0, 99))
def test_replicas_decide_as_the_judges_do(case, count, kind, interval, seed):
    order, fleet = played(case, routed_of(kind, count, interval, seed))
    judge = judged(case, (kind, interval), count, seed)
    assert order == judge.order
    where = [judge.where.get(number, -1) for number in range(len(case.wishes))]
    assert fleet.replica.tolist() == where


@given(of_vllm(), *PARTS)
def test_so_do_the_compiled_rules(case, count, kind, interval):
    routed = routed_of(kind, count, interval, 1)
    assert played(case, routed, plain=False)[0] == played(case, routed)[0]


@given(of_vllm(), st.sampled_from(ROUTERS))
def test_one_replica_is_none(case, kind):
    """But that in a loop, or a session, the next request comes at an end, not when it is seen."""
    if case.loop or any(wish.after is not None for wish in case.wishes):
        return
    order, _ = played(case, routed_of(kind, 1, 0, 0))
    scheduler = vllm_of(case.settings)
    steps = steps_of(
        asked_of(case), room_of(case), scheduler, times_of(case), filled_with(scheduler.rule())
    )

    def time_of(state: State, step: int) -> int:
        low, high = state.steps[BEGIN, step : step + 2]
        return step_time(int(state.log[COUNT, low:high].sum()))

    try:
        alone = told(with_step_times(steps, time_of))
    except StopIteration:
        alone = []
    assert [(now, entries) for _, now, entries in order] == alone


@given(of_vllm(), st.integers(1, 4))
def test_where_experts_say_nothing_the_fewest_requests_do(case, count):
    """Tokens that choose no expert are alike: no replica has more of what they choose."""

    def alike(request: Any, token: Any) -> Any:
        del token
        return np.full((len(request), 1, 1), -1)

    orders = []
    for kind in ("expert", "least_outstanding"):
        scheduler, routed = vllm_of(case.settings), routed_of(kind, count, 0, 0)
        fill = filled_with(scheduler.rule())
        fleet = Fleet(asked_of(case), room_of(case), scheduler, routed, times_of(case), fill)
        fleet.sees(Experts(alike, 1, np.array([1])))
        orders.append((in_order(fleet), fleet.replica.tolist()))
    assert orders[0] == orders[1]
