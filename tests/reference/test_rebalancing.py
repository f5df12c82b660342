"""Experts that get other places during a run: both engines and the reference, and laws."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import assume, given

from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.placement.mapping import Placement
from moesim.placement.rebalance import busy, moved_experts

from .agreement import agree, verdict_of
from .prices import ToyPrices
from .reference_words import Config, Rebalance
from .scenes import scene
from .serving import Service, reference_server, server
from .strategies import Case, few
from .strategies_concepts import rebalancing_cases
from .test_scheduler import all_agree, without_foresight
from .test_serving import captured, services
from .wiring import engine_case


@few
@given(rebalancing_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    verdict = agree(case)
    for run in (run_des, run_replay):
        assert run(engine_case(case)).rebalanced == verdict.rebalanced
    if case.config.rebalance.one_by_one:  # type: ignore[union-attr]
        assert verdict.time_ns["rebalancing"] <= verdict.rebalanced[2]


@few
@given(rebalancing_cases() | rebalancing_cases().flatmap(captured), services)
def test_so_they_do_where_a_scheduler_reads_the_clock(case: Case, service: Service) -> None:
    case = without_foresight(case)
    theirs = engine_case(case)
    theirs = replace(theirs, scheduler=server(theirs, service))
    verdict = all_agree(theirs, case, reference_server(case, service))
    assert run_des(theirs).rebalanced == verdict.rebalanced


@few
@given(rebalancing_cases())
def test_all_rows_are_computed_wherever_experts_are(case: Case) -> None:
    """Experts that never move compute as many."""
    stays, moves = verdict_of(case, rebalance=None), verdict_of(case)
    assert stays.rows_kept == moves.rows_kept
    assert moves.rebalanced[0] <= len(moves.steps) // case.config.rebalance.interval  # type: ignore[union-attr]


@few
@given(rebalancing_cases())
def test_what_comes_after_the_last_pass_changes_nothing(case: Case) -> None:
    assume(case.config.rebalance is not None)
    never = Rebalance(interval=1 << 20, window=1)
    stays = verdict_of(case, rebalance=None)
    late = verdict_of(case, rebalance=never)
    assert (late.duration_ns, late.rebalanced) == (stays.duration_ns, (0, 0, 0))


def by_hand(rules: Rebalance, group: int = 1) -> Case:
    """4 experts on 2 GPUs; every token, one a GPU, chooses expert 0 and 1, both on the first GPU;
    after two passes they are apart.
    """
    trace, model = scene([[0, 1]] * 8, 4)
    trace["request_id"] = [0, 0, 0, 0, 1, 1, 1, 1]
    trace["position"] = [0, 1, 2, 3] * 2
    config = Config(batch_size=2, gpus=2, group=group, rebalance=rules)
    return Case(trace, model, config, ToyPrices(base=10, token=1))


def plan(loads, gpus):
    """Hot ones apart: 0, 2 and 1, 3."""
    del loads, gpus
    return np.array([[0, 2, 1, 3]])


@pytest.mark.parametrize(
    ("one_by_one", "group", "moved_at", "waited"),
    [(False, 1, 2, 119), (True, 1, 3, 119 - 38), (True, 2, 3, 119 - 30)],
)
def test_l_experts_move_at_once_or_beside_a_pass(
    one_by_one: bool, group: int, moved_at: int, waited: int
) -> None:
    """Interval 2: before pass 2, the third, expert 2 goes to the first GPU and expert 1 to the
    second, 100 bytes each way: 19 + (3 x 100 + 100) / 4 = 119 ns. At once all GPUs wait for it, and
    the pass has the new places. Beside the pass, which lacks them, it begins with it. Attention of
    a token with 3 keys is 10 + 1 + 2 x 3 + 3 = 20, the gate 11, permuting two rows 5 + 2: after 38
    the counts, due since 31, are all that is left. Where GPUs share attention, that of both tokens
    is 10 + 2 + 2 x 6 + 6 = 30, and its all-reduce is due.
    """
    case = by_hand(Rebalance(2, 2, one_by_one), group)
    theirs = engine_case(case)
    assert theirs.rebalance is not None
    theirs = replace(theirs, rebalance=theirs.rebalance._replace(plan=plan))
    outcome, size = run_des(theirs, check=True), case.model.bytes_in(0)
    rows = outcome.counts.rows[:, 0].tolist()
    assert rows == [[4, 0] if p < moved_at else [2, 2] for p in range(4)]
    assert outcome.rebalanced == (1, 2 * size, 2 * 119 if one_by_one else 0)
    assert run_replay(theirs).ends.tolist() == outcome.ends.tolist()
    place = outcome.categories.index("rebalancing")
    assert outcome.charges[:, :, place].tolist() == [[0, 0], [0, 0], [waited, waited], [0, 0]]
    others = [one for one in outcome.spans if one.engine == "communication" and one.step == 2]
    moving = [one for one in others if one.name == "move experts"]
    begun = outcome.starts[2].max()
    assert [(one.start_ns, one.end_ns) for one in moving] == [(begun, begun + 119)] * 2 * one_by_one


def test_a_gpu_that_began_earlier_waits_no_longer_for_experts_that_move() -> None:
    """One token a pass, which the first GPU sums up, ends it 2 ns later; attention takes 1 ns. So
    the second GPU's all-reduce, due 1 ns before the transfer begins, is attention up to then.
    """
    case = by_hand(Rebalance(2, 2, True), group=2)
    prices = ToyPrices(base=0, token=1, context=0)
    case = replace(case, config=replace(case.config, batch_size=1), prices=prices)
    theirs = engine_case(case)
    assert theirs.rebalance is not None
    theirs = replace(theirs, rebalance=theirs.rebalance._replace(plan=plan))
    outcome, replayed = run_des(theirs), run_replay(theirs)
    attention, moving = (outcome.categories.index(one) for one in ("attention", "rebalancing"))
    assert np.diff(outcome.starts[2]) == -2
    assert outcome.charges[2, :, moving].tolist() == [118, 119]
    assert np.diff(outcome.charges[1:3, :, attention], axis=0).tolist() == [[0, 1]]
    assert (replayed.charges == outcome.charges).all()


def test_of_several_holders_the_nearest_sends() -> None:
    """Expert 0 is on GPUs 0 and 3 of two nodes: the new holder on each node has it from its own."""
    before = Placement.of(np.array([[0, 1, 1, 0]]), 4)
    after = Placement.of(np.array([[1, 0, 0, 1]]), 4)
    assert moved_experts(before, after, 0, 2).tolist() == [
        [0, 1, 0, 0],
        [1, 0, 0, 0],
        [0, 0, 0, 1],
        [0, 0, 1, 0],
    ]
    one_node = moved_experts(before, after, 0, 4)
    assert one_node[0].tolist() == [0, 1, 1, 0]
    assert one_node[1].tolist() == [1, 0, 0, 1]


def test_gpus_that_are_busy_enough_keep_their_experts() -> None:
    """30 rows, 20 of them on one of two GPUs: three quarters of what would keep both busy."""
    placement = Placement.of(np.array([[0, 1, 2, 3]]), 2)
    loads = np.array([[10, 10, 5, 5]])
    assert not busy(placement, loads, 0.75)
    assert busy(placement, loads, 0.74)
