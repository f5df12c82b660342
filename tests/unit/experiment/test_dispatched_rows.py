"""Rows that are dispatched once to a GPU, and in fewer bits."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import run
from moesim.hardware import CostModel
from moesim.model.spread import DISPATCHED, Spread

from .test_reduced_experts import BASE, TWO_CARDS, split


@pytest.mark.parametrize(
    ("dtype", "size"),
    [("fp8", 7172), ("fp8_block", 7168 + 56 * 4), ("mxfp8", 7392), ("nvfp4", 4032), ("int8", 7172)],
)
def test_bytes_of_a_row_of_deepseek(dtype: str, size: int) -> None:
    assert DISPATCHED[dtype].row_bytes(7168) == size


def test_what_comes_back_is_as_the_model_has_it() -> None:
    model = build(load_experiment(BASE).experiment).case.model
    assert Spread(4).row_bytes(model) == (5760, 5760)
    assert Spread(4, dispatch_dtype="fp8").row_bytes(model) == (2884, 5760)


def test_a_step_by_hand() -> None:
    """A token of 512 bytes on each of two RTX 3090, with four experts: a row for each that is on
    the other card, or one for all of them, there 128 values and a scale in fp8. All else that a
    step takes is the same.
    """
    asked: dict[str, Any] = {"exchange": "deduplicated", "dispatch_dtype": "fp8"}
    once, each = (split(2, TWO_CARDS, dense="data", **more) for more in (asked, {}))
    built = build(once)
    case, prices = built.case, CostModel(built.hardware, built.case.model)
    holders = case.trace.expert_ids[case.schedule.routing_rows[:2]] // 16
    less = 0
    for layer in range(holders.shape[1]):
        there, back = (holders[0, layer] == 1).sum(), (holders[1, layer] == 0).sum()
        rows = np.array([[0, there], [back, 0]])
        whole, alone = np.array([rows, rows.T]) * 512, np.minimum(rows, 1)
        few = np.array([alone * 132, alone.T * 512])
        less += 2 * int((prices.all_to_all_ns(whole) - prices.all_to_all_ns(few)).sum())
    took = [run(one, limit_steps=1).steps["dispatch_combine_ns"].sum() for one in (once, each)]
    assert took[1] - took[0] == less > 0


def test_fewer_rows_and_bytes_take_less() -> None:
    """Of gpt-oss-20b on four H100: the same experts, hits and loads."""
    found = {
        (exchange, dtype): run(
            split(4, dense="data", exchange=exchange, dispatch_dtype=dtype), limit_steps=10
        ).summary
        for exchange in ("all_to_all", "deduplicated")
        for dtype in (None, "fp8", "nvfp4")
    }
    for same in ("hits", "tokens", "balancedness", "max_load"):
        assert len({one[same] for one in found.values()}) == 1
    times = {key: one["duration_ms"] for key, one in found.items()}
    for exchange in ("all_to_all", "deduplicated"):
        assert times[exchange, None] > times[exchange, "fp8"] > times[exchange, "nvfp4"]
    assert times["all_to_all", None] > times["deduplicated", None]


@pytest.mark.parametrize(
    ("asked", "what"),
    [
        ({"exchange": "deduplicated", "dense": "data", "experts": "tensor"}, "experts: expert"),
        ({"dispatch_dtype": "fp8", "dense": "tensor"}, "every GPU has all of them .*dense: data"),
        ({"dispatch_dtype": "fp9", "dense": "data"}, "fp8.*nvfp4"),
    ],
)
def test_where_no_row_goes_so(asked: dict[str, Any], what: str) -> None:
    with pytest.raises(InputError, match=what):
        build(split(4, **asked))


@pytest.mark.parametrize("asked", [{"exchange": "deduplicated"}, {"dispatch_dtype": "nvfp4"}])
def test_padded_gatings_send_rows_of_a_product(asked: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="gating: dynamic"):
        build(split(4, {**BASE, "gating": {"kind": "static"}}, dense="data", **asked))


@pytest.mark.parametrize("more", [{}, {"gating": {"kind": "static"}}])
def test_one_gpu_sends_nothing(more: dict[str, Any]) -> None:
    """Of any gating, so that numbers of GPUs can be swept from one on."""
    asked: dict[str, Any] = {"dense": "data", "exchange": "deduplicated", "dispatch_dtype": "fp8"}
    base = {**BASE, **more}
    assert (
        run(split(1, base, **asked), limit_steps=3).summary["duration_ms"]
        == run(split(1, base, dense="data"), limit_steps=3).summary["duration_ms"]
    )
