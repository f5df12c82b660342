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
    share = run.steps["hits"] / run.steps["activations"]
    assert table["hit_share"].mean() == pytest.approx(share.mean(), rel=0.02)
