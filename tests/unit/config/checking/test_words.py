"""A component by its kind alone, wherever an experiment's values are from."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import Resolved, load_experiment
from moesim.memory.policies.lfu import Lfu
from moesim.memory.policies.lru import Lru
from moesim.trace.rules import read_rules

BASE: dict[str, Any] = {"model": "gpt-oss-20b", "hardware": "rtx-4060-8gb", "trace": "gpt-oss-20b"}


def _load(sets: tuple[str, ...] = (), **keys: Any) -> Resolved:
    return load_experiment({**BASE, **keys}, sets)


def test_a_word_is_a_component_without_parameters() -> None:
    experts = {"capacity": "8 slots/layer", "policy": "lfu", "miss": "cpu"}
    short = _load(experts=experts, gating="static", workload={"batching": "refill"})
    long = _load(
        experts={**experts, "policy": {"kind": "lfu"}, "miss": {"kind": "cpu"}},
        gating={"kind": "static"},
        workload={"batching": {"kind": "refill"}},
    )
    assert short.experiment == long.experiment
    assert short.origins["experts.policy.kind"] == "experiment"


def test_keys_alone_are_of_the_default_kind() -> None:
    short = _load(workload={"batching": {"batch_size": 4}})
    long = _load(workload={"batching": {"kind": "static", "batch_size": 4}})
    assert short.experiment == long.experiment
    over = _load(("workload.batching.batch_size=4",))
    assert over.experiment == long.experiment
    with pytest.raises(InputError, match=r"workload\.batching\.kind.*is missing"):
        _load(workload={"batching": {"scheduler": "vllm"}})


def test_what_is_set_over_a_word_or_by_one() -> None:
    over = _load(("experts.policy.half_life=3",), experts={"policy": "lfu_decay"})
    assert over.experiment.experts.policy.half_life == 3  # type: ignore[attr-defined]
    by = _load(("experts.policy=lfu",), experts={"policy": {"kind": "lfu_decay", "half_life": 3}})
    assert by.experiment.experts.policy == Lfu()


def test_an_axis_has_words_and_is_labelled_by_them() -> None:
    points = _load(sweep={"experts.policy": ["lru", "lfu"]}).points
    assert [type(one.experts.policy) for _, one in points] == [Lru, Lfu]
    assert [settings["experts.policy"] for settings, _ in points] == ["lru", "lfu"]


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ({"experts": {"policy": "lfuu"}}, "experts.policy.kind"),
        ({"sweep": {"experts.policy": ["lfuu"]}}, "sweep.experts.policy"),
        ({"routing": ["top_k"]}, "routing.0.k"),
    ],
)
def test_a_wrong_word_is_one_line(keys: dict[str, Any], path: str) -> None:
    with pytest.raises(InputError) as caught:
        _load(**keys)
    (problem,) = caught.value.problems
    assert problem.path == path


def test_rules_of_the_command_line_have_words() -> None:
    (rule,) = read_rules("[{kind: top_k, k: 2}]")
    assert rule.kind == "top_k"  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="is missing"):
        read_rules("[top_k]")
