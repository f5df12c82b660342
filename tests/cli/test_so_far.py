"""While a sweep goes on: its best point so far, and its page."""

from __future__ import annotations

from pathlib import Path

import pytest

from moesim.cli import so_far
from moesim.cli.main import main
from moesim.cli.so_far import Seldom, SoFar
from moesim.report.sweep.best import best_so_far
from moesim.sweep import run_sweep
from moesim.sweep.found import read_finished, read_sweep
from tests.unit.report.sweeps import capacity_points, evaluate


def test_the_best_so_far_is_that_of_what_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(so_far, "LOOK_S", 0.0)
    monkeypatch.setattr(so_far, "PAGE_S", 0.0)
    monkeypatch.setattr(so_far, "SHARE", 0.0)
    folder, looked = tmp_path / "sweep", {}
    look = SoFar(folder, watch=True)

    def progress(finished: int, total: int) -> None:
        told = look(finished, total)
        if 0 < finished < total:
            known = read_finished(folder)
            assert len(known.table) == finished
            assert told == best_so_far(known)
            looked[finished] = told
            page = (folder / "report.html").read_text(encoding="utf-8")
            assert f"The sweep goes on: {finished} of {total} points are finished." in page
            assert '<meta http-equiv="refresh"' in page

    run_sweep({"name": "made"}, capacity_points(), folder, evaluate=evaluate, progress=progress)
    assert looked[1].startswith("best: ")
    whole = read_sweep(folder)
    assert best_so_far(whole).startswith("best: 12 slots/layer, lfu, ")
    assert best_so_far(read_finished(folder)) == best_so_far(whole)


def test_looking_takes_a_small_part_of_the_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, calls = [0.0], []
    monkeypatch.setattr("moesim.cli.so_far.time.monotonic", lambda: clock[0])

    def slow() -> None:
        calls.append(clock[0])
        clock[0] += 3

    look = Seldom(slow, 10.0)
    for _ in range(100):
        look()
        clock[0] += 1
    assert calls[:2] == [0.0, 60.0]


def test_watching_ends_with_the_whole_page(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(
        "name: tiny\nmodel: small-moe\nhardware: rtx-4060-8gb\ntrace: small-moe\n"
        "workload: {requests: 2}\nexperts: {capacity: 2 slots/layer}\n"
        "sweep: {experts.capacity: [2 slots/layer, 4 slots/layer]}\n"
    )
    out = tmp_path / "out"
    assert main(["sweep", str(file), "-o", str(out), "--watch"]) == 0
    assert f"page:   {out}/report.html" in capsys.readouterr().out
    page = (out / "report.html").read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in page
    assert "The fastest of 2 points that ran" in page
