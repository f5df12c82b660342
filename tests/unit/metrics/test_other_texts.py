"""How many distinct experts the tokens of another text would choose."""

from __future__ import annotations

import json
from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

import moesim
from moesim.metrics.other_texts import EXPONENTS, OTHER_TEXTS, _skewed, distinct_of_other_texts

ROWS = np.array([1, 2, 8, 8])


def test_by_hand():
    """Half of the tokens use one of two experts, a tenth each of five more: two a token."""
    counts = np.array([[10, 0, 5, 1, 1, 1, 1, 1]])
    skewed = _skewed(counts / 10, 2.0)[0]
    # the first has all tokens; of the other, .25 : .01 x 5, one a token
    assert skewed == pytest.approx([1, 0, 0.25 / 0.3, *[0.01 / 0.3] * 5])
    assert skewed.sum() == pytest.approx(2)


def test_a_token_has_as_many_experts_in_every_text():
    counts = np.array([[9, 4, 2, 1, 0], [4, 4, 3, 3, 2]])
    assert distinct_of_other_texts(counts, 8, np.ones(3, int)) == pytest.approx((1, 1))


def test_a_flat_share_can_only_stay_flat():
    counts = np.full((2, 16), 5)
    assert distinct_of_other_texts(counts, 20, ROWS) == pytest.approx((1, 1))


def test_a_more_uneven_text_chooses_fewer_and_a_flatter_one_more():
    """By what is drawn: 400,000 tokens' worth of batches of eight, two of 16 experts a token."""
    share = np.linspace(1, 9, 16) / 40
    low, high = distinct_of_other_texts(np.round(share * 4000)[None].astype(int), 4000, ROWS[2:])
    assert low < 1 < high
    rng = np.random.default_rng(0)
    found = []
    for power in (1.0, *EXPONENTS):
        chosen = rng.random((50_000, 8, 16)) < _skewed(share[None], power)[0]
        found.append(chosen.any(axis=1).sum(axis=1).mean())
    assert (low, high) == pytest.approx((found[2] / found[0], found[1] / found[0]), rel=0.01)


def test_prompts_that_compute_are_as_long_whatever_they_choose():
    """1,024 tokens have 128 rows an expert and count as they are; they dilute eight of one row."""
    counts = np.array([[90, 60, 40, 10, *[0] * 12]]) * 10
    prompt, answers = np.array([1024]), np.full(8, 4)
    assert distinct_of_other_texts(counts, 1000, prompt) == (1, 1)
    low, high = distinct_of_other_texts(counts, 1000, np.append(answers, prompt))
    alone = distinct_of_other_texts(counts, 1000, answers)
    assert alone[0] < low < 1 < high < alone[1]


def test_the_exponents_are_those_between_domains():
    path = Path(__file__).parents[4] / "shared/data/routing/expert_counts_olmoe_mixtral.json"
    if not path.exists():
        pytest.skip("the counts by domain are not here")
    found: list[float] = []
    for model in json.loads(path.read_text("utf-8"))["models"].values():
        for layer in range(len(model["layers"])):
            counts = (np.array(domain[layer], float) for domain in model["counts"].values())
            shares = [one * model["top_k"] / one.sum() for one in counts]
            found += [_power(*pair, size) for pair in permutations(shares, 2) for size in SIZES]
    assert len(found) == 750
    assert np.percentile(found, [5, 95]) == pytest.approx(EXPONENTS, abs=0.02)


SIZES = (4, 8, 16, 32, 64)


def _power(share, of, size):
    """To what power ``share`` has as many distinct experts as the share ``of`` another domain."""
    asked = (1 - (1 - of) ** size).sum()
    of_power = lambda power: (1 - (1 - _skewed(share[None], power)) ** size).sum()  # noqa: E731
    return float(brentq(lambda power: of_power(power) - asked, 0, 6))


def _factor(**changed):
    experiment = {
        "model": "gpt-oss-20b",
        "hardware": "h100-sxm",
        "experts": {"capacity": "all"},
        "workload": {"phase": "decode", "batching": {"kind": "static", "batch_size": 8}},
    }
    summary = moesim.run(experiment | changed).summary
    rows = summary["price_interval"]["factors"]
    return next((row for row in rows if row["of"] == OTHER_TEXTS), None)


@pytest.mark.parametrize("trace", ["quickstart", "traces/quickstart.parquet"])
def test_a_shipped_recording_may_be_of_another_text(trace):
    row = _factor(trace=trace)
    assert (row["low"], row["high"]) == pytest.approx((0.85, 1.07), abs=0.04)
    assert row["share"] == pytest.approx(sum(one["share"] for one in row["within"]))
    assert {one["of"] for one in row["within"]} >= {"experts of h100-sxm"}


@pytest.mark.parametrize(
    "changed",
    [
        {"workload": {"phase": "decode"}},  # a token a pass
        {"gating": {"kind": "static"}},  # all experts are computed
    ],
)
def test_where_no_text_chooses_others(changed):
    assert _factor(trace="quickstart", **changed) is None


def test_a_recording_of_ones_own_is_of_ones_own_text(tmp_path):
    own = tmp_path / "own.parquet"
    own.write_bytes((Path(__file__).parents[3] / "traces/quickstart.parquet").read_bytes())
    assert _factor(trace=str(own)) is None
