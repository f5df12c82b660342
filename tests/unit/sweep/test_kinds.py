"""A point's component, whichever axis says so."""

from __future__ import annotations

import pandas as pd
import pytest

from moesim.sweep.kinds import kinds, settings
from moesim.sweep.speeds import knows_future

OWN = {"experts": {"policy": {"kind": "lfu"}}}


@pytest.mark.parametrize(
    ("table", "expected"),
    [
        ({"experts.policy.kind": ["lru", "min"]}, ["lru", "min"]),
        ({"experts.policy": ['{"kind": "s3fifo", "small": 0.2}', "min"]}, ["s3fifo", "min"]),
        ({"experts": ['{"policy": {"kind": "lru"}}', '{"capacity": "all"}']}, ["lru", "lfu"]),
        ({"experts.policy": ['{"kind": "lru"}', None]}, ["lru", "lfu"]),
        ({"experts.policy.half_life": [1, 2]}, ["lfu", "lfu"]),
        ({"experts.prefetch.kind": ["none", "oracle"]}, ["lfu", "lfu"]),
    ],
)
def test_the_policy_of_a_point(table: dict[str, list[object]], expected: list[str]) -> None:
    assert kinds(pd.DataFrame(table), "experts.policy", OWN).tolist() == expected


def test_without_an_experiment_only_axes_say_it() -> None:
    assert kinds(pd.DataFrame({"model": ["a"]}), "experts.policy").tolist() == [""]


def test_what_knows_the_future_does_in_every_form() -> None:
    table = pd.DataFrame(
        {
            "experts": ['{"policy": "min"}', '{"policy": "lru"}', '{"policy": "lru"}'],
            "experts.prefetch": ["none", '{"kind": "oracle", "recall": 0.5}', "none"],
        }
    )
    assert knows_future(table).tolist() == [True, True, False]


def test_what_a_point_sets_whichever_axis_says_it() -> None:
    own = {"serving": {"replicas": 3}}
    table = pd.DataFrame(
        {
            "serving.replicas": [2, 1],
            "serving.disaggregation": [None, '{"prefill": 4}'],
        }
    )
    assert settings(table, "serving.replicas", own) == [2, 1]
    assert settings(table, "serving.disaggregation.prefill", own) == [None, 4]
    assert settings(table[["serving.disaggregation"]], "serving.replicas", own) == [3, 3]
    assert settings(table, "parallelism.expert") == [None, None]
