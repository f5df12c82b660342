"""Figures of a run that serves requests say what its summary does."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

import moesim
from moesim.report.figures import (
    registry,
    requests_over_time,
    serving_over_time,
    step_time_by_tokens,
)
from moesim.report.run.rows import blocks

P99 = "p99, bars: 90% by prices"
VERSUS, STEPS = "throughput_vs_latency", "step_time_by_tokens"
WARM_UP, REQUESTS = 3, 16
SERVED: dict[str, Any] = {
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
    "records": "layer",
    "experts": {"capacity": "8 slots/layer"},
    "memory": {"kv": "8 blocks"},
    "serving": {"warm_up": WARM_UP},
    "workload": {
        "requests": REQUESTS,
        "arrivals": {"kind": "closed_loop", "max_concurrency": 6},
        "lengths": {"kind": "fixed", "input_len": 20, "output_len": 40},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous"},
    },
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("served") / "run"
    moesim.run(SERVED, out=folder)
    return folder


def table_of(kind: str, folder: Path) -> Any:
    return registry.components[kind]().prepare(folder)


def test_times_leave_out_the_warm_up_as_the_summary_does(run: Path) -> None:
    summary = moesim.read_result(run).summary
    cdf = table_of("latency_cdf", run)
    gaps = cdf[cdf["latency"] == "ITL"]
    assert set(cdf.drop(gaps.index).groupby("latency").size()) == {REQUESTS - WARM_UP}
    for percentile in (50, 90, 99):  # which numpy finds between two gaps
        at = int(np.searchsorted(gaps["requests_share"], percentile / 100))
        near = gaps["latency_ms"].iloc[max(at - 1, 0) : at + 2]
        low, high = near.iloc[0], near.iloc[-1]
        assert low <= summary[f"p{percentile}_itl_ms"] + 1e-9 <= high + 2e-9
    assert gaps["requests_share"].iloc[-1] == 1
    mean = cdf[cdf["latency"] == "TTFT"]["latency_ms"].mean()
    assert mean == pytest.approx(summary["mean_ttft_ms"])
    falls = table_of("ttft_waterfall", run).set_index("group").loc["all"]
    assert falls.sum() == pytest.approx(summary["mean_ttft_ms"])


SERVED_FIGURES = ("latency_cdf", "requests_over_time", "serving_over_time", "step_time_by_tokens",
                  "ttft_waterfall")  # fmt: skip


@pytest.mark.parametrize("kind", SERVED_FIGURES)
def test_a_figure_reads_its_run_once(kind: str, run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Records of many requests take seconds to read; some figures read them twice."""
    read, read_result = list[Path](), moesim.read_result

    def counted(folder: Path) -> Any:
        read.append(folder)
        return read_result(folder)

    monkeypatch.setattr("moesim.results.read_result", counted)
    registry.components[kind]().prepare(run)
    assert read == [run]


def test_requests_have_bars_of_chunks_answers_and_when_they_were_preempted(run: Path) -> None:
    result, figure = moesim.read_result(run), registry.components["requests_over_time"]()
    table, preempted = figure.prepare(run), result.summary["preemptions"]
    parts = table["part"].value_counts()
    assert parts["waits"] == REQUESTS
    assert 0 < parts["preempted"] <= preempted  # some begin again at once
    assert REQUESTS < parts["answer"] <= REQUESTS + preempted
    prompts = result.entries[~result.entries["decodes"]]
    assert parts["prompt"] == len(prompts) > REQUESTS
    until = table["begin_ms"] + table["lasts_ms"]
    assert not (table["begin_ms"] < until.groupby(table["request"]).shift() - 1e-6).any()
    ends = until.groupby(table["request"]).max()
    requests = result.requests.set_index("request_id")
    whole = requests["arrival_ns"] * 1e-6 + requests["e2el_ms"]
    assert ends.to_numpy() == pytest.approx(whole[ends.index.astype(int)].to_numpy())
    axes = Figure().add_subplot()
    figure.draw(table, axes)
    assert len(axes.patches) == len(table)
    (row,) = (one for one in blocks(result.summary) if one[0] == "preemptions")
    assert row[1].endswith(f"{result.summary['recomputed_tokens']} tokens computed again")


def test_requests_without_a_record_of_steps_say_whether_they_were_preempted(
    run: Path, tmp_path: Path
) -> None:
    whole = moesim.run({**SERVED, "records": "step"}, out=tmp_path / "run")
    figure = registry.components["requests_over_time"]()
    table = figure.prepare(tmp_path / "run")
    assert 0 < sum(table["part"] == requests_over_time.MARK) <= whole.summary["preemptions"]
    axes = Figure().add_subplot()
    figure.draw(table, axes)
    (marks,) = axes.lines
    assert np.size(marks.get_xdata()) == sum(table["part"] == requests_over_time.MARK)
    few = Figure().add_subplot()
    figure.draw(table[table["request"].astype(int) < 4], few)
    assert {tick % 1 for tick in few.get_yticks()} == {0}, "no half a request"


def test_many_steps_are_pixels_in_vector_pictures_too(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    figure, table = registry.components["step_time_by_tokens"](), table_of(STEPS, run)
    sizes = []
    for most in (len(table), len(table) - 1):
        monkeypatch.setattr(step_time_by_tokens, "MOST_MARKS", most)
        sheet, svg = Figure(), io.StringIO()
        figure.draw(table, sheet.add_subplot())
        sheet.savefig(svg, format="svg")
        sizes.append((svg.getvalue().count("<use"), svg.getvalue().count("<image")))
    (marks, no_picture), (ticks, picture) = sizes
    assert marks - ticks >= len(table)
    assert (no_picture, picture) == (0, 1)


def test_lines_over_load_have_the_order_of_the_sweep_and_points_room(tmp_path: Path) -> None:
    """So that colours are those of its other figures; the highest and the fastest are inside."""
    axes = {"serving.replicas": [2, 1], "workload.arrivals.max_concurrency": [2, 8]}
    asked = {**SERVED, "records": "summary", "sweep": axes, "cost": {"gpu": "2 $/h"}}
    sweep = moesim.sweep(asked, tmp_path / "sweep")
    drawn = {kind: table_of(kind, sweep.folder) for kind in ("goodput_over_load", VERSUS)}
    orders = [list(dict.fromkeys(table["series"])) for table in drawn.values()]
    assert orders == [["replicas 2", "replicas 1"]] * 2
    assert list(drawn["goodput_over_load"]["load"]) == ["2", "8"] * 2
    both = Figure().subplots()
    registry.components["goodput_over_load"]().draw(drawn["goodput_over_load"], both)
    legends = [area.get_legend() for area in both.child_axes]
    told = [text.get_text() for one in legends if one for text in one.get_texts()]
    assert told == ["replicas 2", "replicas 1", "median", P99, "all"], "each once: room for many"
    alike = drawn[VERSUS].assign(of_gpu_tokens_per_s=313.0)
    alike["of_user_tokens_per_s"] = 161.0
    area = Figure().subplots()
    registry.components[VERSUS]().draw(alike, area)
    assert [text.get_text() for text in area.texts] == ["2", "8"], "once, not '22' and '88'"
    assert area.get_xlim()[1] > 1.05 * 161
    assert area.get_ylim()[1] > 1.05 * 313
    prices = table_of("throughput_vs_cost", sweep.folder)
    for told, end in ((prices, "front"), (prices.assign(good_share=0.3), "clients are promised")):
        price = Figure().subplots()
        registry.components["throughput_vs_cost"]().draw(told, price)
        assert price.get_xlim()[0] == 0, "twice the price is twice as far"
        assert price.get_title(loc="left" if price.get_title(loc="left") else "center").endswith(
            end
        )
    assert "good_share" not in prices, "nothing is promised"


def test_loads_stand_beside_one_another_and_their_unit_once() -> None:
    """Of rates of one throughput '0.5 requests/s' and '1 requests/s' stood on one another."""
    rates = [f"{rate} requests/s" for rate in (0.2, 0.5, 1)]
    table = pd.DataFrame({
        "series": "lru", "load": rates, "load_of": "request rate", "policy": "lru",
        "of_user_tokens_per_s": [20.0, 10.0, 10.0], "of_gpu_tokens_per_s": [18.0, 33.9, 34.0],
    })  # fmt: skip
    area = Figure().subplots()
    registry.components[VERSUS]().draw(table, area)
    assert [text.get_text() for text in area.texts] == ["0.2", "0.5", "1"]
    assert area.get_title().endswith("by request rate (requests/s)")
    (_, one, other) = (text.get_verticalalignment() for text in area.texts)
    assert {one, other} == {"bottom", "top"}, "above and below"


@pytest.mark.parametrize(("series", "slant"), [("", 0), ("0.5 requests/s", 30)])
def test_names_of_bars_do_not_stand_on_one_another(series: str, slant: float) -> None:
    table = pd.DataFrame({
        "over": "max num batched tokens", "value": ["64", "256", "512", "1024"], "series": series,
        "decode_bytes": 1e9, "both_bytes": 2e9, "prompt_bytes": 3e9,
    })  # fmt: skip
    area = Figure().subplots()
    registry.components["misses_by_mark"]().draw(table, area)
    assert {label.get_rotation() for label in area.get_xticklabels()} == {slant}


@pytest.mark.parametrize("most", [10, 1000])
def test_nobody_runs_where_nobody_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Requests 10 s apart: the line was at 1 until the next one came; neighbours averaged, too."""
    monkeypatch.setattr(serving_over_time, "MOST", most)
    rare = {"kind": "poisson", "request_rate": "0.1 requests/s"}
    workload = {**SERVED["workload"], "requests": 4, "arrivals": rare}
    moesim.run({**SERVED, "workload": workload, "records": "step"}, out=tmp_path / "run")
    table = table_of("serving_over_time", tmp_path / "run")
    spans = np.diff(table["time_s"])
    busy = float((table["running_requests"][:-1].gt(0) * spans).sum())
    assert busy < 0.1 * float(spans.sum())
    assert (table["kv_usage_share"] >= 0).all()


def test_time_goes_on_where_steps_of_replicas_overlap(tmp_path: Path) -> None:
    """Steps stand in order of their ends."""
    arrivals = {"kind": "poisson", "request_rate": "400 requests/s"}
    given = {
        **SERVED,
        "serving": {"replicas": 2},
        "workload": {**SERVED["workload"], "arrivals": arrivals},
    }
    steps = moesim.run(given, out=tmp_path / "run").steps
    assert (np.diff(steps["start_ns"]) < 0).any()
    table = table_of("serving_over_time", tmp_path / "run")
    assert (np.diff(table["time_s"]) >= 0).all()
