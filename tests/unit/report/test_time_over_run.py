"""What a pass's time goes to, over the run, and what of it hits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.report.figures.time_over_run import TimeOverRun
from moesim.results import write_result

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b", "hardware": "rtx-4060-8gb", "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1, "phase": "decode"},
    "experts": {"capacity": "8 slots/layer", "prefetch": {"kind": "oracle"}},
}  # fmt: skip


def test_an_expert_that_is_late_is_no_hit(tmp_path: Path) -> None:
    """With an oracle nearly every miss is late: of so many the figure had said that they hit."""
    run = moesim.run(SOURCE, records="layer")
    assert run.summary["late"] > 0
    table = TimeOverRun().prepare(write_result(run, tmp_path / "run"))
    assert table["hit_share"].isna()[:-1].sum() == 0  # one pass follows the other
    share = run.steps["hits"] / run.steps["activations"]
    assert table["hit_share"].mean() == pytest.approx(share.mean(), rel=0.02)


def test_time_without_a_pass_is_a_gap(tmp_path: Path) -> None:
    """Requests that come seldom: the passes' times were drawn as if one followed the other."""
    served = {
        "requests": 12, "routing": {"kind": "draw"}, "batching": {"kind": "continuous"},
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 20},
        "arrivals": {"kind": "poisson", "request_rate": "40 requests/s"},
    }  # fmt: skip
    run = moesim.run({
        "model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet",
        "workload": served,
    })  # fmt: skip
    table = TimeOverRun().prepare(write_result(run, tmp_path / "run"))
    drawn = table["experts_ms"][:-1].where(table["experts_ms"] > 0).notna()
    width_s = table["start_s"].diff().shift(-1)[:-1]
    steps = run.steps
    busy_s = (steps["end_ns"] - steps["start_ns"]).sum() / 1e9
    span_s = (steps["end_ns"].max() - steps["start_ns"].min()) / 1e9
    assert busy_s < 0.7 * span_s
    assert width_s.sum() == pytest.approx(span_s)
    assert width_s[drawn].sum() == pytest.approx(busy_s, rel=0.05)
