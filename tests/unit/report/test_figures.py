"""What the figures' tables say, against numbers worked out by hand."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.axes import Axes
from matplotlib.text import Text

from moesim.config.errors import InputError
from moesim.report.drawing.labels import spread
from moesim.report.drawing.sheet import drawn
from moesim.report.figures import registry
from moesim.report.figures.memory_over_time import MOST_INSTANTS
from moesim.report.figures.throughput_vs_memory import pareto
from moesim.report.plot import plot
from moesim.results import Result, write_result
from moesim.sweep import run_sweep
from moesim.sweep.found import read_sweep
from tests.unit.report import sweeps
from tests.unit.results import factory


def table(kind: str, folder: Path) -> pd.DataFrame:
    return registry.get(kind)().prepare(folder)


def test_throughput_has_a_line_a_policy_and_a_gap_where_memory_did_not_suffice(sweep: Path) -> None:
    made = table("throughput_vs_capacity", sweep)
    assert set(made["series"]) == {"lru", "lfu", "lifo", "min"}
    lru = made[made["series"] == "lru"].set_index("slots_per_layer")
    assert lru.index.tolist() == [4, 8, 12, 16]
    assert lru["status"].tolist() == ["ok", "ok", "ok", "out_of_memory"]
    assert np.isnan(lru["output_throughput_tokens_per_s"][16])
    assert (
        lru["output_throughput_tokens_per_s"][8] == sweeps.summary(8, "lru", 1)["output_throughput"]
    )


def test_the_miss_ratio_counts_late_prefetches_as_activations() -> None:
    from moesim.report.figures.miss_ratio_vs_capacity import miss_ratios

    points = pd.DataFrame({"hits": [5], "late": [3], "misses": [2], "hit_ratio_per_access": [0.75]})
    assert miss_ratios(points)["miss_ratio_per_expert"].tolist() == [0.2]
    assert miss_ratios(points)["miss_ratio_per_access"].tolist() == [0.25]


def in_legend(axes: Axes) -> list[Text]:
    """What the legend says, which has to be there."""
    legend = axes.get_legend()
    assert legend is not None
    return legend.get_texts()


def test_min_is_drawn_apart(sweep: Path) -> None:
    figure = registry.get("miss_ratio_vs_capacity")()
    with drawn(figure, figure.prepare(sweep)) as sheet:
        axes = sheet.axes[0]
        words = {text.get_text() for text in (*axes.texts, *in_legend(axes))}
        black = [line for line in axes.lines if line.get_color() == "#000000"]
    assert "min (knows the future)" in words
    assert "out of memory" in words
    assert len(black) == 1
    assert np.isnan(np.asarray(black[0].get_ydata())[-1])


def test_series_are_told_apart_without_colour(sweep: Path) -> None:
    figure = registry.get("throughput_vs_capacity")()
    with drawn(figure, figure.prepare(sweep)) as sheet:
        looks = [(line.get_marker(), str(line.get_linestyle())) for line in sheet.axes[0].lines]
    assert len(set(looks)) == len(looks) == 4


def test_labels_of_lines_do_not_overlap(tmp_path: Path) -> None:
    every = {"policies": tuple(sweeps.EFFICIENCY), "batches": (1, 4)}
    folder = sweeps.make(tmp_path / "many", slots=(4, 8, 12), **every)
    figure = registry.get("throughput_vs_capacity")()
    with drawn(figure, figure.prepare(folder)) as sheet:
        sheet.canvas.draw()
        texts = [t for t in sheet.axes[0].texts if "batch size" in t.get_text()]
        boxes = sorted((Text.get_window_extent(t) for t in texts), key=lambda box: box.y0)
    assert len(boxes) == 12
    assert all(a.y1 <= b.y0 + 1 for a, b in pairwise(boxes))


def test_lines_that_end_before_a_gap_are_named_in_the_order_of_their_ends(sweep: Path) -> None:
    figure = registry.get("throughput_vs_capacity")()
    with drawn(figure, figure.prepare(sweep)) as sheet:
        axes = sheet.axes[0]
        named = [text.get_text() for text in in_legend(axes)]
        gap = next(text for text in axes.texts if text.get_text() == "out of memory")
    assert named == ["min (knows the future)", "lfu", "lru", "lifo"]
    assert gap.get_verticalalignment() == "top"
    assert gap.get_position()[1] > 0.9


def test_a_single_point_is_not_cut_off(tmp_path: Path) -> None:
    """With an interval so short that the axis would span nothing else."""
    folder = sweeps.make(tmp_path / "one", slots=(4,), policies=("lru",))
    figure = registry.get("throughput_vs_capacity")()
    made = figure.prepare(folder)
    for side, factor in (("low", 0.9999), ("high", 1.0001)):
        column = "output_throughput_tokens_per_s"
        made[f"{side}_{column}"] = factor * made[column]
    with drawn(figure, made) as sheet:
        (axes,) = sheet.axes
        assert axes.get_ylim()[1] >= 1.015 * np.asarray(axes.lines[0].get_ydata(), float).max()


def test_of_many_without_memory_those_that_ran_are_named() -> None:
    from moesim.report.sweep.capacity import gap_text

    names = ["lru", "lfu", "arc", "stream"]
    here = pd.DataFrame({"series": names, "status": ["out_of_memory"] * 3 + ["ok"]})
    assert gap_text(here) == "out of memory: all but stream"


def test_memory_has_a_look_a_series_and_lists_what_did_not_fit(sweep: Path) -> None:
    figure = registry.get("throughput_vs_memory")()
    made = figure.prepare(sweep)
    assert set(made["status"]) == {"ok", "out_of_memory"}
    assert not made.loc[made["status"] != "ok", "pareto"].any()
    with drawn(figure, made) as sheet:
        axes = sheet.axes[0]
        named = {text.get_text() for text in in_legend(axes)}
        below = next(t.get_text() for t in axes.texts if t.get_text().startswith("Out of memory"))
        looks = [(o.get_marker(), o.get_color()) for o in axes.lines if o.get_label() in named]
    assert named == {"lru", "lfu", "lifo", "min"}
    assert len(set(looks)) == 4
    assert "lru, lfu, lifo, min: 16 slots/layer (" in below


def test_every_category_has_a_face_and_no_two_of_one_stack_share_it() -> None:
    from moesim.report.drawing.style import face
    from moesim.results import TIME_SHARES
    from moesim.results.result import MEMORY_CATEGORIES

    for stack in (TIME_SHARES, MEMORY_CATEGORIES):
        assert len({face(category) for category in stack}) == len(stack)


def test_the_capacity_says_what_the_driver_takes() -> None:
    from moesim.report.figures.memory_over_time import capacity_words, driver_bytes

    left = int(7.5 * 2**30)
    assert driver_bytes("rtx-4060-8gb", left) == 2**29
    assert np.isnan(driver_bytes("rtx-4060-8gb", left - 1))
    assert np.isnan(driver_bytes("no such card", left))
    assert capacity_words(pd.DataFrame({"driver_bytes": [2**29]})).endswith("the driver's 0.5 GiB)")


def test_prompts_among_the_tokens_count_in_a_figure() -> None:
    from moesim.report.sweep.series import throughputs

    points = pd.DataFrame(
        {
            "output_throughput": [0.0, 10.0], "total_token_throughput": [50.0, 10.0],
            "tokens": [100, 20], "duration_ms": [2000.0, 2000.0],
        }
    )  # fmt: skip
    assert throughputs(points)["processed_throughput_tokens_per_s"].tolist() == [50.0, 10.0]


def test_the_front_has_the_points_that_nothing_beats() -> None:
    cost = pd.Series([1.0, 2, 2, 3, 3])
    gain = pd.Series([5.0, 9, 4, 9, 12])
    assert pareto(cost, gain).tolist() == [True, True, False, False, True]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=12))
def test_every_point_is_matched_by_one_of_the_front(points: list[tuple[int, int]]) -> None:
    cost = pd.Series([float(c) for c, _ in points])
    gain = pd.Series([float(g) for _, g in points])
    front = pareto(cost, gain)
    assert front.any()
    for c, g in points:
        assert ((cost[front] <= c) & (gain[front] >= g)).any()


@given(st.lists(st.floats(-0.5, 1.5), min_size=1, max_size=12))
def test_spread_keeps_order_and_distance(wanted: list[float]) -> None:
    places = spread(wanted, 0.08, 0, 1)
    order = np.argsort(wanted, kind="stable")
    assert (np.diff(places[order]) >= 0.08 - 1e-9).all()
    assert places.max() <= 1
    assert places.min() >= -1e-9


def test_memory_keeps_its_peak_when_thinned(sweep: Path) -> None:
    made = table("memory_over_time", sweep)
    whole = sweeps.memory(sweeps.summary(12, "min", 1))
    categories = [c for c in made.columns if c.endswith("_bytes") and c != "capacity_bytes"]
    assert len(made) <= MOST_INSTANTS
    assert made[categories].sum(axis=1).max() == whole.iloc[:, 1:8].sum(axis=1).max()
    assert "masks_bytes" not in made.columns
    assert set(made["run"]) == {"best point, 12 slots/layer, lfu"}


def test_the_breakdown_has_the_shares_of_the_summary(sweep: Path) -> None:
    made = table("time_breakdown", sweep)
    assert len(made) == 12
    expected = sweeps.summary(4, "lru", 1)["time_share"]
    row = made[made["point"] == "4 slots/layer, lru"].iloc[0]
    assert row["waiting_for_weights_share"] == expected["waiting_for_weights"]


def test_a_run_gets_the_figures_that_apply_to_it(tmp_path: Path) -> None:
    run = sweeps.make_run(tmp_path / "run")
    assert {path.stem for path in plot(run)} == {"memory_over_time", "time_breakdown"}


def test_the_experiments_figures_are_drawn_and_no_others(tmp_path: Path) -> None:
    folder = sweeps.make(tmp_path / "s", experiment={"figures": ["throughput_vs_memory"]})
    written = plot(folder)
    assert [path.name for path in written] == [
        f"throughput_vs_memory.{suffix}" for suffix in ("csv", "png", "svg")
    ]
    assert all(path.stat().st_size > 500 for path in written)


def test_a_run_of_a_file_with_a_sweep_gets_those_that_apply(tmp_path: Path) -> None:
    named = ["throughput_vs_capacity", "memory_over_time"]
    run = sweeps.make_run(tmp_path / "run", figures=named)
    assert {path.stem for path in plot(run)} == {"memory_over_time"}
    only = sweeps.make_run(tmp_path / "only", figures=named[:1])
    assert {path.stem for path in plot(only)} == {"memory_over_time", "time_breakdown"}


@pytest.fixture(scope="module")
def plotted(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The files of all figures of the sweep; not to be written."""
    return plot(sweep, out=tmp_path_factory.mktemp("figures"))


def test_a_figure_is_drawn_from_the_table_beside_it(plotted: list[Path], tmp_path: Path) -> None:
    for csv in [path for path in plotted if path.suffix == ".csv"]:
        figure = registry.get(csv.stem)()
        again = tmp_path / "again.svg"
        with drawn(figure, pd.read_csv(csv, keep_default_na=True)) as sheet:
            sheet.savefig(again, metadata={"Date": None, "Creator": "moesim"})
        assert again.read_bytes() == csv.with_suffix(".svg").read_bytes()


def test_the_same_result_gives_the_same_svg(
    sweep: Path, plotted: list[Path], tmp_path: Path
) -> None:
    for a, b in zip(plotted, plot(sweep, out=tmp_path), strict=True):
        assert a.read_bytes() == b.read_bytes()


def test_an_asked_figure_that_does_not_apply_says_what_it_needs(tmp_path: Path) -> None:
    run = sweeps.make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"it needs a sweep over experts\.capacity"):
        plot(run, ["throughput_vs_capacity"])
    with pytest.raises(InputError, match="did you mean 'time_breakdown'"):
        plot(run, ["time_breakdwon"])


def test_a_folder_without_a_result_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="neither a run nor a sweep"):
        plot(tmp_path)


def test_the_sweeps_in_a_folder_are_named(tmp_path: Path) -> None:
    """As 'moesim advise' leaves them."""
    for name in ("upgrades", "choices"):
        sweep = tmp_path / name / "sweep.json"
        sweep.parent.mkdir()
        sweep.write_text("{}")
    with pytest.raises(InputError, match=rf"in it: {tmp_path}/choices, {tmp_path}/upgrades"):
        plot(tmp_path)


def test_prefill_alone_is_measured_by_processed_tokens() -> None:
    from moesim.sweep.speeds import throughput

    points = pd.DataFrame({"output_throughput": [0.0], "tokens": [500], "duration_ms": [250.0]})
    made = throughput(points)
    assert made.name == "processed_throughput_tokens_per_s"
    assert made.tolist() == [2000.0]


def test_a_figure_says_which_number_no_point_has(tmp_path: Path) -> None:
    folder = sweeps.make(tmp_path / "s")
    with pytest.raises(InputError, match="no point has a 'cost_usd_per_million_output_tokens'"):
        plot(folder, ["throughput_vs_cost"])


def test_an_out_of_memory_run_has_no_breakdown(tmp_path: Path) -> None:
    run = write_result(factory.result("out_of_memory"), tmp_path / "run")
    with pytest.raises(InputError, match="no point of it ran to its end"):
        plot(run, ["time_breakdown"])


@pytest.mark.parametrize(("slots", "last"), [(range(4, 16), 45), (range(15, 3, -1), 39)])
def test_of_many_points_the_breakdown_shows_the_first_and_the_best(
    tmp_path: Path, slots: range, last: int
) -> None:
    """The best is 'lru' with most slots and requests; 'min' is out of reach."""
    policies = ("lru", "min")
    folder = sweeps.make(tmp_path / "s", slots=tuple(slots), policies=policies, batches=(1, 2))
    figure = registry.get("time_breakdown")()
    table = figure.prepare(folder)
    assert (len(table), set(table["points"])) == (40, {48})
    assert table["point"].tolist()[-1] == read_sweep(folder).labels()[last]
    with drawn(figure, table) as sheet:
        assert "40 of 48 points" in sheet.axes[0].get_title(loc="left")


def test_a_cause_too_small_to_see_is_not_in_the_legend(tmp_path: Path) -> None:
    shares = {"experts": 0.6, "waiting_for_gpus": 0.3999, "idle": 0.0001}
    run = sweeps.make_run(tmp_path / "run", time_share=shares)
    figure = registry.get("time_breakdown")()
    with drawn(figure, figure.prepare(run)) as sheet:
        legend = sheet.axes[0].get_legend()
        assert legend is not None
        assert [text.get_text() for text in legend.get_texts()] == ["experts", "waiting for GPUs"]


@pytest.mark.parametrize("kind", ["throughput_vs_capacity", "throughput_vs_memory"])
def test_policies_as_mappings_look_as_policies_by_their_kind(
    kind: str, sweep: Path, tmp_path: Path
) -> None:
    points = [
        (
            {
                "experts.capacity": axes["experts.capacity"],
                "experts.policy": {"kind": axes["experts.policy.kind"]},
            },
            experiment,
        )
        for axes, experiment in sweeps.capacity_points()
    ]
    run_sweep({"name": "made"}, points, tmp_path / "s", evaluate=sweeps.evaluate)
    mapped, plain = table(kind, tmp_path / "s"), table(kind, sweep)
    assert set(plain["policy"]) == {"lru", "lfu", "lifo", "min"}
    pd.testing.assert_frame_equal(mapped, plain)


def test_what_did_not_fit_is_a_bar_against_the_capacity(tmp_path: Path) -> None:
    made = sweeps.summary(16, "lru", 1)
    needed = sweeps.memory(made, instants=1).assign(capacity_bytes=6 * sweeps.GB)
    run = write_result(Result(made, {"name": "stale"}, memory=needed), tmp_path / "run")
    figure = registry.get("memory_over_time")()
    with drawn(figure, figure.prepare(run)) as sheet:
        (axes,) = sheet.axes
        tops = [area.get_datalim(axes.transData).y1 for area in axes.collections]
        (line,) = axes.lines
        named = [text.get_text() for text in axes.texts]
        assert axes.get_title(loc="left") == "Memory needed, too much"
        assert not axes.get_xlabel()
        assert not list(axes.get_xticks())
    total = sum(made["memory_bytes"].values()) + 3_000_000  # sweeps.memory's activations
    assert max(tops) == pytest.approx((total - made["memory_bytes"]["kv_cache"]) / 2**30, rel=0.01)
    assert np.asarray(line.get_ydata())[0] == pytest.approx(6 * sweeps.GB / 2**30)
    assert f"weights {1.8 * sweeps.GB / 2**30:.2f} GiB" in named


def test_of_many_series_the_front_is_named_without_leaders(tmp_path: Path) -> None:
    """A leader would run through other points."""
    every = {"policies": tuple(sweeps.EFFICIENCY), "batches": (1, 4)}
    folder = sweeps.make(tmp_path / "many", slots=(4, 8, 12), **every)
    figure = registry.get("throughput_vs_memory")()
    made = figure.prepare(folder)
    with drawn(figure, made) as sheet:
        (axes,) = sheet.axes
        named = [text.get_text() for text in in_legend(axes)]
        assert not [text for text in axes.texts if getattr(text, "arrow_patch", None)]
        looks = {(o.get_marker(), o.get_color()) for o in axes.lines if o.get_label() in named}
        shown = axes.get_legend()
        assert shown is not None
        title = shown.get_title().get_text()
    front = made[made["pareto"]]
    names = front.sort_values("peak_memory_bytes", ascending=False)["point"]
    alike = title.removeprefix("all: ")
    assert len(alike) > 0
    assert [f"{own}, {alike}" for own in named] == list(names)
    assert len(looks) == len(front) == 3


def test_each_model_has_a_front_of_its_own(tmp_path: Path) -> None:
    """A model in two formats is one; the second is slower at each size, and on no front of all."""
    points = [
        ({"model": model, **axes}, {**made, "b": batch})
        for model, batch in (("a@q8_0", 4), ("a@q4_k_m", 2), ("b", 1))
        for axes, made in sweeps.capacity_points((4, 8), ("lru",))
    ]
    run_sweep({"name": "made", "model": "a"}, points, tmp_path, evaluate=sweeps.evaluate)
    figure = registry.get("throughput_vs_memory")()
    made = figure.prepare(tmp_path)
    assert made.groupby("model")["pareto"].sum().to_dict() == {"a": 2, "b": 2}
    with drawn(figure, made) as sheet:
        (axes,) = sheet.axes
        assert "the Pareto front of each model" in axes.get_title(loc="left")
        stairs = [line for line in axes.lines if line.get_drawstyle() == "steps-post"]
        assert len(stairs) == 2


def unlabelled(*_: object) -> None:
    raise KeyError("misses")


@pytest.mark.parametrize(
    ("function", "answer", "what"),
    [
        ("prepare", lambda *_: None, "gives NoneType, not a DataFrame"),
        ("prepare", unlabelled, r"raises KeyError: 'misses' \(.*\.py:\d+\)"),
        ("draw", unlabelled, r"raises KeyError: 'misses' \(.*\.py:\d+\)"),
    ],
)
def test_what_a_figure_gives_or_raises_names_it(
    monkeypatch: pytest.MonkeyPatch, sweep: Path, function: str, answer: Any, what: str
) -> None:
    monkeypatch.setattr(registry.get("throughput_vs_capacity"), function, answer)
    said = f"^figures: 'throughput_vs_capacity' {what}"
    with pytest.raises(InputError, match=said):
        plot(sweep, ["throughput_vs_capacity"], formats=["svg"])
    with pytest.raises(InputError, match=said):
        read_sweep(sweep).figure("throughput_vs_capacity")


def test_a_damaged_advice_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "advice.json").write_text('{"model": "a", "choices": [{"miss": 3}]}')
    with pytest.raises(InputError, match=r"advice\.json: choices\.0\.miss: .*3"):
        plot(tmp_path)
