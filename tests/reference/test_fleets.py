"""Replicas and instances on machines: both engines and the reference, to the nanosecond."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from .fleets import Judges, agree_on_fleet
from .judge_disaggregated import Apart, Disaggregated
from .judge_replicas import Replicas
from .served_by_vllm import served_by_vllm
from .serving_cases import ServingCase, judge_of
from .strategies import Case, few
from .test_disaggregated import APART, ROUTER, first_come, roles_of
from .test_replicas import PARTS, routed_of

Drawn = tuple[Case, ServingCase]
OF_REPLICAS = (served_by_vllm(), st.tuples(*PARTS), st.integers(0, 99))
OF_ROLES = (served_by_vllm(), APART, st.tuples(ROUTER, ROUTER), st.integers(0, 9))


def replicas_agree(both: Drawn, parts: tuple[int, str, int], seed: int) -> Judges:
    """Plays a case of so many replicas, behind a router that is told how often."""
    (case, serving), (count, kind, interval) = both, parts
    judge = judge_of(serving)
    judges = Replicas(judge.requests, judge.settings, count, (kind, interval), seed)
    agree_on_fleet(case, serving, routed_of(kind, count, interval, seed), judges)
    return judges


def roles_agree(
    both: Drawn, apart: Apart, routers: tuple[tuple[str, int], tuple[str, int]], seed: int
) -> Judges:
    """Plays a case of instances for prompts, and of others for answers."""
    case, serving, pair = both[0], first_come(both[1]), list(routers)
    judge = judge_of(serving)
    judges = Disaggregated(judge.requests, judge.settings, apart, pair, seed)
    agree_on_fleet(case, serving, roles_of(apart, pair, seed), judges)
    return judges


@few
@given(*OF_REPLICAS)
def test_replicas_on_machines(both: Drawn, parts: tuple[int, str, int], seed: int) -> None:
    replicas_agree(both, parts, seed)


@few
@given(*OF_ROLES)
def test_prompts_and_answers_apart_on_machines(
    both: Drawn, apart: Apart, routers: tuple[tuple[str, int], tuple[str, int]], seed: int
) -> None:
    roles_agree(both, apart, routers, seed)
