"""Pages: one file that asks for nothing, whose texts are texts, and that reads without scripts."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.report.amounts import number
from moesim.report.page import page_of
from moesim.report.page.content import Board, Column, Page
from moesim.report.page.of_advice import board_of as advice_board
from moesim.report.page.parts import waits
from moesim.report.page.render import html
from moesim.results import provenance, write_result
from tests.unit.results import factory

HOSTILE = "</script><img src=x onerror=alert(1)>"


def hostile() -> Page:
    texts = [HOSTILE, "b"]
    columns = [Column(HOSTILE, texts, axis="a"), Column("tokens/s", ["1", "-"], [1.0, None])]
    return Page(
        kind="sweep", title=HOSTILE, setting=HOSTILE, verdict=texts, command=texts,
        board=Board(columns, 0, texts), shares={HOSTILE: 1.0}, ledger=[(HOSTILE, HOSTILE)],
        facts=[(HOSTILE, HOSTILE)], trust=texts, experiment=HOSTILE, made=[(HOSTILE, HOSTILE)],
    )  # fmt: skip


def data_of(text: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    read: dict[str, Any] = json.loads(found.group(1))
    return read


def test_no_text_of_a_result_is_markup() -> None:
    text = html(hostile())
    assert "<img src=x" not in text
    assert text.count("&lt;/script&gt;&lt;img") == 17
    assert data_of(text)["points"] == [{"c0": HOSTILE, "c1": 1.0}, {"c0": "b", "c1": None}]


def test_a_page_asks_for_nothing(sweep: Path, tmp_path: Path) -> None:
    page = moesim.write_report(sweep, tmp_path / "page.html").read_text(encoding="utf-8")
    head = page[: page.index("<style>")]
    assert "default-src 'none'" in head
    marked = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!data:|#)', marked)
    assert "url(" not in marked


def test_the_page_of_a_sweep_has_every_point_without_scripts(sweep: Path) -> None:
    page, table = page_of(sweep), moesim.read_sweep(sweep).table
    assert page.verdict[0].startswith("The fastest of 12 points that ran: 12 slots/layer, lfu, ")
    assert page.verdict[1] == "4 of 16 points did not run: the leaderboard says why."
    text = html(page)
    body = re.search(r"<tbody>(.*?)</tbody>", text, re.DOTALL)
    assert body is not None
    assert body.group(1).count("<tr") == len(table) == 16
    best = re.search(r'<tr data-row="(\d+)" class="best">', text)
    assert best is not None
    assert int(best.group(1)) == (page.board.best if page.board else None)
    assert "out of memory (4 of 16): expert_slots do not fit" in text
    speeds = [point["c2"] for point in page.points if point["c2"] is not None]
    assert speeds == sorted(table["output_throughput"].dropna(), reverse=True)


def far_from_text(board: Board) -> list[tuple[str, str, float | None]]:
    """Cells whose number is not the one that stands there."""
    return [
        (column.heading, text, value)
        for column in board.columns
        if column.values is not None
        for text, value in zip(column.texts, column.values, strict=True)
        if (text in ("", "-")) != (value is None)
        or (value is not None and value != pytest.approx(in_text(text), rel=0.006, abs=0.051))
    ]


def in_text(text: str) -> float:
    return float(text.replace(",", "").removeprefix("x "))


def test_numbers_of_charts_and_ranges_are_in_the_unit_of_the_heading(
    sweep: Path, tmp_path: Path
) -> None:
    page = page_of(sweep)
    assert page.board is not None
    headings = [one.heading for one in page.board.columns]
    assert {"hits %", "peak GiB"} <= set(headings)
    states = [state for *_, state in page.board.rows]
    assert (
        [states[row] for row in page.board.ahead]
        == [state for state in states if "knows the future" in state]
        != []
    )
    assert far_from_text(page.board) == []
    moesim.compare(sweep, sweep, out=tmp_path / "both.html")
    data = data_of((tmp_path / "both.html").read_text(encoding="utf-8"))
    heads = [one["heading"] for one in data["columns"]]
    states = [point[f"c{heads.index('status')}"] for point in data["points"]]
    assert (states.count("ok"), states.count("out of memory")) == (12, 4)
    at = heads.index("hits %, first")
    shown = [point[f"c{at}"] for point in data["points"] if point[f"c{at}"] is not None]
    expected = moesim.read_sweep(sweep).table["hit_ratio_per_expert"].dropna() * 100
    assert shown == pytest.approx(list(expected))


def test_the_numbers_of_an_advice_are_in_the_unit_of_the_heading() -> None:
    choice = {
        "miss": "cpu", "status": "ok", "throughput_tokens_per_s": 12.5, "mean_tpot_ms": 80.0,
        "hit_ratio_per_expert": 0.75,
    }  # fmt: skip
    out = {"miss": "load", "status": "out of memory"}
    board = advice_board({"choices": [choice, out], "best": choice})
    assert far_from_text(board) == []
    assert [one.values for one in board.columns if one.heading == "hits %"] == [[75.0, None]]


def test_the_star_of_an_advice_says_whose_best_it_is() -> None:
    best, other, ahead = (
        {"miss": "cpu", "status": "ok", "throughput_tokens_per_s": speed, "offline": speed == 14.0}
        for speed in (12.0, 13.0, 14.0)
    )
    for choices, expected in (((best, ahead), "the best"), ((best, other), "llama.cpp's best")):
        board = advice_board({"choices": [*choices], "best": best, "engine": "llama.cpp"})
        assert (board.best, board.best_is) == (0, expected)


def test_the_page_of_a_run(tmp_path: Path) -> None:
    run = write_result(factory.result(), tmp_path / "run")
    page = page_of(run)
    assert page.kind == "one run"
    assert page.verdict[0].endswith(".")
    assert dict(page.ledger)["all of it, at its peak"].endswith("GiB")
    assert "<script" not in html(page)


def test_what_limits_a_service_is_that_nothing_is_there_to_compute() -> None:
    summary = {"time_share": {"idle": 0.8, "experts": 0.15, "waiting_for_gpus": 0.05}}
    told = "Limited by: idle (80.0 % of the time), then experts (15.0 % of the time)."
    assert waits(summary) == told
    told = waits(summary | {"completed": 3})
    assert "the arrivals, which come more slowly than they are answered" in told
    assert "for 80.0 % of the time), then experts (15.0 % of the time)." in told
    assert waits({"completed": 3, "time_share": {"idle": 0.0}}) == ""


def test_the_page_of_a_run_says_how_far_its_prices_reach_and_what_is_part_of_what(
    tmp_path: Path,
) -> None:
    small = {"name": "small", "model": "small-moe", "hardware": "rtx-4060-8gb"}
    run = moesim.run(small | {"trace": "small-moe"}, out=tmp_path / "run")
    page = page_of(tmp_path / "run")
    ends = run.summary["price_interval"]["output_throughput"]
    told = f"By the prices' errors: {number(ends['low'])} to {number(ends['high'])} tokens/s"
    assert any(line.startswith(told) for line in page.verdict)
    text = html(page)
    assert '<th scope="row" class="part">  weights</th>' in text
    assert '<th scope="row">peak memory of a GPU</th>' in text


def test_the_command_writes_it_into_the_folder(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    assert main(["report", str(copy)]) == 0
    assert capsys.readouterr().out.strip() == str(copy / "report.html")
    assert (copy / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_what_cannot_be_is_one_line(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", str(sweep), "-o", str(tmp_path / "page.txt")]) == 2
    assert "name a file that ends in .html" in capsys.readouterr().err
    assert main(["report", str(tmp_path)]) == 2
    assert "holds nothing that a page is made of" in capsys.readouterr().err


def test_a_command_is_told_without_where_the_program_lies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["somewhere/bin/moesim", "run", "a.yaml"])
    small = {"name": "small", "model": "small-moe", "hardware": "rtx-4060-8gb"}
    moesim.run(small | {"trace": "small-moe", "workload": {"requests": 2}}, out=tmp_path / "run")
    assert dict(page_of(tmp_path / "run").made)["command"] == "moesim run a.yaml"


def test_a_command_has_the_plugins_that_it_needs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without them the command of somebody's own policy repeats nothing."""
    monkeypatch.setattr("sys.argv", ["somewhere/bin/moesim", "run", "a.yaml"])
    monkeypatch.setenv("MOESIM_PLUGINS", "mine.py")
    typed = provenance({}, seed=1)["command"]
    assert typed == "MOESIM_PLUGINS=mine.py somewhere/bin/moesim run a.yaml"
    made = write_result(
        replace(factory.result(), provenance=provenance({}, seed=1)), tmp_path / "a"
    )
    assert dict(page_of(made).made)["command"] == "MOESIM_PLUGINS=mine.py moesim run a.yaml"


def test_what_no_engine_runs_is_no_command(tmp_path: Path) -> None:
    copied = {
        "name": "copied", "model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "small-moe",
        "software": "llama.cpp", "workload": {"requests": 1},
        "experts": {"capacity": "8 slots/layer"},
    }  # fmt: skip
    moesim.run(copied, out=tmp_path / "run")
    page = page_of(tmp_path / "run")
    assert page.command[0] == ""
    assert "no release of llama.cpp keeps single experts" in page.command[1]
    section = html(page).partition('id="command">')[2].partition("</section>")[0]
    assert "<pre" not in section
    assert page.command[1][:30] in section


def test_a_sweep_that_is_not_finished_says_so_once(
    sweep: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each figure had a line of its own of what the folder lacks for it."""
    copy = shutil.copytree(sweep, tmp_path / "sweep")
    (copy / "points.parquet").unlink()
    assert main(["plot", str(copy)]) == 2
    (told,) = capsys.readouterr().err.splitlines()
    assert told.startswith(f"{copy}: the sweep is not finished; start the same 'moesim sweep'")
    run = write_result(factory.result(), tmp_path / "run")
    with pytest.raises(InputError, match="holds no sweep"):
        moesim.read_sweep(run)
