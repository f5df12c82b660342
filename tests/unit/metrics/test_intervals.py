"""Weights of the bootstrap, intervals, and differences of runs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.metrics.blocks import Blocks
from moesim.metrics.bootstrap import RESAMPLES, SEED, limits, weights
from moesim.metrics.intervals import (
    FEWEST,
    RATIOS,
    Difference,
    difference,
    intervals,
    speed_difference,
)
from moesim.results.result import BLOCKS

rows = st.integers(1, 60)


def made(count, seed=0, kind="batch", warm_up=0, slower=1.0):
    """Blocks of a plausible run; those of one ``seed`` differ by ``slower`` alone."""
    random = np.random.default_rng(seed)
    steps = random.integers(5, 40, count)
    activations = 8 * steps
    hits = random.binomial(activations, 0.6)
    duration = (slower * (steps * 1_000_000 + (activations - hits) * 300_000)).astype(np.int64)
    columns = (
        np.cumsum(steps) - steps, steps, duration, steps, steps, activations, hits, activations,
        hits, np.ones(count, np.int64), duration // steps,
    )  # fmt: skip
    table = pd.DataFrame(dict(zip(BLOCKS, columns, strict=True)))
    return Blocks(table, kind, warm_up)


def told(one: Blocks, other: Blocks, key: str) -> Difference:
    """The difference that there is."""
    found = difference(one, other, key)
    assert found is not None
    return found


@given(rows, st.sampled_from([1, 4]), st.integers(0, 2))
def test_a_resample_has_as_many_blocks_as_there_are(count, width, stream):
    drawn = weights(count, width, stream)
    assert drawn.shape == (RESAMPLES, count)
    assert set(drawn.sum(axis=1)) == {width * max(1, round(count / width))}
    assert (drawn >= 0).all()


@pytest.mark.parametrize(("count", "width"), [(13, 1), (13, 4), (40, 4)])
def test_weights_are_naive_resampling_of_the_same_draws(count, width):
    """Every row is drawn block by block, round the end, and its values are added one by one."""
    values = np.random.default_rng(3).integers(1, 10**9, count)
    random = np.random.default_rng([SEED, 0])
    begins = random.integers(count, size=(RESAMPLES, max(1, round(count / width))))
    naive = [
        sum(int(values[(begin + k) % count]) for begin in draw for k in range(width))
        for draw in begins
    ]
    assert (weights(count, width) @ values.astype(float)).tolist() == naive


def test_every_row_is_drawn_equally_often():
    mean = weights(40, 4).mean(axis=0)
    assert mean == pytest.approx(np.ones(40), abs=0.2)


def test_streams_are_independent_and_repeat():
    assert not np.array_equal(weights(20, 1, 0), weights(20, 1, 1))
    first = weights(20, 1, 0).copy()
    weights.cache_clear()
    assert np.array_equal(weights(20, 1, 0), first)


@given(st.integers(2, 200))
def test_limits_are_wider_for_fewer_blocks(blocks):
    values = np.random.default_rng(0).normal(size=4000)
    low, high = limits(values, blocks)
    plain = np.quantile(values, [0.025, 0.975])
    assert low <= plain[0] < plain[1] <= high
    narrower = limits(values, blocks + 1)
    assert low <= narrower[0]
    assert narrower[1] <= high


def test_limits_lie_where_students_t_does():
    """Of normal values of deviation 1: t with 19 degrees times the root of 20 / 19."""
    values = np.random.default_rng(0).normal(size=1_000_000)
    wanted = 2.0930 * (20 / 19) ** 0.5
    assert limits(values, 20) == pytest.approx((-wanted, wanted), rel=0.01)


@given(st.integers(FEWEST, 60), st.integers(0, 5))
def test_the_interval_holds_the_mean_of_its_resamples(count, seed):
    found = intervals(made(count, seed))
    assert found["reason"] is None
    for name in RATIOS:
        assert found[name]["low"] <= found[name]["value"] <= found[name]["high"]


def test_neighbours_that_are_alike_leave_more_doubt():
    """The same batches, sorted by their speed and shuffled."""
    shuffled = made(60)
    sums = shuffled.sums
    by_speed = (sums["duration_ns"] / sums["decode_tokens"]).argsort()
    alike = replace(shuffled, sums=sums.iloc[by_speed].reset_index(drop=True))
    widths = []
    for blocks in (alike, shuffled):
        found = intervals(blocks)["output_throughput"]
        widths.append(found["high"] - found["low"])
    assert widths[0] > 1.25 * widths[1], widths


def test_blocks_that_are_all_alike_leave_no_doubt():
    one = made(1).sums
    same = Blocks(pd.concat([one] * 20, ignore_index=True), "batch")
    for name in RATIOS:
        found = intervals(same)[name]
        assert found["low"] == pytest.approx(found["value"])
        assert found["high"] == pytest.approx(found["value"])


def test_the_values_are_ratios_of_sums_after_the_warm_up():
    blocks = made(20, warm_up=3)
    found, rest = intervals(blocks), blocks.sums.iloc[3:].sum()
    assert found["output_throughput"]["value"] == pytest.approx(
        rest["decode_tokens"] * 1e9 / rest["duration_ns"]
    )
    assert found["hit_ratio_per_expert"]["value"] == pytest.approx(
        rest["hits"] / rest["activations"]
    )
    assert found["mean_tpot_ms"]["value"] == pytest.approx(rest["tpot_ns"] / 17e6)
    assert (found["blocks"], found["warm_up_steps"]) == (17, blocks.sums["steps"][:3].sum())
    assert found["warm_up_share"] == found["warm_up_steps"] / blocks.sums["steps"].sum()


@pytest.mark.parametrize(("kind", "enough"), [("batch", FEWEST), ("steps", 4 * FEWEST - 2)])
def test_few_blocks_have_no_interval_and_say_so(kind, enough):
    assert intervals(made(enough, kind=kind))["reason"] is None
    few = intervals(made(enough - 1, kind=kind))
    assert few["reason"] == "9 blocks after the warm-up; an interval needs 10"
    assert few["output_throughput"]["value"] > 0
    assert few["output_throughput"]["low"] is None
    assert told(made(enough - 1, kind=kind), made(20), "output_throughput").low is None


def test_a_run_that_decodes_nothing_has_no_tpot():
    blocks = made(20)
    none = {"decode_tokens": 0, "timed_requests": 0, "tpot_ns": 0}
    prompts = replace(blocks, sums=blocks.sums.assign(**none))
    assert intervals(prompts)["mean_tpot_ms"] == {"value": None, "low": None, "high": None}
    assert difference(prompts, blocks, "mean_tpot_ms") is None
    speed = speed_difference(prompts, prompts)
    assert speed is not None
    assert speed.value == 0


def test_a_run_is_as_fast_as_itself():
    same = told(made(20), made(20), "output_throughput")
    assert (same.value, same.low, same.high, same.distinguishable) == (0, 0, 0, False)


def test_a_run_that_is_slower_everywhere_is_told_apart_by_pairing_alone():
    one, other = made(20), made(20, slower=1.01)
    paired = told(one, other, "output_throughput")
    apart = told(one, replace(other, trace="another"), "output_throughput")
    assert paired.paired
    assert not apart.paired
    assert paired.low == pytest.approx(1.0, abs=1e-3)
    assert paired.high == pytest.approx(1.0, abs=1e-3)
    assert paired.distinguishable
    assert not apart.distinguishable
    assert apart.value == paired.value


@given(st.integers(0, 5), st.floats(0.5, 2.0))
def test_swapped_runs_have_the_opposite_difference(seed, slower):
    one, other = made(25, seed), made(25, seed, slower=slower)
    there, back = (told(*pair, "output_throughput") for pair in ((one, other), (other, one)))
    assert (1 + there.value / 100) * (1 + back.value / 100) == pytest.approx(1)
    assert there.distinguishable == back.distinguishable
    hits = told(one, made(25, seed + 1), "hit_ratio_per_expert")
    assert hits.value == pytest.approx(-told(made(25, seed + 1), one, "hit_ratio_per_expert").value)


def test_pairs_leave_out_the_longer_warm_up():
    one, other = made(30, warm_up=2), made(30, warm_up=7, slower=1.5)
    assert told(one, other, "output_throughput").blocks == 23
    assert told(one, made(12, 1, warm_up=1), "output_throughput").blocks == 11


def test_intervals_hold_the_truth_of_a_renewal_process():
    """A quick version of the verification: 200 runs of 40 requests, of which 88 to 99 % hold it."""
    held = []
    for seed in range(200):
        random = np.random.default_rng(seed)
        steps = random.geometric(1 / 20, 40)
        duration = np.rint(steps * random.gamma(4, 250_000, 40)).astype(np.int64)
        blocks = made(40)
        table = blocks.sums.assign(steps=steps, decode_tokens=steps, duration_ns=duration)
        found = intervals(replace(blocks, sums=table))["output_throughput"]
        held.append(found["low"] <= 1000 <= found["high"])
    assert 0.88 <= np.mean(held) <= 0.99
