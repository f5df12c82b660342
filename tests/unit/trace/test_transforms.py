"""Transforms of routing by hand, and their laws on the shipped trace."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.trace import NO_EXPERT, RoutingTrace, read_trace
from moesim.trace.routing import TraceMetadata
from moesim.trace.rules import read_rules
from moesim.trace.transforming import Transformed, transform
from moesim.trace.transforms import registry
from moesim.trace.transforms.base import Transform

ROOT = Path(__file__).parents[3]
NONE = NO_EXPERT


def a_trace(ids: list[list[int]], weights: list[list[float]], experts: int = 4) -> RoutingTrace:
    """One layer; weights are powers of two, so that sums are exact."""
    tokens, top_k = np.array(ids).shape
    return RoutingTrace(
        expert_ids=np.array(ids, np.uint16)[:, None],
        request_id=np.zeros(tokens, np.int32),
        position=np.arange(tokens, dtype=np.int32),
        phase=np.ones(tokens, np.uint8),
        gate_weights=np.array(weights, np.float16)[:, None],
        predicted_ids=None,
        metadata=TraceMetadata(None, experts, top_k, (0,), "by hand", "-", "none"),
    )


# all four experts recorded; weights are probabilities
FULL = a_trace(
    [[0, 1, 2, 3], [1, 0, 3, 2], [1, 2, 0, 3], [2, 1, 3, 0]],
    [[0.5, 0.25, 0.125, 0.125], [0.75, 0.125, 0.0625, 0.0625], [0.25] * 4, [1, 0, 0, 0]],
)


SHARES = {"keep", "learn", "p", "ratio", "beta", "until"}


def made(kind: str, **said: Any) -> Transform:
    """A transform, its shares written as files have them."""
    shares = {key: f"{100 * value:g} %" for key, value in said.items() if key in SHARES}
    return registry.get(kind)(**(said | shares))


def by(kind: str, trace: RoutingTrace = FULL, **said: Any) -> Transformed:
    return transform(trace, [made(kind, **said)])


def ids(found: Transformed) -> list[list[int]]:
    return found.trace.expert_ids[:, 0].tolist()  # type: ignore[no-any-return]


def test_top_k_keeps_the_largest() -> None:
    found = by("top_k", k=2)
    assert ids(found) == [[0, 1], [1, 0], [1, 2], [2, 1]]
    assert found.losses.gate_weight_lost == (0.25 + 0.125 + 0.5 + 0) / 4
    assert found.losses.mean_by_layer == [2.0]
    assert found.trace.top_k == 2


def test_top_k_goes_by_weight_and_not_by_place() -> None:
    trace = a_trace([[0, 1, 2]], [[0.25, 0.5, 0.25]])
    assert ids(by("top_k", trace, k=2)) == [[0, 1]]
    assert ids(by("top_k", trace, k=1)) == [[1]]
    without = by("top_k", replace(trace, gate_weights=None), k=1)
    assert ids(without) == [[0]]
    assert without.losses.gate_weight_lost is None
    assert "its first choices are kept" in without.losses.notes[0]


def test_top_k_of_more_than_there_are_says_so() -> None:
    found = by("top_k", k=9)
    assert not found.changed
    assert found.losses.notes == ("top_k: tokens have 4 choices, so that 9 cut none",)


def test_threshold_is_of_an_even_share() -> None:
    found = by("threshold", epsilon=1.0)  # 0.25 of four experts
    assert ids(found) == [[0, 1, NONE, NONE], [1, *[NONE] * 3], [1, 2, 0, 3], [2, *[NONE] * 3]]
    assert found.losses.mean_by_layer == [(2 + 1 + 4 + 1) / 4]
    assert found.losses.gate_weight_lost == (0.25 + 0.25) / 4


@pytest.mark.parametrize("kind", ["threshold", "threshold_top_k"])
def test_threshold_of_shares_of_the_recorded_choices_says_so(kind: str) -> None:
    """Two of four experts: weights that add up to one are none of DS-MoE's; others may be."""
    two = [[0, 1], [1, 2]]
    shares, probabilities = [[0.75, 0.25], [0.5, 0.5]], [[0.75, 0.125], [0.5, 0.125]]
    said = by(kind, a_trace(two, shares), epsilon=1.0).losses.notes[0]
    assert said.startswith(f"{kind}: weights are shares of the 2 choices recorded")
    assert "over all 4 experts" in said
    for trace in (a_trace(two, probabilities), FULL):
        assert "shares" not in " ".join(by(kind, trace, epsilon=1.0).losses.notes)


def test_threshold_top_k_takes_the_mean() -> None:
    found = by("threshold_top_k", epsilon=1.0)  # 2, 1, 4 and 1: a mean of two
    assert ids(found) == ids(by("top_k", k=2))


def test_threshold_top_k_takes_the_mean_of_each_pass() -> None:
    """Tokens 0 and 3 share a pass: a mean of 1.5 is two. 1 has its own, and 2 is in none."""
    rule = made("threshold_top_k", epsilon=1.0)
    found = transform(FULL, [rule], passes=np.array([1, 0, -1, 1]))
    assert [len(set(one) - {NONE}) for one in ids(found)] == [2, 1, 4, 2]
    assert found.losses.notes == ()
    assert "no forward passes are known" in by("threshold_top_k", epsilon=1.0).losses.notes[0]


def test_xshare_keeps_what_a_pass_weighs_most() -> None:
    """Tokens 0 and 3 share a pass, in which experts weigh .5, .25, 1.125 and .125; the first of its
    own choices a token keeps anyway.
    """
    passes = np.array([1, 0, -1, 1])
    found = transform(FULL, [made("xshare", experts=2, least=0)], passes=passes)
    assert ids(found) == [[0, 2], [1, 0], [1, 0], [2, 0]]
    assert found.losses.notes == ()
    one = transform(FULL, [made("xshare", experts=1)], passes=passes)
    assert ids(one) == [[0, 2], [1, NONE], [1, 0], [2, NONE]]
    whole = by("xshare", experts=1, least=0)  # .875, 1.25, 1.4375 and .4375
    assert ids(whole) == [[2]] * 4
    assert "no forward passes are known" in whole.losses.notes[0]


def test_top_p_and_gate_ratio() -> None:
    assert [len(set(one) - {NONE}) for one in ids(by("top_p", p=0.75))] == [2, 1, 3, 1]
    assert [len(set(one) - {NONE}) for one in ids(by("gate_ratio", ratio=0.25))] == [4, 1, 4, 1]
    at_least = by("gate_ratio", least=2, ratio=0.25)
    assert [len(set(one) - {NONE}) for one in ids(at_least)] == [4, 2, 4, 2]


def test_where_tokens_take_different_numbers_of_experts() -> None:
    """By layer: those that all take, none takes, and one token lacks. A token that lost its last
    choice takes fewer; in a trace as recorded one without any does not run the layer.
    """
    rows = np.array([[[0, 1], [NONE, NONE], [0, 1]], [[0, 2], [NONE, NONE], [NONE, NONE]]])
    layers = TraceMetadata(None, 4, 2, (0, 1, 2), "by hand", "-", "none")
    trace = a_trace([[0, 1]] * 2, [[0.5, 0.25]] * 2)
    weights = np.full(rows.shape, 0.5, np.float16)
    trace = replace(trace, expert_ids=rows.astype(np.uint16), gate_weights=weights, metadata=layers)
    assert by("top_k", trace, k=2).varies.tolist() == [False, False, False]
    assert by("top_k", trace, k=1).varies.tolist() == [False, False, True]


def test_predicted_replaces_the_choices() -> None:
    trace = a_trace([[0, 1], [2, 3]], [[0.75, 0.25], [0.5, 0.5]])
    trace = replace(trace, predicted_ids=np.array([[[1, 2]], [[3, 3]]], np.uint16))
    found = by("predicted", trace)
    assert found.by_token is not None
    assert set(found.by_token.lost) == {"mispredicted"}
    share = found.by_token.lost["mispredicted"].sum() / found.by_token.recorded.sum()
    assert share == found.losses.gate_weight_lost
    assert ids(found) == [[1, 2], [3, NONE]]
    assert found.trace.gate_weights is not None
    assert found.trace.gate_weights[:, 0].tolist() == [[0.25, 0], [0.5, 0]]
    assert found.losses.gate_weight_lost == (0.75 + 0.5) / 2
    with pytest.raises(InputError, match="no predicted_ids; record them"):
        by("predicted")


class TestPrune:
    # of the first two tokens expert 0 has 1.0 and expert 1 has 0.75, of all 2 has most
    TRACE = a_trace(
        [[0, 1], [0, 1], [2, 1], [2, 3]], [[0.5, 0.5], [0.5, 0.25], [0.75, 0.25], [0.5, 0.5]]
    )

    def test_keeps_what_the_first_part_used_and_counts_anew(self) -> None:
        found = by("prune", self.TRACE, keep=0.5, learn=0.5, then="drop")
        assert found.experts.tolist() == [2]
        assert ids(found) == [[0, 1], [0, 1], [1, NONE], [NONE, NONE]]
        assert found.losses.learnt == 0
        assert found.losses.held_out == (0.75 + 1) / 2
        assert found.losses.gate_weight_lost == 1.75 / 3.75
        whole = by("prune", self.TRACE, keep=0.5, learn=1.0, then="drop")
        assert ids(whole) == [[0], [0], [1], [1]]  # 0 has 1, 2 has 1.25
        assert whole.losses.held_out is None

    def test_renormalise_gives_a_token_its_weight_back(self) -> None:
        found = by("prune", self.TRACE, keep=0.5, learn=0.5)
        assert found.trace.gate_weights is not None
        sums = found.trace.gate_weights.sum(axis=2)[:, 0].tolist()
        assert sums == [1.0, 0.75, 1.0, 0.0]
        assert found.losses.gate_weight_lost == 1.75 / 3.75  # what is recorded is lost all the same

    def test_next_takes_choices_beyond_those_made(self) -> None:
        # learnt from the first token: experts 0 and 1 live
        found = by("prune", FULL, keep=0.5, learn=0.25, then="next", k=1)
        assert ids(found) == [[0], [1], [1], [1]]
        drop = by("prune", FULL, keep=0.5, learn=0.25, then="drop", k=1)
        assert ids(drop) == [[0], [1], [1], [NONE]]
        none = by("prune", FULL, keep=0.5, then="next")
        assert "records no choices beyond the 4" in none.losses.notes[0]

    def test_tokens_are_counted(self) -> None:
        trace = a_trace([[0], [0], [1]], [[0.125], [0.125], [0.5]])
        assert by("prune", trace, keep=0.25, learn=1.0).losses.mean_by_layer == [1 / 3]
        by_tokens = by("prune", trace, keep=0.25, learn=1.0, score="tokens")
        assert by_tokens.losses.mean_by_layer == [2 / 3]

    def test_windows_drop_step_by_step_and_leave_a_minimum(self) -> None:
        # window 1: only 0 and 1; window 2: only 2 and 1, of which 2 is gone by then
        said = {"windows": 2, "until": 1.0, "beta": 0.5, "then": "drop"}
        found = by("prune", self.TRACE, **said)
        assert found.experts.tolist() == [1]
        assert ids(found) == [[0], [0], [0], [NONE]]  # expert 1
        least = by("prune", self.TRACE, **said, minimum=3)
        assert least.experts.tolist() == [3]
        best = by("prune", self.TRACE, **said, keep=0.25, minimum=3)
        assert best.experts.tolist() == [1]

    def test_it_says_how_many(self) -> None:
        with pytest.raises(ValueError, match="neither 'keep' nor 'windows'"):
            registry.get("prune")()


class TestLaws:
    TRACE = read_trace(ROOT / "traces" / "quickstart.parquet")

    @pytest.mark.parametrize(
        "one",
        [
            {"kind": "threshold", "epsilon": 0.0},
            {"kind": "top_k", "k": 4},
            {"kind": "top_p", "p": 1.0},
            {"kind": "gate_ratio", "ratio": 0.0},
            {"kind": "prune", "keep": 1.0},
            {"kind": "prune", "keep": 1.0, "then": "drop"},
        ],
    )
    def test_what_changes_nothing_loses_nothing(self, one: dict[str, object]) -> None:
        found = by(str(one["kind"]), self.TRACE, **{k: v for k, v in one.items() if k != "kind"})
        assert not found.changed
        assert found.trace is self.TRACE
        assert found.losses.gate_weight_lost == 0
        assert not any(found.losses.lost_by_layer)

    @pytest.mark.parametrize(
        ("kind", "key", "values"),
        [
            ("threshold", "epsilon", [0.0, 2.0, 4.0, 8.0, 16.0]),
            ("threshold_top_k", "epsilon", [0.0, 2.0, 4.0, 8.0, 16.0]),
            ("top_k", "k", [4, 3, 2, 1]),
            ("top_p", "p", [1.0, 0.9, 0.7, 0.4]),
            ("gate_ratio", "ratio", [0.0, 0.2, 0.5, 1.0]),
        ],
    )
    def test_choices_fall_and_the_loss_rises(
        self, kind: str, key: str, values: list[float]
    ) -> None:
        found = [by(kind, self.TRACE, **{key: value}) for value in values]
        choices = [one.losses.mean_choices for one in found]
        lost = [one.losses.gate_weight_lost or 0.0 for one in found]
        assert choices == sorted(choices, reverse=True)
        assert lost == sorted(lost)
        assert choices[-1] < choices[0]
        assert lost[-1] > lost[0] == 0

    def test_pruning_more_loses_more_and_more_on_what_is_held_out(self) -> None:
        lost = []
        for keep in (1.0, 0.75, 0.5, 0.25):
            found = by("prune", self.TRACE, keep=keep, then="drop")
            assert set(found.experts.tolist()) == {32 * keep}
            assert found.losses.gate_weight_lost is not None
            assert found.losses.learnt is not None
            assert found.losses.held_out is not None
            assert found.losses.held_out >= found.losses.learnt
            lost.append(found.losses.gate_weight_lost)
        assert lost == sorted(lost)

    def test_an_order_of_rules(self) -> None:
        rules: list[Transform] = read_rules("[{kind: top_k, k: 2}, {kind: threshold, epsilon: 4}]")
        both = transform(self.TRACE, rules)
        assert both.losses.mean_choices <= min(
            transform(self.TRACE, [one]).losses.mean_choices for one in rules
        )


class TestRules:
    def test_inline_and_files(self, tmp_path: Path) -> None:
        path = tmp_path / "x.yaml"
        path.write_text("model: any\nrouting:\n- {kind: top_p, p: 90 %}\n")
        (one,) = read_rules(str(path))
        assert one == made("top_p", p=0.9)
        assert read_rules("{kind: top_k, k: 2}") == [made("top_k", k=2)]

    @pytest.mark.parametrize(
        ("text", "what"),
        [
            ("nothing.yaml", "--routing: 'nothing.yaml' is no file and no rule"),
            ("{kind: top_q}", "top_k"),
            ("{kind: top_k, k: 0}", r"routing\.0\.k"),
            ("[]", "routing"),
        ],
    )
    def test_what_is_wrong(self, text: str, what: str) -> None:
        with pytest.raises(InputError, match=what):
            read_rules(text)
