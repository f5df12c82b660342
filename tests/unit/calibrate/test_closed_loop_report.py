"""What the closed loop says: arithmetic, tables, figure and command."""

from __future__ import annotations

import io

import pandas as pd
import pytest
from rich.console import Console

pytest.importorskip("torch")

from moesim.calibrate.closed_loop.compare import by_layer, comparison, parts
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.report.judged.closed_loop import draw, tables, verdict
from tests.unit.calibrate.closed_loop_parts import (
    recording,
    replayed,
    write_config,
)

ROUND = [2e6, 1e6, 0, 3e6, 4e6, 0, 1e6]
"""Nanoseconds by part: 11 ms, of which attention and head 3."""


@pytest.fixture
def found():
    busy = [10 * part for part in ROUND]
    recordings = [recording([ROUND, busy, ROUND], batch=2)]
    simulated = [replayed(12_100_000, **{"attention, head": 4_100_000, "experts": 8_000_000})]
    return recordings, simulated


def test_a_busy_round_does_not_count(found):
    row = comparison(*found).iloc[0]
    assert row["measured_ms"] == pytest.approx(11 / 2)
    assert row["simulated_ms"] == pytest.approx(12.1 / 2)
    assert row["error_percent"] == pytest.approx(10)
    assert row["wall_ms"] == pytest.approx(11 / 2)
    assert (row["measured_hits"], row["measured_misses"], row["slots"]) == (1, 1, 4)


def test_noise_is_how_far_two_halves_of_the_rounds_are_apart(found):
    assert comparison(*found).loc[0, "noise_percent"] == pytest.approx(100 * 9 / 5.5)


def test_parts_add_up(found):
    table, whole = parts(*found), comparison(*found)
    assert table["measured_ms"].sum() == pytest.approx(whole["measured_ms"].sum())
    assert table["simulated_ms"].sum() == pytest.approx(whole["simulated_ms"].sum())
    assert table.set_index("part").loc["attention, head", "measured_ms"] == pytest.approx(1.5)


def test_layers_leave_the_head_out(found):
    row = by_layer(*found).iloc[0]
    assert (row["measured_ms"], row["simulated_ms"]) == (pytest.approx(5), pytest.approx(10.1 / 2))


@pytest.mark.parametrize("wrong", [{"hits": ((2,),)}, {"hits": ((1,),), "activations": ((3,),)}])
def test_one_other_decision_is_no_success(found, wrong):
    recordings, simulated = found
    assert comparison(recordings, simulated)["decisions_equal"].all()
    compared = comparison(recordings, [replayed(12_100_000, **wrong)])
    assert not compared["decisions_equal"].any()
    assert any("DIFFERENT" in line for line in verdict(compared, "cpu"))


def test_tables_and_verdict(found):
    out = io.StringIO()
    console = Console(file=out, width=80)
    for table in tables(comparison(*found), parts(*found)):
        console.print(table)
    text = out.getvalue()
    assert "5.500" in text
    assert "+10.0" in text
    assert "1.500" in text
    assert "2.050" in text
    lines = list(verdict(comparison(*found), "cpu"))
    assert "equal in every step and layer" in lines[0]
    assert "says nothing of its accuracy for a GPU" in lines[-1]


def test_the_figure(found, tmp_path):
    compared, by_part = comparison(*found), parts(*found)
    path = draw(compared, by_part, tmp_path / "loop.svg")
    text = path.read_text(encoding="utf-8")
    assert "Time (ms a token)" in text
    assert "+10.0 %" in text
    with pytest.raises(InputError, match=r"\.png"):
        draw(compared, by_part, tmp_path / "loop.txt")


def test_the_command(tmp_path, capsys):
    arguments = ["--model", str(write_config(tmp_path)), "--profile", "rtx-3060-12gb"]
    arguments += ["--slots", "25,100", "--batch", "2", "--tokens", "6", "--out", str(tmp_path)]
    assert main(["calibrate", "validate", *arguments]) == 0
    out = capsys.readouterr().out
    assert "equal in every step and layer" in out
    assert "says nothing of its accuracy for a GPU" in out
    assert (tmp_path / "closed_loop.png").stat().st_size > 0
    table = pd.read_csv(tmp_path / "comparison.csv")
    assert table["slots"].tolist() == [2, 6]
    assert table["measured_misses"].tolist() == table["simulated_misses"].tolist()


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--slots", "25;50", "whole numbers"),
        ("--slots", "0", "from 1 to 100"),
        ("--slots", "101", "from 1 to 100"),
        ("--batch", "-1", "whole numbers"),
        ("--batch", "0", "from 1 to"),
        ("--tokens", "1", "from 2 to"),
        ("--device", "tpu", "cpu, cuda"),
        ("--device", "cuda", "no GPU"),
        ("--model", "gpt-oss-20b", "closed loop"),
        ("--model", "mixtral-8x7b", "smaller model"),
        ("--profile", "h101", "h100-sxm"),
        ("--out", "FILE", "cannot be made"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(option, value, said, tmp_path, capsys):
    (tmp_path / "file").touch()
    arguments = {"--model": str(write_config(tmp_path)), "--profile": "l40s"}
    arguments |= {"--out": str(tmp_path / "out")}
    arguments[option] = str(tmp_path / "file") if value == "FILE" else value
    flat = [word for both in arguments.items() for word in both]
    assert main(["calibrate", "validate", *flat]) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
