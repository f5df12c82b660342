"""Victims and launches worked by hand from docs/semantics.md."""

from __future__ import annotations

import zlib

import numpy as np
import pytest

from .scenes import launches, log, play


def test_the_studys_lifo() -> None:
    """2 slots, needs 1, 2, 3: load 1, load 2, then (b): 3 over 2 after 2 has run."""
    verdict = play([[1, 2, 3]], 4, slots=2, policy="lifo")
    assert log(verdict, 0) == [(1, "free", None), (2, "free", None), (3, "b", 2)]
    assert launches(verdict, 0) == [[1, 2], [3]]
    copies = [span for span in verdict.spans if span.engine == "copy_in"]
    kernels = [span for span in verdict.spans if span.engine == "compute"]
    assert copies[2].start_ns == kernels[0].end_ns  # after 2 has run


# After [0, 1], [2], [0] in 3 slots: last use 0:3 1:1 2:2; inserted 0:0 1:1 2:2; frequency 2, 1, 1.
# Then expert 3 arrives (a), and 2 1 1 0 follow.
@pytest.mark.parametrize(
    ("policy", "victim"),
    [
        ("lru", 1),  # last used at activation 1
        ("fifo", 0),  # loaded at activation 0
        ("lifo", 2),  # loaded at activation 2
        ("lfu", 1),  # 1 and 2 once each: the lowest id
        ("static", 2),  # 0: 3 times, 1: 3 times, 2: twice in the whole trace
        ("min", 0),  # 2 is next at step 4, 1 at 5, 0 at 7
    ],
)
def test_rule_a_each_policys_victim(policy: str, victim: int) -> None:
    steps = [[0, 1], [2], [0], [3], [2], [1], [1], [0]]
    verdict = play(steps, 4, slots=3, policy=policy, first_part=1)
    assert log(verdict, 3) == [(3, "a", victim)]


def test_static_looks_at_the_first_part_only() -> None:
    steps = [[0], [0], [1], [2], [1], [1], [1]]
    # all 7 tokens: 0 twice, 1 four times, so that 0 leaves; ceil(0.3 * 7) = 3 tokens: 1 leaves
    assert log(play(steps, 3, slots=2, policy="static", first_part=1), 3) == [(2, "a", 0)]
    assert log(play(steps, 3, slots=2, policy="static", first_part=0.3), 3) == [(2, "a", 1)]


def test_random_draws_at_the_activations_number_from_the_layers_own_stream() -> None:
    stream = np.random.default_rng([5, zlib.crc32(b"cache_policy.random"), 0, 0]).random(9)
    verdict = play([[0], [1], [2], [3], [4], [5]], 9, slots=2, policy="random", seed=5)
    resident = [0, 1]
    for now in range(2, 6):  # activation 2 loads expert 2, ...
        victim = resident[int(stream[now] * 2)]
        assert log(verdict, now) == [(now, "a", victim)]
        resident = sorted({*resident, now} - {victim})


def test_frequency_survives_eviction() -> None:
    steps = [[0], [0], [1, 2], [0], [1]]
    verdict = play(steps, 3, slots=2, policy="lfu")
    # step 2: 1 takes the free slot; 2 evicts 0 (a), which is not in N. Step 3: 0 (now frequency
    # 3) evicts 1 (1 and 2 once each). Step 4: 1 evicts 2 (frequency 1), not 0 (frequency 3).
    assert log(verdict, 2) == [(1, "free", None), (2, "a", 0)]
    assert log(verdict, 3) == [(0, "a", 1)]
    assert log(verdict, 4) == [(1, "a", 2)]


def test_rule_c_evicts_the_last_of_n_which_misses_at_its_own_activation() -> None:
    # Residents 3 and 4. 1 finds neither a stranger (a) nor one whose activation is over (b): 4 goes
    # (c). 3 hits. 4 misses: 1 (used before 3) has had its activation and goes (b), so a new launch
    # begins.
    verdict = play([[3, 4], [1, 3, 4]], 5, slots=2, policy="lru")
    assert log(verdict, 1) == [(1, "c", 4), (3, "", None), (4, "b", 1)]
    assert launches(verdict, 1) == [[1, 3], [4]]


def test_resident_first_runs_the_residents_before_they_are_evicted() -> None:
    verdict = play([[3, 4], [1, 3, 4]], 5, slots=2, policy="lru", order="resident_first")
    assert log(verdict, 1) == [(3, "", None), (4, "", None), (1, "b", 3)]
    assert launches(verdict, 1) == [[3, 4], [1]]


def test_rules_follow_each_other_in_one_step() -> None:
    # Residents 0 and 5. 1 takes 0's slot by (a): 0 is not in N. 2: 5 is in N and still to come,
    # 1 is over, so (b). 5 is a hit all the same.
    verdict = play([[0, 5], [1, 2, 5]], 6, slots=2, policy="lru")
    assert log(verdict, 1) == [(1, "a", 0), (2, "b", 1), (5, "", None)]
    assert launches(verdict, 1) == [[1], [2, 5]]


def test_min_ranks_within_the_next_step_and_ties_on_never_go_to_the_lowest_id() -> None:
    # After step 0, both 1 and 2 are next needed in step 2, 1 at activation 0 and 2 at activation 1:
    # 2 goes.
    verdict = play([[1, 2], [3], [1, 2]], 4, slots=2, policy="min")
    assert log(verdict, 1) == [(3, "a", 2)]
    verdict = play([[1, 2], [3]], 4, slots=2, policy="min")
    assert log(verdict, 1) == [(3, "a", 1)]


def test_min_under_rule_b_looks_past_this_step() -> None:
    # 3 arrives when 1 and 2 are over; 1 is needed again in step 1, 2 in step 2: 2 goes.
    verdict = play([[1, 2, 3], [1], [2]], 4, slots=2, policy="min")
    assert log(verdict, 0)[2] == (3, "b", 2)


def test_most_used_are_there_at_the_start() -> None:
    # Usage: 0 once, 1 twice, 2 twice, 3 once: 1 and 2 are resident, neither ever inserted or used.
    steps = [[3], [1, 2], [0, 1, 2]]
    verdict = play(steps, 4, slots=2, policy="fifo", initial="most_used", first_part=1)
    assert log(verdict, 0) == [(3, "a", 1)]  # 1 and 2 tie: the lowest id
    assert log(verdict, 1) == [(1, "a", 3), (2, "", None)]


@pytest.mark.parametrize(
    ("choices", "expected"),
    [
        # lru: 3 over 1 (launch 0, so a new one begins), 4 over 2 (an earlier launch: no new one).
        ({"policy": "lru"}, [[1, 2], [3, 4]]),
        # lifo: 3 over 2 (launch 0), 4 over 3 (its own launch): streams through one slot.
        ({"policy": "lifo"}, [[1, 2], [3], [4]]),
        ({"policy": "lru", "kernels": "serial"}, [[1], [2], [3], [4]]),
        # no residents: the residents' end opens no extra launch
        ({"policy": "lru", "order": "resident_first"}, [[1, 2], [3, 4]]),
    ],
)
def test_launches(choices: dict[str, str], expected: list[list[int]]) -> None:
    assert launches(play([[1, 2, 3, 4]], 5, slots=2, **choices), 0) == expected


def test_resident_first_ends_a_launch_where_the_residents_end_even_with_room() -> None:
    verdict = play([[2], [0, 1, 2]], 5, slots=4, order="resident_first")
    assert launches(verdict, 1) == [[2], [0, 1]]
    assert launches(play([[2], [0, 1, 2]], 5, slots=4), 1) == [[0, 1, 2]]


def test_static_gating_needs_every_local_expert() -> None:
    # 5 experts on one GPU, 2 slots, fifo, every step 0 1 2 3 4.
    verdict = play([[0], [0]], 5, slots=2, policy="fifo", gating="static")
    assert log(verdict, 0) == [
        (0, "free", None),
        (1, "free", None),
        (2, "b", 0),
        (3, "b", 1),
        (4, "b", 2),
    ]
    # residents 3, 4: 0 takes the last one's slot (c), 1 takes 0's (b: the only one over) ...
    # fifo at 3: a hit. 4 misses: 1 (loaded at activation 6) or 3 (loaded at activation 3): 3 goes.
    assert log(verdict, 1) == [
        (0, "c", 4),
        (1, "b", 0),
        (2, "b", 1),
        (3, "", None),
        (4, "b", 3),
    ]
    assert (verdict.rows_executed, verdict.rows_kept, verdict.dropped) == (10, 2, 0)
