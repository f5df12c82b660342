"""Any number over any axis, relative to a baseline; sizes and formats of pictures."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Annotation

import moesim
from moesim.cli.main import main
from moesim.cli.sweep import show
from moesim.config.errors import InputError
from moesim.memory.policies import registry as policies
from moesim.report.drawing.sheet import drawn
from moesim.report.drawing.style import OFFLINE, series_styles
from moesim.report.figures import registry
from moesim.report.plot import figure_of, parse_size, plot
from moesim.report.sweep.best import best_so_far
from moesim.report.sweep.metrics import in_order
from moesim.sweep import run_sweep
from moesim.sweep.found import read_sweep
from tests.unit.report import sweeps

SHIPPED = {"model": "gpt-oss-20b", "hardware": "rtx-4060-8gb", "trace": "traces/quickstart.parquet"}


def table(folder: Path, **given: Any) -> pd.DataFrame:
    return figure_of({"kind": "metric_over_axis", **given}).prepare(folder)


def speed(slots: int, policy: str) -> float:
    return float(sweeps.summary(slots, policy, 1)["output_throughput"])


def test_a_metric_has_a_line_for_each_value_of_the_other_axes(sweep: Path) -> None:
    found = table(sweep, metric="mean_tpot_ms", over="capacity")
    lru = found[found["series"] == "lru"]
    assert lru["axis"].tolist() == [f"{n} slots/layer" for n in (4, 8, 12, 16)]
    assert lru["mean_tpot_ms"].iloc[1] == sweeps.summary(8, "lru", 1)["mean_tpot_ms"]
    assert np.isnan(lru["mean_tpot_ms"].iloc[3])


def test_points_that_ran_out_of_memory_are_marked_where_they_would_stand(sweep: Path) -> None:
    figure = figure_of({"kind": "metric_over_axis", "metric": "mean_tpot_ms", "over": "capacity"})
    axes = Figure().add_subplot()
    figure.draw(figure.prepare(sweep), axes)
    marks = [text for text in axes.texts if text.get_text() == "out of memory"]
    assert [mark.get_position()[0] for mark in marks] == [16]


def test_it_is_relative_to_the_point_that_is_equal_but_for_the_baseline(sweep: Path) -> None:
    found = table(sweep, metric="output_throughput", over="capacity", relative_to="policy=lru")
    row = found[(found["series"] == "min") & (found["axis"] == "8 slots/layer")].iloc[0]
    assert row["output_throughput_ratio"] == pytest.approx(speed(8, "min") / speed(8, "lru"))
    lru = found[found["series"] == "lru"].dropna()
    assert lru["baseline"].all()
    assert (lru["output_throughput_ratio"] == 1).all()


def test_the_baseline_may_be_a_value_of_the_axis_itself(sweep: Path) -> None:
    found = table(sweep, metric="output_throughput", over="experts.capacity",
                  relative_to="capacity=4 slots/layer")  # fmt: skip
    row = found[(found["series"] == "lfu") & (found["axis"] == "12 slots/layer")].iloc[0]
    assert row["output_throughput_ratio"] == pytest.approx(speed(12, "lfu") / speed(4, "lfu"))


def test_the_gap_closed_is_none_at_one_end_and_whole_at_the_other(sweep: Path) -> None:
    given = {"metric": "misses", "over": "capacity", "relative_to": "policy=lifo"}
    found = table(sweep, **given, gap_to="policy=min").dropna()
    share = found.set_index("series")["misses_gap_closed_share"]
    assert set(share["lifo"]) == {0.0}
    assert not np.signbit(share["lifo"]).any()  # misses fall, so that 0 / gap is -0.0
    assert set(share["min"]) == {1.0}
    misses = {p: sweeps.summary(8, p, 1)["misses"] for p in ("lifo", "lru", "min")}
    expected = (misses["lru"] - misses["lifo"]) / (misses["min"] - misses["lifo"])
    at_8 = found[(found["series"] == "lru") & (found["axis"] == "8 slots/layer")]
    assert at_8["misses_gap_closed_share"].item() == pytest.approx(expected)


def test_axes_that_change_together_are_one_to_a_baseline(tmp_path: Path) -> None:
    points = [
        ({"experts.policy.kind": policy, "seed": seed, "experts.capacity": f"{slots} slots/layer"},
         {"slots": slots, "policy": policy, "b": 1})
        for slots in (4, 8) for seed, policy in enumerate(("lru", "lfu", "fifo"))
    ]  # fmt: skip
    run_sweep({"name": "made"}, points, tmp_path / "sweep", evaluate=sweeps.evaluate)
    found = table(tmp_path / "sweep", metric="output_throughput", over="capacity",
                  relative_to="policy=lru")  # fmt: skip
    assert not found["output_throughput_ratio"].isna().any()
    row = found[(found["policy"] == "fifo") & (found["axis"] == "8 slots/layer")].iloc[0]
    assert row["output_throughput_ratio"] == pytest.approx(speed(8, "fifo") / speed(8, "lru"))
    over = table(tmp_path / "sweep", metric="misses", over="seed")
    assert set(over["series"]) == {"4 slots/layer", "8 slots/layer"}


@pytest.mark.parametrize("names", [("{a}", "b"), (r"$\frac$", "$a_$"), ("[/a]", ":key:[b]")])
def test_names_are_read_as_they_are_written(
    names: tuple[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    points = [
        ({"trace": name, "experts.capacity": f"{slots} slots/layer"},
         {"slots": slots, "policy": "lru", "b": 1})
        for name in names for slots in (4, 8)
    ]  # fmt: skip
    run_sweep({"name": "made"}, points, tmp_path / "sweep", evaluate=sweeps.evaluate)
    show(read_sweep(tmp_path / "sweep"), allow_drops=False)
    shown = capsys.readouterr().out
    assert all(shown.count(name) >= 2 for name in names)
    figure = {"kind": "metric_over_axis", "metric": "misses", "over": "capacity"}
    assert len(plot(tmp_path / "sweep", [figure, "throughput_vs_memory"], formats=["svg"])) == 4


def test_capacities_come_as_numbers() -> None:
    given = ["all", "16 slots/layer", "4 slots/layer", "8 slots/layer"]
    assert in_order(given) == ["4 slots/layer", "8 slots/layer", "16 slots/layer", "all"]
    assert in_order(["2 GiB", "512 MiB", "1 GiB"]) == ["512 MiB", "1 GiB", "2 GiB"]
    assert in_order(["16", "4", "8"]) == ["4", "8", "16"]
    assert in_order(["lru", "fifo"]) == ["lru", "fifo"]


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ({"metric": "hit_ratio", "over": "capacity"}, "'hit_ratio_per_expert' or 'hit_ratio_per_a"),
        ({"metric": "misses", "over": "capacty"}, "'capacty' is no axis: the sweep's axes are"),
        ({"metric": "misses", "over": "policy", "relative_to": "policy=lruu"}, "mean 'lru'"),
        ({"metric": "misses", "over": "policy", "relative_to": "lru"}, "write AXIS=VALUE"),
        ({"metric": "misses", "over": "policy", "gap_to": "policy=min"}, "needs relative_to"),
        ({"metric": "misses"}, "over: is missing"),
        ({"metric": "misses", "over": "policy", "log": True}, "log: is not a known key"),
    ],
)
def test_mistakes(sweep: Path, given: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        table(sweep, **given)


def test_an_axis_of_words_may_be_relative_to_one_of_them(tmp_path: Path) -> None:
    """It ended with a KeyError: the place of the baseline has a name and no bar."""
    points = [
        ({"experts.policy.kind": policy}, {"slots": 8, "policy": policy, "b": 1})
        for policy in ("lru", "lfu", "fifo")
    ]
    run_sweep({"name": "made"}, points, tmp_path / "sweep", evaluate=sweeps.evaluate)
    given = {"metric": "output_throughput", "over": "policy", "relative_to": "policy=lru"}
    figure, axes = figure_of({"kind": "metric_over_axis", **given}), Figure().add_subplot()
    figure.draw(figure.prepare(tmp_path / "sweep"), axes)
    assert [label.get_text() for label in axes.get_xticklabels()] == ["lru", "lfu", "fifo"]
    heights = [speed(8, policy) / speed(8, "lru") for policy in ("lfu", "fifo")]
    assert [bar.get_height() for bar in axes.patches] == pytest.approx(heights)  # type: ignore[attr-defined]


def test_an_axis_of_words_has_bars_that_say_what_each_point_leaves_out(tmp_path: Path) -> None:
    rules = [[], [{"kind": "top_k", "k": 3}], [{"kind": "top_p", "p": "80 %"}]]
    found = moesim.sweep(
        {**SHIPPED, "experts": {"capacity": "8 slots/layer"}, "sweep": {"routing": rules}},
        tmp_path / "sweep",
    )
    figure = figure_of({"kind": "metric_over_axis", "metric": "misses", "over": "routing"})
    axes = Figure().add_subplot()
    figure.draw(figure.prepare(tmp_path / "sweep"), axes)
    heights = [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]
    assert heights == found.table["misses"].tolist()
    names = [label.get_text() for label in axes.get_xticklabels()]
    assert [name.split("\n")[0] for name in names] == ["none", "top_k, k 3", "top_p, p 80 %"]
    assert [" of gate weight" in name for name in names] == [False, True, True]
    assert not axes.lines


def test_the_ends_are_named_where_the_lines_are(sweep: Path) -> None:
    given = {"metric": "output_throughput", "over": "capacity", "relative_to": "policy=lifo"}
    figure = figure_of({"kind": "metric_over_axis", **given})
    with drawn(figure, figure.prepare(sweep)) as sheet:
        (axes,) = sheet.axes
        ends = {text.get_text(): text.xy[1] for text in axes.texts if isinstance(text, Annotation)}
        low, high = axes.get_ylim()
    lru = [speed(n, "lru") / speed(n, "lifo") for n in (4, 8, 12)][-1]
    assert ends["lru"] == pytest.approx((lru - low) / (high - low))
    assert "min (knows the future)" in ends
    assert "lifo" not in ends


def test_the_command_draws_it(sweep: Path, tmp_path: Path) -> None:
    options = ["--metric", "misses", "--over", "capacity", "--relative-to", "policy=lru"]
    assert main(["plot", str(sweep), *options, "--format", "pdf", "-o", str(tmp_path)]) == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    stem = "misses_over_capacity_relative_to_policy_lru"
    assert names == [f"{stem}.csv", f"{stem}.pdf"]


@pytest.mark.parametrize(
    ("option", "told"),
    [
        (["--metric", "misses"], "--metric: names one part of a figure"),
        (["--relative-to", "policy=lru"], "--metric NAME and --over AXIS belong together"),
        (["--metric", "misses", "--over", "capacity", "--gap-to", "policy=min"],
         "--gap-to: is the end of a gap; --relative-to AXIS=VALUE names where it begins"),
    ],
)  # fmt: skip
def test_half_a_figure_is_refused(
    sweep: Path, option: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["plot", str(sweep), *option]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.parametrize("text", ["3x", "axb", "0x3", "3.3", "300x2", "nanxnan"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(InputError, match=r"as in 3\.3x2\.5"):
        parse_size(text)


def test_the_title_says_model_card_trace_and_what_is_not_swept(tmp_path: Path) -> None:
    shipped = {**SHIPPED, "workload": {"batching": {"batch_size": 4}}}
    folder = sweeps.make(tmp_path / "s", experiment=shipped)
    for path in plot(folder, ["throughput_vs_capacity", "time_breakdown"], out=tmp_path / "f"):
        if path.suffix == ".svg":
            assert "gpt-oss-20b on rtx-4060-8gb, quickstart, batch 4" in path.read_text()
    swept = sweeps.make(tmp_path / "b", experiment=shipped, batches=(1, 4), slots=(4, 8))
    svg = next(p for p in plot(swept, ["throughput_vs_capacity"]) if p.suffix == ".svg")
    assert "gpt-oss-20b on rtx-4060-8gb, quickstart<" in svg.read_text()


def test_a_policy_has_one_colour_in_every_figure(tmp_path: Path) -> None:
    some = sweeps.make(tmp_path / "a", policies=("lifo", "lru"), slots=(4, 8))
    others = sweeps.make(tmp_path / "b", policies=("random", "lifo", "min", "lru"), slots=(4, 8))
    colours = []
    for folder, kind in ((some, "throughput_vs_capacity"), (others, "miss_ratio_vs_capacity"),
                         (others, "throughput_vs_memory")):  # fmt: skip
        figure = registry.get(kind)()
        with drawn(figure, figure.prepare(folder)) as sheet:
            (axes,) = sheet.axes
            legend = axes.get_legend()
            lines = [x for x in axes.lines if x.get_label() in ("lru", "lifo")]
            assert legend or axes.texts
            colours.append({str(line.get_label()): line.get_color() for line in lines})
    assert colours[0] == colours[1] == colours[2]
    assert len(set(colours[0].values())) == 2


def test_policies_with_other_axes_stay_apart() -> None:
    names = {f"{kind}, batch size {n}": kind for kind in ("lru", "min", "mine") for n in (1, 4)}
    styles = series_styles(names)
    assert (
        len({(style.color, style.marker, str(style.linestyle)) for style in styles.values()}) == 6
    )
    assert styles["lru, batch size 1"].color == styles["lru, batch size 4"].color
    assert styles["min, batch size 1"] == OFFLINE
    assert styles["mine, batch size 1"].color != styles["lru, batch size 1"].color


def test_no_two_policies_share_a_colour() -> None:
    every = [kind for kind in policies.components if kind != "min"]
    colours = {series_styles({"min": "min", kind: kind})[kind].color for kind in every}
    together = [s.color for s in series_styles({kind: kind for kind in (*every, "min")}).values()]
    parts = [np.array([int(c[n : n + 2], 16) for n in (1, 3, 5)]) for c in sorted(set(together))]
    apart = min(float(np.linalg.norm(a - b)) for a, b in itertools.combinations(parts, 2))
    assert len(every) >= 13
    assert len(colours) == len(every)
    assert len(parts) == len(together)
    assert apart > 50  # of 442


def test_where_misses_vary_more_than_policies_they_give_the_colour() -> None:
    """As in the choices of 'moesim advise'."""
    names = {f"{miss}, {kind}": kind for miss in ("load", "cpu", "cheapest", "zero_copy")
             for kind in ("lru", "lfu_decay", "s3fifo", "min")}  # fmt: skip
    styles = series_styles(names)
    of_lru = [style for name, style in styles.items() if names[name] == "lru"]
    of_cpu = [style for name, style in styles.items() if name.startswith("cpu")]
    assert len({style.color for style in of_lru}) == 4
    assert len({str(style.linestyle) for style in of_lru}) == 1
    assert len({str(style.linestyle) for style in of_cpu}) == 4
    looks = [{(s.color, s.marker) for s in styles.values()},
             {(s.marker, str(s.linestyle)) for s in styles.values()}]  # fmt: skip
    assert [len(look) for look in looks] == [16, 16]


def test_of_several_figures_those_that_apply_are_drawn(tmp_path: Path) -> None:
    named = ["throughput_vs_capacity", "time_breakdown"]
    points = [
        ({"experts.policy.kind": p}, {"slots": 4, "policy": p, "b": 1}) for p in ("lru", "lfu")
    ]
    run_sweep({"name": "m", "figures": named}, points, tmp_path / "s",
                     evaluate=sweeps.evaluate)  # fmt: skip
    told: list[str] = []
    written = plot(tmp_path / "s", warn=told.append)
    assert {path.stem for path in written} == {"time_breakdown"}
    (line,) = told
    assert "not drawn" in line
    assert "throughput_vs_capacity: the sweep's axes are experts.policy.kind" in line


def test_a_check_says_which_figures_will_not_be_drawn(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(f"{key}: {value}" for key, value in SHIPPED.items())
    own = "{kind: metric_over_axis, metric: a, over: b}"
    figures = f"[throughput_vs_capacity, time_breakdown, {own}]"
    file = tmp_path / "e.yaml"
    file.write_text(f"{text}\nsweep: {{experts.policy.kind: [lru, lfu]}}\nfigures: {figures}\n")
    assert main(["check", str(file)]) == 0
    warned = capsys.readouterr().err.splitlines()
    assert [line.split(":")[:2] for line in warned] == [
        ["warning", " figures.0"], ["warning", " figures.2"],
    ]  # fmt: skip
    assert "'throughput_vs_capacity' will not be drawn" in warned[0]


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        ("metric_over_axi", "4:11: figures.0: 'metric_over_axi' is not a known figure"),
        ("metric_over_axis", "figures.0.metric: is missing"),
        ("{metric: misses}", "figures.0: has no 'kind'"),
        ("{kind: metric_over_axis, metric: a, ovr: b}", "figures.0.ovr: is not a known key"),
        ("{kind: time_breakdown, size: 3}", "figures.0.size: is not a known key"),
        ("3", "figures.0: '3' is not a known figure"),
    ],
)
def test_a_mistake_in_a_figure_is_found_at_the_check(
    tmp_path: Path, entry: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "\n".join(f"{key}: {value}" for key, value in SHIPPED.items())
    (tmp_path / "e.yaml").write_text(f"{text}\nfigures: [{entry}]\n")
    assert main(["check", str(tmp_path / "e.yaml")]) == 2
    assert told in capsys.readouterr().err


def test_numbers_with_units_are_in_order_and_no_words() -> None:
    from moesim.report.sweep.metrics import in_order

    assert in_order(["25 %", "95 %", "0 %"]) == ["0 %", "25 %", "95 %"]
    assert in_order(["16 requests/s", "4 requests/s"]) == ["4 requests/s", "16 requests/s"]
    assert in_order(["lru", "lfu"]) == ["lru", "lfu"]


@pytest.mark.parametrize(
    ("metric", "label"),
    [
        ("bytes_h2d", "Copied from host (GB)"),
        ("prompt_bytes_h2d", "Copied from host by prompt passes (GB)"),
        ("bytes_storage_ahead", "Read ahead from storage (GB)"),
        ("host_bytes", "Host (GiB)"),
        ("p99_itl_ms", "P99 ITL (ms)"),
    ],
)
def test_axes_are_in_words(sweep: Path, metric: str, label: str) -> None:
    found = table(sweep, metric="output_throughput", over="capacity")
    found = found.rename(columns={"output_throughput": metric})
    figure = figure_of({"kind": "metric_over_axis", "metric": metric, "over": "capacity"})
    with drawn(figure, found.assign(setting="")) as sheet:
        assert sheet.axes[0].get_ylabel() == label


SERVED = """
model: gpt-oss-20b
hardware: rtx-4060-8gb
trace: traces/quickstart.parquet
records: summary
workload:
  requests: 6
  arrivals: {kind: poisson, request_rate: 0.5 requests/s}
  lengths: {kind: fixed, input_len: 40, output_len: 6}
  routing: {kind: draw, prompts_from: decode}
  batching:
    {kind: continuous, scheduler: {kind: vllm, max_num_seqs: 8, max_num_batched_tokens: 512}}
memory: {kv: 100 blocks}
experts: {capacity: auto}
serving: {slo: {ttft: 1 s, tpot: 120 ms}, price_interval: always}
sweep: {workload.arrivals.request_rate: [0.2 requests/s, 2 requests/s]}
figures: [{kind: metric_over_axis, metric: p99_ttft_ms, over: request_rate}, goodput_over_load]
"""


@pytest.fixture(scope="module")
def over_rates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("served") / "rates.yaml"
    file.write_text(SERVED, encoding="utf-8")
    moesim.sweep(file, file.with_suffix(""))
    return file.with_suffix("")


def test_times_of_requests_have_bars_by_prices_that_say_so(over_rates: Path) -> None:
    given = {"kind": "metric_over_axis", "metric": "p99_ttft_ms", "over": "request_rate"}
    for figure in (figure_of(given), figure_of("goodput_over_load")):
        found, points = figure.prepare(over_rates), read_sweep(over_rates).table
        for side in ("low", "high"):
            column = points[f"price_interval.p99_ttft_ms.{side}"].astype(float)
            assert found[f"{side}_p99_ttft_ms"].tolist() == column.tolist()
        assert (found["low_p99_ttft_ms"] < found["p99_ttft_ms"]).all()
        assert (found["p99_ttft_ms"] < found["high_p99_ttft_ms"]).all()
        axes = Figure().add_subplot()
        figure.draw(found, axes)
        areas = [axes, *axes.child_axes]
        assert len([one for area in areas for one in area.containers]) == 1
        legends = [area.get_legend() for area in areas]
        said = [area.get_ylabel() for area in areas]
        said += [text.get_text() for one in legends if one for text in one.get_texts()]
        assert any("bars: 90% by prices" in text for text in said)


@pytest.mark.parametrize(
    ("metric", "limit"), [("p90_tpot_ms", [120.0]), ("p99_ttft_ms", [1000.0]), ("p50_e2el_ms", [])]
)
def test_what_is_promised_is_a_line(over_rates: Path, metric: str, limit: list[float]) -> None:
    figure = figure_of({"kind": "metric_over_axis", "metric": metric, "over": "request_rate"})
    axes = Figure().add_subplot()
    figure.draw(figure.prepare(over_rates), axes)
    lines = [np.asarray(one.get_ydata()) for one in axes.lines if one.get_label() == "promised"]
    assert [float(one[0]) for one in lines] == limit


def test_points_that_grow_with_the_run_are_open(over_rates: Path) -> None:
    figure = figure_of("goodput_over_load")
    table = figure.prepare(over_rates)
    assert not table["saturated"].astype(bool).any()
    for grew, said in ((table, 0), (table.assign(saturated=True), 1)):
        axes = Figure().add_subplot()
        figure.draw(grew, axes)
        told = [text.get_text() for area in axes.child_axes if (one := area.get_legend())
                for text in one.get_texts()]  # fmt: skip
        assert sum(text.startswith("open: saturated") for text in told) == said


def test_no_point_is_the_best_where_requests_set_the_throughput(over_rates: Path) -> None:
    sweep = read_sweep(over_rates)
    assert sweep.kept_up.all()
    assert best_so_far(sweep) == ""
    assert "best: none, since requests come when they come" in repr(sweep)


def test_a_ratio_of_times_has_no_bars(over_rates: Path) -> None:
    found = table(over_rates, metric="p99_ttft_ms", over="request_rate",
                  relative_to="request_rate=0.2 requests/s")  # fmt: skip
    assert not {"bars", "low_p99_ttft_ms"} & set(found.columns)
