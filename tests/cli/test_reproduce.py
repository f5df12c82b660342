"""``moesim reproduce``: plain words for mistakes; the study itself is too long for a test."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from moesim.cli.main import main


def test_the_help_names_the_study(capsys):
    assert main(["reproduce", "--help"]) == 0
    assert "reference-study" in capsys.readouterr().out


def test_systems_are_listed_with_their_questions(capsys):
    assert main(["reproduce", "--list"]) == 0
    assert "pruning" in capsys.readouterr().out


def test_a_system_is_run_and_judged(tmp_path, capsys):
    out = tmp_path / "pruning"
    assert main(["reproduce", "pruning", "--quick", "--out", str(out), "--report"]) == 0
    assert "published and simulated" in capsys.readouterr().out
    names = {"points.csv", "laws.csv", "published.csv", "figures"}
    names |= {f"report.{suffix}" for suffix in ("md", "json", "html")}
    assert {path.name for path in out.iterdir()} == names


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["pruning"], "--out: is missing; give --out results/pruning"),
        (["prunning", "--out", "x"], "'prunning' is neither a system nor the file of its record"),
        (["prunning"], "'prunning' is neither a system nor the file of its record"),
        (["pruning", "--out", "x", "--set", "modle=x"], "modle"),
    ],
)
def test_a_wrong_word_is_one_line(words, told, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["reproduce", *words]) == 2
    said = capsys.readouterr().err
    assert told in said
    assert len(said.splitlines()) == 1


@pytest.mark.parametrize(
    ("setting", "told"),
    [("lunch_us=3", "is no assumption of the study"), ("pcie=slot", "must be one of pair, gpu")],
)
def test_a_wrong_assumption_is_one_line(setting, told, tmp_path, capsys):
    out = tmp_path / "study"
    assert main(["reproduce", "reference-study", "--out", str(out), "--set", setting]) == 2
    said = capsys.readouterr()
    assert told in said.err
    assert len(said.err.splitlines()) == 1
    assert not out.exists()


def test_a_folder_that_holds_something_stays(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine", encoding="utf-8")
    assert main(["reproduce", "reference-study", "--out", str(tmp_path)]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("", encoding="utf-8")
    out = tmp_path / "file" / "study"
    assert main(["reproduce", "reference-study", "--out", str(out)]) == 2
    (line,) = capsys.readouterr().err.strip().splitlines()
    assert line.startswith(f"--out: '{out}' cannot be written")
    assert main(["reproduce", "pruning", "--out", str(out)]) == 2
    assert capsys.readouterr().err.strip() == line  # and nothing was run before


def wait_until(holds: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 60
    while not holds() and time.monotonic() < deadline:
        time.sleep(0.02)
    return holds()


def ended(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return True
    return False


def test_ctrl_c_leaves_no_process(tmp_path):
    """Two of them, as ``timeout`` sends."""
    out = tmp_path / "study"
    command = [sys.executable, "-m", "moesim.cli.main", "reproduce", "reference-study", "-j", "2"]
    with (tmp_path / "said").open("w") as said:
        process = subprocess.Popen(
            [*command, "--out", str(out)], stderr=said, start_new_session=True
        )
    try:
        assert wait_until((out / "traces").is_dir)
        time.sleep(0.5)  # until the processes start, which is where more can go wrong
        process.send_signal(signal.SIGINT)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(30) == 130
        assert wait_until(lambda: ended(process.pid))
    finally:
        if not ended(process.pid):
            os.killpg(process.pid, signal.SIGKILL)
    (line,) = (tmp_path / "said").read_text().splitlines()
    assert line == f"stopped; a study starts anew: remove {out}, or name another folder"
