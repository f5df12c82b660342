from __future__ import annotations

import json
import sys
import types
from collections import defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import factory
import pytest

from moesim.config.errors import InputError
from moesim.report.timeline import ENGINES, parse_steps, write_timeline
from moesim.results import write_result


@pytest.fixture
def trace(tmp_path: Path) -> dict[str, Any]:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    assert write_timeline(run, tmp_path / "t.json", range(1, 3)) == 12
    content: dict[str, Any] = json.loads((tmp_path / "t.json").read_text())
    return content


@pytest.mark.parametrize("name", ["summary.json", "steps.parquet", "experiment.yaml"])
def test_a_run_is_not_written_over_by_its_timeline(tmp_path: Path, name: str) -> None:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    before = (run / name).read_bytes()
    with pytest.raises(InputError, match="is the file that is read"):
        write_timeline(run, run / name)
    assert (run / name).read_bytes() == before
    assert write_timeline(run, run / "timeline.json") > 0


def test_every_event_has_what_the_format_asks_for(trace: dict[str, Any]) -> None:
    for event in trace["traceEvents"]:
        assert event["ph"] in {"X", "M"}
        assert isinstance(event["pid"], int)
        assert isinstance(event["tid"], int)
        if event["ph"] == "X":
            assert event["name"]
            assert event["dur"] >= 0
            assert isinstance(event["ts"], float)


def test_gpus_and_engines_are_named(trace: dict[str, Any]) -> None:
    names = [e for e in trace["traceEvents"] if e["ph"] == "M"]
    gpus = {e["pid"]: e["args"]["name"] for e in names if e["name"] == "process_name"}
    rows = {(e["pid"], e["tid"]): e["args"]["name"] for e in names if e["name"] == "thread_name"}
    assert gpus == {0: "GPU 0", 1: "GPU 1"}
    assert [rows[0, i] for i in range(4)] == [engine.replace("_", " ") for engine in ENGINES]
    used = {(e["pid"], e["tid"]) for e in trace["traceEvents"] if e["ph"] == "X"}
    assert used <= set(rows)


def test_an_engine_never_does_two_things(trace: dict[str, Any]) -> None:
    rows: dict[tuple[int, int], list[tuple[int, int]]] = defaultdict(list)
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            start = round(event["ts"] * 1000)
            rows[event["pid"], event["tid"]].append((start, start + round(event["dur"] * 1000)))
    for spans in rows.values():
        assert all(a[1] <= b[0] for a, b in pairwise(spans))


def test_nanoseconds_survive(trace: dict[str, Any]) -> None:
    starts = {round(e["ts"] * 1000) for e in trace["traceEvents"] if e["ph"] == "X"}
    assert starts == {s * 9_001 + t for s in (1, 2) for t in (0, 1_001, 3_333)}


def test_a_run_without_spans_is_run_again_up_to_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_result(factory.result(), tmp_path / "run")
    calls: list[tuple[Any, dict[str, Any]]] = []

    def again(experiment: Any, **options: Any) -> Any:
        calls.append((experiment, options))
        return factory.result(with_spans=True)

    module = types.ModuleType("moesim.experiment.run")
    module.run = again  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moesim.experiment.run", module)
    write_timeline(run, tmp_path / "t.json", range(3))
    ((experiment, options),) = calls
    assert experiment["name"] == "small"
    assert options == {"overrides": ["records=expert"], "limit_steps": 3}


@pytest.mark.parametrize(
    ("text", "steps"), [("0:20", range(20)), ("5", range(5, 6)), (":3", range(3))]
)
def test_steps_are_parsed(text: str, steps: range) -> None:
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["", "a", "3:3", "5:2", "-1:4", "1:2:3", "3:"])
def test_wrong_steps_are_said(text: str) -> None:
    with pytest.raises(InputError, match="names no steps"):
        parse_steps(text)


def test_steps_beyond_the_run_are_said(tmp_path: Path) -> None:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    with pytest.raises(InputError, match=r"no step in 50:60; its last one is 9"):
        write_timeline(run, tmp_path / "t.json", range(50, 60))


def test_a_run_that_did_not_fit_has_no_timeline(tmp_path: Path) -> None:
    run = write_result(factory.result("out_of_memory"), tmp_path / "run")
    with pytest.raises(InputError, match=r"expert_slots: 9\.0 GB do not fit"):
        write_timeline(run, tmp_path / "t.json")
