"""Every registered figure: drawn from a golden result, units on its axes, clear errors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.report.figures.base import Figure
from moesim.results import Result, write_result
from moesim.sweep import run_sweep
from moesim.testing.figures import draws_its_table, refuses_what_lacks_its_data
from tests.unit.report import sweeps

UNIT = re.compile(r"\((s|ms|GiB|%|ratio|requests(/s)?|tokens(/s)?|\$)\)|Requests|slots per")


PARAMETERS = {
    "metric_over_axis": {"metric": "hit_ratio_per_expert", "over": "capacity"},
}
"""Of figures that cannot be drawn without."""


SERVED: dict[str, Any] = {
    "name": "served",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "workload": {
        "requests": 12,
        "arrivals": {"kind": "poisson", "request_rate": "400 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 10},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm", "max_num_seqs": 4}},
    },
}
OF_REQUESTS = (
    "latency_cdf", "requests_over_time", "serving_over_time", "step_time_by_tokens",
    "time_by_operation", "time_over_run", "timeline", "ttft_waterfall",
)  # fmt: skip
"""Figures of a run that serves requests, with all records."""
OF_LOADS = ("goodput_over_load", "misses_by_mark")
"""Figures of a sweep over their load, and over the size of a step."""


def kinds() -> list[str]:
    folder = Path(__file__).parents[2] / "moesim" / "report" / "figures"
    return sorted(p.stem for p in folder.glob("*.py") if p.stem not in {"__init__", "base"})


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A sweep, a run of requests that are served, sweeps with costs, of loads and with drops."""
    folder = tmp_path_factory.mktemp("golden")
    served = write_result(moesim.run(SERVED, records="expert"), folder / "served")
    costly = folder / "costly"
    run_sweep({"name": "made"}, sweeps.capacity_points(), costly, evaluate=costed)
    drops = folder / "drops"
    run_sweep({"name": "made"}, sweeps.capacity_points(), drops, evaluate=dropping)
    return sweeps.make(folder / "sweep"), served, costly, loaded(folder / "loads"), drops


def loaded(folder: Path) -> Path:
    """Two rates and two sizes of a step, little room for experts, and a promise."""
    rate, size = (
        "workload.arrivals.request_rate",
        "workload.batching.scheduler.max_num_batched_tokens",
    )
    sweep = {rate: ["200 requests/s", "900 requests/s"], size: [16, 64]}
    promised = {"serving": {"slo": {"ttft": "10 ms"}}, "experts": {"capacity": "8 slots/layer"}}
    moesim.sweep({**SERVED, **promised, "sweep": sweep}, out=folder)
    return folder


def costed(experiment: dict[str, Any]) -> Result:
    """A point of the sweep on a machine of one dollar an hour."""
    result = sweeps.evaluate(experiment)
    speed = result.summary["output_throughput"]
    cost = None if speed is None else 1e6 / speed / 3600
    summary = result.summary | {"cost_usd_per_million_output_tokens": cost}
    return replace(result, summary=summary)


def dropping(experiment: dict[str, Any]) -> Result:
    """A point of the sweep that drops a tenth of its choices."""
    result = sweeps.evaluate(experiment)
    return replace(result, summary=result.summary | {"dropped_share": 0.1})


@pytest.fixture
def golden(folders: tuple[Path, ...], figure: Any) -> Path:
    own = dict.fromkeys(OF_REQUESTS, 1) | dict.fromkeys(OF_LOADS, 3)
    own |= {"throughput_vs_cost": 2, "speed_against_quality": 4}
    return folders[own.get(figure.kind, 0)]


@pytest.fixture
def figure(request: pytest.FixtureRequest) -> Any:
    from moesim.report.figures import registry

    return registry.get(request.param)(**PARAMETERS.get(request.param, {}))


def test_every_file_of_the_folder_is_registered() -> None:
    from moesim.report.figures import registry

    assert set(kinds()) <= set(registry.components)
    for kind in kinds():
        assert registry.get(kind).__module__.endswith(f".{kind}")


@pytest.mark.parametrize("figure", kinds(), indirect=True)
def test_it_is_drawn_with_title_and_units(figure: Any, golden: Path) -> None:
    from moesim.report.drawing.sheet import drawn

    draws_its_table(figure, golden)
    with drawn(figure, figure.prepare(golden)) as sheet:
        (axes,) = sheet.axes
        assert axes.get_title(loc="left")
        assert UNIT.search(axes.get_xlabel()) or axes.get_xticklabels()
        parts = axes.child_axes or [axes]
        assert all(UNIT.search(one.get_ylabel()) or one.get_yticklabels() for one in parts)


@pytest.mark.parametrize("figure", kinds(), indirect=True)
def test_its_table_names_units_in_its_columns(figure: Any, golden: Path) -> None:
    table = figure.prepare(golden)
    assert len(table)
    numbers = table.select_dtypes("number").columns
    units = (
        "_ns",
        "_per_million_output_tokens",
        "_ms",
        "_s",
        "_bytes",
        "_tokens",
        "_requests",
        "_per_s",
        "_per_layer",
        "_share",
        "_per_expert",
        "_per_access",
    )
    assert [name for name in numbers if not name.endswith(units)] == []


@pytest.mark.usefixtures("golden")
@pytest.mark.parametrize("figure", kinds(), indirect=True)
def test_an_unsuitable_result_raises_an_error_that_says_what_it_needs(
    figure: Any, tmp_path: Path
) -> None:
    nothing_fits = sweeps.make(tmp_path / "sweep", slots=(16, 20))
    refuses_what_lacks_its_data(figure, nothing_fits)
    with pytest.raises(InputError):
        figure.prepare(tmp_path / "nowhere")


class Careless(Figure):
    """Changes its table, and draws it without a title."""

    kind = "careless"
    needs = "nothing at all"

    def prepare(self, folder: Path) -> pd.DataFrame:
        return pd.DataFrame({"slots": [1, 2]})

    def draw(self, table: pd.DataFrame, axes: Any) -> None:
        axes.plot(table["slots"])


class Greedy(Careless):
    """Takes a column away."""

    def draw(self, table: pd.DataFrame, axes: Any) -> None:
        axes.set_title("Slots", loc="left")
        axes.set_xlabel("point")
        axes.set_ylabel("slots")
        table["other"] = table.pop("slots")


def test_one_that_breaks_the_rules_is_named(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="Careless has no title"):
        draws_its_table(Careless(), tmp_path)
    with pytest.raises(AssertionError, match="Greedy: the table after it was drawn"):
        draws_its_table(Greedy(), tmp_path)
    with pytest.raises(AssertionError, match="which lacks nothing at all"):
        refuses_what_lacks_its_data(Careless(), tmp_path)


@pytest.mark.parametrize("figure", kinds(), indirect=True)
def test_its_chart_shows_columns_of_its_table(figure: Any, golden: Path) -> None:
    from moesim.report.drawing.charts import SERIES, VALUE, chart_of

    if figure.chart is None:
        pytest.skip("it has no chart")
    table = figure.prepare(golden)
    chart = chart_of(figure, table)
    assert set(chart["encoding"]) >= {"x", "y"}
    own = set(table.columns) | ({SERIES, VALUE} if figure.chart.fold else set())
    for channel in chart["encoding"].values():
        assert channel["field"] in own
    if figure.chart.fold:
        folded = chart["transform"][0]["fold"]
        assert folded
        assert all(pd.api.types.is_numeric_dtype(table[name]) for name in folded)
