"""What the GPUs' time goes to, operation by operation."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.report.figures.time_by_operation import MOST_BARS, REST, TimeByOperation
from moesim.results import Result, write_result

SOURCE: dict[str, Any] = {
    "model": "gpt-oss-20b", "hardware": "h100-sxm", "parallelism": {"expert": 2},
    "trace": "traces/quickstart.parquet", "workload": {"requests": 1, "phase": "decode"},
    "experts": {"capacity": "4 slots/layer"},
}  # fmt: skip


@pytest.fixture(scope="module", params=["des", "replay"])
def run(request: pytest.FixtureRequest) -> Result:
    return moesim.run(SOURCE | {"engine": request.param})


def test_rows_add_up_to_the_time_of_all_gpus_by_what_it_was_charged_to(run: Result) -> None:
    table, summary = run.operations, run.summary
    whole_ns = 2 * 1e6 * summary["duration_ms"]
    charged = table.groupby("charge")["time_ns"].sum() / whole_ns
    told = {name: share for name, share in summary["time_share"].items() if share}
    assert charged.to_dict() == pytest.approx(told)
    assert table["time_ns"].is_monotonic_decreasing
    assert {"copy", "experts", "head", "all_to_all", ""} <= set(table["operation"])
    sources = [n for n in map(str, table) if n.endswith("_ns") and n != "time_ns"]
    priced = table[table["operation"] != ""]
    assert priced[sources].sum(axis=1).to_numpy() == pytest.approx(priced["time_ns"].to_numpy())
    assert not table.loc[table["operation"] == "", sources].any(axis=None)


def test_a_bar_is_a_share_and_what_it_rests_on(run: Result, tmp_path: Path) -> None:
    table = TimeByOperation().prepare(write_result(run, tmp_path / "run")).set_index("work")
    shares = table.drop(columns="run")
    assert shares.sum().sum() == pytest.approx(1)
    copies = table.loc["copy (waiting for weights)"]
    assert copies["datasheet_share"] == pytest.approx(
        run.summary["time_share"]["waiting_for_weights"]
    )
    waits = shares.loc[["waiting for GPUs"]]
    assert [name for name in waits if waits[name].any()] == ["no_price_share"]


def test_short_ones_are_one_bar(run: Result, tmp_path: Path) -> None:
    many = pd.concat([run.operations.assign(operation=f"{n}") for n in range(5)])
    folder = write_result(replace(run, operations=many), tmp_path / "run")
    table = TimeByOperation().prepare(folder)
    assert table["work"].tolist()[MOST_BARS:] == [REST]
    assert table.drop(columns=["run", "work"]).sum().sum() == pytest.approx(1)


def test_without_its_table_it_says_what_it_needs(run: Result, tmp_path: Path) -> None:
    folder = write_result(replace(run, operations=run.operations.head(0)), tmp_path / "run")
    with pytest.raises(InputError, match=r"no table of operations.*with records of steps"):
        TimeByOperation().prepare(folder)
