"""What became of gate weight, by request: the shares add up to those of the whole run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moesim.experiment.running.run import run
from moesim.metrics.fates import lost_columns
from moesim.results import Result
from moesim.trace import read_trace, write_trace
from moesim.trace.rules import read_rules
from moesim.trace.transforming import LostByToken, transform

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "gpt-oss-20b",
    "workload": {"requests": 6, "batching": {"kind": "refill", "batch_size": 3}},
    "records": "summary",
}
SMALL = {**BASE, "model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "small-moe"}
SKIP = {
    "experts": {
        "capacity": "8 slots/layer", "miss": {"kind": "skip"}, "initial": "most_used",
        "policy": {"kind": "lru"},
    }
}  # fmt: skip
DROPS = {"gating": {"kind": "gshard", "factor": 1, "min_capacity": 1, "drop": "random"}}


def shares(result: Result) -> pd.DataFrame:
    """The columns of gate weight, a row a request."""
    columns = [name for name in result.requests.columns if name.startswith("gate_weight_")]
    return result.requests[columns].rename(columns=lambda name: name.removeprefix("gate_weight_"))


@pytest.mark.parametrize("batch", [1, 3])
@pytest.mark.parametrize("prefetch", ["none", "next_layer"])
def test_what_is_skipped_and_dropped_of_each_request(batch: int, prefetch: str) -> None:
    workload = {**BASE["workload"], "batching": {"kind": "refill", "batch_size": batch}}
    experts = {**SKIP["experts"], "prefetch": {"kind": prefetch}}
    for gating in ({}, DROPS):
        played = run({**BASE, **gating, "experts": experts, "workload": workload})
        found, told = shares(played), played.summary
        assert list(found) == ["full", "skipped", "dropped"][: 3 if gating else 2]
        np.testing.assert_allclose(found.sum(axis=1), 1)
        weights = played.requests["tokens"] / played.requests["tokens"].sum()
        for name in list(found)[1:]:
            whole = told[f"{name}_gate_weight_share"]
            # each token weighs as much, but for the rounding of its weights
            assert (found[name] * weights).sum() == pytest.approx(whole, rel=1e-3)
            assert (found[name] > 0).any() == (whole > 0)
        assert told["skipped_gate_weight_share"] > 0
        assert (told["dropped_gate_weight_share"] > 0) == (bool(gating) and batch > 1)


def test_what_is_skipped_and_dropped_of_each_layer() -> None:
    """Without variants, too: layers' shares are each a whole, and have the run's as their mean."""
    experts = {**SKIP["experts"], "capacity": "4 slots/layer"}
    workload = {"batching": {"batch_size": 3}}
    told = run({**SMALL, **DROPS, "experts": experts, "workload": workload}).summary
    by_layer = pd.DataFrame(told["gate_weight_shares_by_layer"])
    assert list(by_layer) == ["full", "skipped", "dropped"]
    np.testing.assert_allclose(by_layer.sum(axis=1), 1)
    assert (by_layer > 0).all(axis=None)
    assert by_layer["skipped"].min() < by_layer["skipped"].max()
    for name, of_layers in by_layer.mean().items():  # each token weighs 1 in each layer
        assert told["gate_weight_shares"][name] == pytest.approx(of_layers, rel=1e-3)
    for name in ("skipped", "dropped"):
        whole = told[f"{name}_gate_weight_share"]
        assert told["gate_weight_shares"][name] == pytest.approx(whole, rel=1e-3)
        assert told["choice_shares"][name] == pytest.approx(told[f"{name}_share"], rel=1e-9)
    assert "lowered_share" not in told
    assert "choice_shares" not in run(SMALL).summary


@pytest.mark.parametrize("drop", ["first_come", "highest_gate_first", "batch_prioritised"])
def test_drops_alone_are_told_by_request(drop: str) -> None:
    """The rule decides whose choices go: both programs of ``replay``, and ``des``."""
    gating = {"gating": {**DROPS["gating"], "drop": drop}}
    one, other = (shares(run({**SMALL, **gating, "engine": name})) for name in ("des", "replay"))
    pd.testing.assert_frame_equal(one, other)
    assert list(one) == ["full", "dropped"]
    assert (one["dropped"] > 0).all()


def test_drops_are_told_where_the_clock_decides() -> None:
    """With prefetches, and nothing that is left out."""
    experts = {"capacity": "8 slots/layer", "prefetch": {"kind": "next_layer"}}
    cases = [{**SMALL, **DROPS, "experts": experts, "engine": name} for name in ("des", "replay")]
    one, other = (shares(run(case)) for case in cases)
    pd.testing.assert_frame_equal(one, other)
    alone = shares(run({**SMALL, **DROPS}))
    pd.testing.assert_frame_equal(one, alone)


def test_what_loses_nothing_has_no_columns() -> None:
    assert shares(run(BASE)).empty


def test_what_rules_cut_of_each_request() -> None:
    """By the weights of their own rows; the whole is what the summary says."""
    rules = [{"kind": "top_k", "k": 3}, {"kind": "gate_ratio", "least": 1, "ratio": "40 %"}]
    played = run({**BASE, "routing": rules})
    (column,) = shares(played).items()
    trace = read_trace("traces/quickstart.parquet")
    cut = transform(trace, read_rules(str(rules).replace("'", '"')))
    assert cut.by_token is not None
    for row, share in zip(played.requests.itertuples(), column[1], strict=True):
        mine = trace.request_id == row.request_id
        lost, recorded = cut.by_token.lost["cut"][mine], cut.by_token.recorded[mine]
        assert share == pytest.approx(lost.sum() / recorded.sum())
    whole = run({**BASE, "workload": {}, "routing": rules}).summary["gate_weight_lost"]
    lost, recorded = cut.by_token.lost["cut"], cut.by_token.recorded
    assert lost.sum() / recorded.sum() == pytest.approx(whole)
    assert column[0] == "cut"


def test_mispredicted_weight_is_told_apart_from_what_is_cut() -> None:
    """Two requests of two choices each: one is predicted right and cut, one is predicted wrong."""
    recorded = np.array([1.0, 1.0, 0.0])
    lost = {"cut": np.array([0.25, 0.0, 0.0]), "mispredicted": np.array([0.0, 0.5, 0.0])}

    class Schedule:
        request = np.array([0, 1, 1, 2])
        routing_rows = np.array([0, 1, 0, 2])

    found = lost_columns(Schedule(), LostByToken(recorded, lost))  # type: ignore[arg-type]
    assert found["gate_weight_cut"][:2].tolist() == [0.25, 0.125]
    assert found["gate_weight_mispredicted"][:2].tolist() == [0, 0.25]
    assert np.isnan(found["gate_weight_cut"][2])


def test_of_a_trace_that_was_transformed_before_nothing_is_told(tmp_path: Path) -> None:
    once = transform(read_trace("traces/quickstart.parquet"), read_rules("{kind: top_k, k: 3}"))
    write_trace(once.trace, tmp_path / "once.parquet")
    again = {"trace": str(tmp_path / "once.parquet"), "routing": [{"kind": "top_k", "k": 2}]}
    assert shares(run({**BASE, **again})).empty
