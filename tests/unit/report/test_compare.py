"""Two results side by side."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.metrics.price_interval import TIMED
from moesim.report.comparison.sides import _speeds, compare
from moesim.report.comparison.tables import rendered, shown_numbers
from moesim.report.page.of_comparison import page_of_comparison
from moesim.report.page.render import html
from moesim.results import write_result
from moesim.sweep.speeds import COST, GOOD, GOOD_COST
from tests.unit.report import sweeps
from tests.unit.results import factory


def written(
    folder: Path, experiment: dict[str, Any], *, sha256: str = "1" * 64, **changes: Any
) -> Path:
    result = factory.result(**changes)
    inputs = {"trace": {"path": "a.parquet", "sha256": sha256}}
    provenance = {**result.provenance, "inputs": inputs}
    plain = {"name": folder.name, "trace": "a.parquet", "experts": experiment}
    return write_result(replace(result, experiment=plain, provenance=provenance), folder)


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Path, Path]:
    """Two runs: another policy and one more key, half the speed, another share of time."""
    share = {"attention": 0.2, "experts": 0.3, "waiting_for_weights": 0.5}
    one = written(tmp_path / "one", {"policy": {"kind": "lru"}}, time_share=share)
    other = {"attention": 0.1, "experts": 0.15, "waiting_for_weights": 0.75, "idle": 0.0}
    changes: dict[str, Any] = {
        "output_throughput": 250.0,
        "misses": 100,
        "barrier_ms": 3.0,
        "time_share": other,
    }
    two = written(tmp_path / "two", {"policy": {"kind": "min"}, "extra": 5}, **changes)
    return one, two


def rows(table: pd.DataFrame) -> dict[str, tuple[Any, ...]]:
    return {row[0]: tuple(row[1:]) for row in table.itertuples(index=False)}


def test_what_differs_between_two_runs(pair: tuple[Path, Path]) -> None:
    found = compare(*pair)
    assert rows(found["configuration"]) == {
        "experts.policy.kind": ("lru", "min"),
        "experts.extra": ("nothing", 5),
    }
    numbers = rows(found["results"])
    assert numbers["output_throughput"] == (500.0, 250.0, 0.5)
    assert numbers["misses"] == (40, 100, 2.5)
    assert numbers["barrier_ms"][:2] == (0.0, 3.0)
    assert pd.isna(numbers["barrier_ms"][2])
    assert set(numbers) == {"output_throughput", "misses", "barrier_ms"}
    shares = rows(found["time_share"])
    assert set(shares) == {"attention", "experts", "waiting_for_weights"}
    assert shares["waiting_for_weights"] == pytest.approx((0.5, 0.75, 25.0))
    assert sum(points for *_, points in shares.values()) == pytest.approx(0)
    assert found["price_share"].empty


def test_where_the_time_of_a_token_went(pair: tuple[Path, Path]) -> None:
    time = compare(*pair)["time_per_token"]
    assert time["key"][0] == "waiting_for_weights"
    assert time["first"].sum() == pytest.approx(80 / 40)
    assert rows(time)["waiting_for_weights"] == pytest.approx((1.0, 1.5, 0.5))
    assert list(time["difference"]) == pytest.approx(list(time["second"] - time["first"]))


def test_the_page_says_what_changed_and_why(
    pair: tuple[Path, Path], sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = page_of_comparison(("one", "two"), compare(*pair))
    assert page.verdict[0] == "The second is x 0.500 as fast: 250 tokens/s, not 500."
    assert "of that waiting for weights +0.5 ms, experts -0.3 ms" in page.verdict[1]
    assert page.verdict[-1] == "Changed: policy lru to min, extra nothing to 5."
    assert "<script" not in html(page)
    same = page_of_comparison(("one", "one"), compare(pair[0], pair[0]))
    assert (same.verdict[0], same.verdict[-1]) == ("Both are equally fast.", "Nothing was changed.")
    out = tmp_path / "why.html"
    assert main(["compare", str(sweep), str(sweep), "-o", str(out)]) == 0
    assert capsys.readouterr().out.endswith(f"page:   {out}\n")
    text = out.read_text(encoding="utf-8")
    assert "Of 12 points that ran in both the second is faster at 0, slower at 0" in text
    assert 'id="points"' in text
    assert main(["compare", *map(str, pair), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert {"key": "misses", "first": 40, "second": 100, "ratio": 2.5} in told["results"]
    assert main(["compare", *map(str, pair), "-o", str(tmp_path / "why.txt")]) == 2
    assert "name a file that ends in .html" in capsys.readouterr().err


def test_a_result_differs_from_itself_in_nothing(pair: tuple[Path, Path]) -> None:
    found = compare(pair[0], pair[0])
    assert found["configuration"].empty
    assert found["results"].empty
    assert not found["time_share"]["points"].any()


def test_a_changed_file_of_the_same_name_is_told(tmp_path: Path) -> None:
    one, two = (written(tmp_path / n, {}, sha256=n * 64) for n in ("1", "2"))
    assert rows(compare(one, two)["configuration"]) == {"content of trace": ("1" * 12, "2" * 12)}


def test_a_run_that_did_not_fit(pair: tuple[Path, Path], tmp_path: Path) -> None:
    full = written(tmp_path / "full", {"policy": {"kind": "lru"}}, status="out_of_memory")
    found = compare(pair[0], full)
    numbers = rows(found["results"])
    assert numbers["status"][:2] == ("ok", "out_of_memory")
    assert numbers["output_throughput"][:2] == (500.0, None)
    assert found["time_share"].empty


def test_sweeps_are_paired_by_their_axes(sweep: Path, tmp_path: Path) -> None:
    other = sweeps.make(tmp_path / "other", slots=(8, 12, 20), policies=("lru",))
    found = compare(sweep, other)
    points = found["points"]
    assert sorted(points["experts.capacity"]) == ["12 slots/layer", "8 slots/layer"]
    assert points["ratio"].tolist() == [1.0, 1.0]
    assert found["alone"].iloc[0].tolist() == ["points without a partner", 14, 1]


def test_points_that_decode_nothing_are_compared_by_what_they_process(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sweeps of prompts had speeds of 0 and no ratio."""
    from rich.console import Console

    points = compare(sweep, sweep)["points"]
    ran = points["output_throughput_first"].notna()
    prompts = points.assign(
        output_throughput_first=0.0,
        output_throughput_second=0.0,
        total_token_throughput_first=200.0,
        total_token_throughput_second=500.0,
    )
    assert set(_speeds(prompts)) == {2.5}
    assert set(_speeds(points)[ran]) == {1.0}
    one = prompts.head(1).assign(ratio=_speeds)
    Console(width=100).print(*rendered({"points": one}))
    shown = capsys.readouterr().out
    assert "(none decoded: processed)" in shown
    for cell in ("200", "500", "x 2.500"):
        assert cell in shown


def test_points_of_long_names_and_many_numbers_are_read_at_100_columns(
    sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Names were cut inside their words, into lines of eight characters."""
    from rich.console import Console

    points = compare(sweep, sweep)["points"].head(1)
    named = points.assign(
        **dict.fromkeys(("skipped_share_first", "skipped_gate_weight_share_first"), 0.081),
        **dict.fromkeys(("skipped_share_second", "skipped_gate_weight_share_second"), 0.0),
        **{"experts.policy.kind": "a_policy_of_mine"},
        ratio_low=0.911,
        ratio_high=1.234,
    )
    Console(width=100).print(*rendered({"points": named}))
    words = {word.strip(",") for word in capsys.readouterr().out.split()}
    assert {"slots/layer", "a_policy_of_mine", "0.911-1.234", "8.1"} <= words


def test_sweeps_at_other_prices_or_promises_are_told_apart_by_them(
    sweep: Path,
) -> None:
    """Dollars and shares of good requests stand where they differ; of good tokens before all."""
    points = compare(sweep, sweep)["points"]
    cost, good, good_cost = (
        {f"{name}_first": first, f"{name}_second": second}
        for name, first, second in ((COST, 0.5, 0.4), (GOOD, 1.0, 0.5), (GOOD_COST, 0.6, 0.7))
    )
    assert set(shown_numbers(points)) == {"output_throughput", "hit_ratio_per_expert"}
    assert set(shown_numbers(points.assign(**cost))) == {"output_throughput", COST}
    every = points.assign(**cost, **good, **good_cost)
    assert set(shown_numbers(every)) == {"output_throughput", GOOD, GOOD_COST}
    alike = every.assign(**{f"{GOOD_COST}_second": 0.6})
    assert set(shown_numbers(alike)) == {"output_throughput", GOOD}
    other = alike.assign(hit_ratio_per_expert_second=0.1)
    assert "hit_ratio_per_expert" in shown_numbers(other)


def test_the_command(
    pair: tuple[Path, Path], sweep: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["compare", *map(str, pair)]) == 0
    shown = capsys.readouterr().out
    for text in ("experts.policy.kind", "x 0.500", "waiting for weights", "+25.0"):
        assert text in shown
    assert main(["compare", str(sweep), str(sweep)]) == 0
    assert "points without a partner: 0 of the first, 0 of the second" in capsys.readouterr().out


def test_mistakes(
    pair: tuple[Path, Path], sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for folders, told in (
        ((pair[0], tmp_path / "nix"), "nix: no such folder"),
        ((pair[0], tmp_path), "is missing; a result folder"),
        ((sweep, pair[0]), "is a sweep"),
        ((pair[0], sweep), "is a sweep"),
        ((sweep, tmp_path / "nix"), "nix: no such folder"),
    ):
        assert main(["compare", *map(str, folders)]) == 2
        error = capsys.readouterr().err
        assert told in error
        assert len(error.splitlines()) == 1


def test_sweeps_without_a_common_point(sweep: Path, tmp_path: Path) -> None:
    other = sweeps.make(tmp_path / "other", slots=(20,), policies=("lru",))
    with pytest.raises(InputError, match="no point has the axes' values"):
        compare(sweep, other)


def test_runs_whose_requests_come_by_the_clock_are_told_by_their_times(
    pair: tuple[Path, Path],
) -> None:
    """What arrives sets the throughput of a service that keeps up."""
    found = compare(*pair)
    timed = pd.DataFrame([{"key": "output_throughput", "verdict": TIMED}])
    timed = timed.reindex(columns=found["differences"].columns.union(["key", "verdict"]))
    tpot = pd.DataFrame([{"key": "mean_tpot_ms", "first": 5.4, "second": 5.8, "ratio": 1.074}])
    results = pd.concat([found["results"], tpot])
    (said, *_) = page_of_comparison(
        ("one", "two"), {**found, "differences": timed, "results": results}
    ).verdict
    assert (
        said == "Requests come by the clock: mean TPOT 5.800 ms, not 5.400; 250 tokens/s, not 500."
    )
    grows = pd.DataFrame([{"key": "saturated", "first": False, "second": True}])
    full = {**found, "differences": timed, "results": pd.concat([results, grows])}
    assert page_of_comparison(("one", "two"), full).verdict[0].startswith("The second is x 0.500")
