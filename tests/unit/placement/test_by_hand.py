"""Planners on cases that can be worked out by hand, or by trying everything."""

import json
from itertools import combinations, product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.placement.affinity import Affinity
from moesim.placement.anti_correlation import AntiCorrelation, pearson
from moesim.placement.eplb import Eplb, rebalance_experts
from moesim.placement.greedy import Greedy
from moesim.placement.local_search import LocalSearch, gpus_of_plan
from moesim.placement.mapping import Placement
from moesim.placement.objective import layer_bound, score
from moesim.placement.optimal import Optimal
from moesim.placement.plan import read_plan
from moesim.placement.random import Random
from moesim.placement.task import Task
from moesim.trace.routing import NO_EXPERT

README = np.array(
    [
        [90, 132, 40, 61, 104, 165, 39, 4, 73, 56, 183, 86],
        [20, 107, 104, 64, 19, 197, 187, 157, 172, 86, 16, 27],
    ]
)
"""The example of DeepSeek's EPLB, and its answer for 16 replicas, 4 groups, 2 nodes, 8 GPUs."""
ANSWER = [
    [5, 6, 5, 7, 8, 4, 3, 4, 10, 9, 10, 2, 0, 1, 11, 1],
    [7, 10, 6, 8, 6, 11, 8, 9, 2, 4, 5, 1, 5, 0, 3, 1],
]


def one_layer(batches, gpus=2):
    return Task(gpus, np.array(batches, np.int64)[:, None, :])


def held(plan, gpus):
    """By GPU the experts of the first layer."""
    placement = Placement.of(plan, gpus)
    return [placement.logical[0, placement.gpu_of_expert == gpu].tolist() for gpu in range(gpus)]


def test_eplb_gives_the_published_answer():
    assert rebalance_experts(README.astype(float), 16, 4, 2, 8).tolist() == ANSWER
    planner = Eplb(redundant=4, groups=4, nodes=2)
    assert planner.place(Task(8, README[None])).tolist() == ANSWER


def test_eplb_replicates_globally_what_has_most_tokens():
    """10 and 6 tokens get a replica each; shares 5, 5, 3, 3, 2, 1 pack as 5+3+2 and 5+3+1."""
    plan = Eplb(redundant=2, groups=3, nodes=2).place(one_layer([[10, 2, 6, 1]]))
    assert held(plan, 2) == [[0, 1, 2], [0, 2, 3]]


def test_greedy_takes_shares_of_batches_not_tokens():
    """Expert 1 has most tokens, all in one large batch; expert 0 has more of the mean batch."""
    plan = Greedy().place(one_layer([[6, 0, 2, 2], [5, 0, 3, 2], [0, 100, 0, 0]]))
    assert held(plan, 2) == [[0, 3], [1, 2]]


TOGETHER = [[5, 0, 4, 0], [0, 5, 0, 4]]
"""Experts 0 and 2 are busy in the same batches, and 1 and 3."""


def test_anti_correlation_parts_what_is_busy_together():
    task = one_layer(TOGETHER)
    assert held(Greedy().place(task), 2) == [[0, 2], [1, 3]]
    assert held(AntiCorrelation().place(task), 2) == [[0, 1], [2, 3]]
    assert held(AntiCorrelation(weight=0).place(task), 2) == [[0, 2], [1, 3]]


def test_pearson_is_numpys():
    shares = np.random.default_rng(1).random((20, 5))
    shares[:, 2] = 0.25
    expected = np.corrcoef(shares[:, [0, 1, 3, 4]].T)
    assert pearson(shares)[np.ix_([0, 1, 3, 4], [0, 1, 3, 4])] == pytest.approx(expected)
    assert not pearson(shares)[2].any()


def test_affinity_follows_the_tokens():
    """Tokens that chose 0 or 1 go on to 2 or 3."""
    ids = np.array([[[0], [2]], [[1], [3]], [[2], [0]], [[3], [1]]], np.uint16)
    plan = Affinity().place(Task(2, np.zeros((1, 2, 4), np.int64), ids))
    assert gpus_of_plan(plan, Task(2, np.zeros((1, 2, 4), np.int64))).tolist() == [
        [0, 0, 1, 1],
        [1, 1, 0, 0],
    ]


@given(st.integers(2, 6), st.integers(1, 3), st.integers(0, 2**31))
def test_what_follows_is_every_pair_of_a_token_s_experts(experts, top_k, seed):
    """A choice of none, which gates may leave, is in no pair."""
    draw = np.random.default_rng(seed).integers(-1, experts, (9, 2, top_k))
    ids = np.where(draw < 0, NO_EXPERT, draw).astype(np.uint16)
    expected = np.zeros((experts, experts), np.int64)
    for first, then in draw:
        for one, other in product(first[first >= 0], then[then >= 0]):
            expected[one, other] += 1
    task = Task(2, np.zeros((1, 2, experts), np.int64), ids)
    assert task.follows(0).tolist() == expected.tolist()


def test_swaps_help_where_greedy_puts_a_batch_on_one_gpu():
    task = one_layer(TOGETHER)
    greedy, better = (
        score(task.shares(0), gpus_of_plan(planner.place(task), task)[0], 2)
        for planner in (Greedy(), LocalSearch())
    )
    assert greedy == (1, 1)
    assert better == pytest.approx((5 / 9, 5 / 9))


@given(st.integers(2, 7), st.integers(1, 5), st.integers(0, 2**31))
def test_optimal_is_the_best_of_all(experts, batches, seed):
    counts = np.random.default_rng(seed).zipf(1.7, (batches, experts)).clip(max=40)
    task = one_layer(counts)
    shares, first = task.shares(0), int(task.room[0])
    best = min(
        score(shares, np.isin(np.arange(experts), chosen).astype(int), 2)[0]
        for chosen in combinations(range(experts), experts - first)
    )
    plan = Optimal().plan(task)
    reached = score(shares, gpus_of_plan(plan.physical_to_logical, task)[0], 2)[0]
    assert reached == pytest.approx(best, abs=1e-9)
    assert plan.lower_bound == pytest.approx(best, abs=1.1e-6)  # the gap at which HiGHS stops
    assert layer_bound(shares, task.room) <= best + 1e-12


def test_random_is_another_one_in_every_layer_and_for_every_seed():
    tasks = [Task(4, np.zeros((0, 2, 30), np.int64), seed=seed) for seed in (1, 2)]
    one, other = (Random().place(task) for task in tasks)
    assert not np.array_equal(one[0], one[1])
    assert not np.array_equal(one, other)


@pytest.mark.parametrize(
    ("plan", "what"),
    [
        ("[", "plan.json:1:2: is not valid JSON"),
        ("[" * 100_000, "plan.json:1:101: is nested too deeply"),
        ("[]", "no JSON object"),
        ("{}", "no 'physical_to_logical_map'"),
        ({"physical_to_logical_map": [[0, 1, 2]], "gpus": 3}, "for 3 GPUs, not 2"),
        ({"physical_to_logical_map": [[0, 1, 2]], "gpus": "2"}, "for '2' GPUs, not 2"),
        ({"physical_to_logical_map": [[0, 1, 2]], "gpus": 2}, "1 MoE layer, the model 2"),
        ({"physical_to_logical_map": [[0, 1, 2], [0, 1]], "gpus": 2}, "all as long"),
        ({"physical_to_logical_map": [[0, 1, 2], [0, 1, "2"]], "gpus": 2}, "expert ids"),
        ({"physical_to_logical_map": [[0, 1, 2], [0, 1, 1]], "gpus": 2}, "in MoE layer 1"),
        ({"physical_to_logical_map": [[0, 1, 3], [0, 1, 2]], "gpus": 2}, "in MoE layer 0"),
    ],
)
def test_a_file_that_is_no_plan_of_this_run(tmp_path, plan, what):
    path = tmp_path / "plan.json"
    path.write_text(plan if isinstance(plan, str) else json.dumps(plan))
    with pytest.raises(InputError, match=what):
        read_plan(path, (2, 3), 2)


def test_optimal_says_how_much_of_it_is_proved():
    """Of a layer that is too large for its program it is local search, and says so."""
    counts = np.random.default_rng(1).integers(0, 20, (6, 1, 6))
    task = Task(2, counts, np.zeros((1, 1, 1), np.uint16), 0)
    solved, kept = (Optimal(variables=most).plan(task) for most in (64, 1))
    assert solved.note == "optimal: proved best in 1 of 1 layer"
    assert kept.note == (
        "optimal: proved best in 0 of 1 layer; the others are local_search's:"
        " 12 experts x GPUs are above variables: 1"
    )
