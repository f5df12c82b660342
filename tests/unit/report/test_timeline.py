from __future__ import annotations

import json
import os
import sys
import types
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.report.timeline.write import parse_steps, rerun, write_timeline
from moesim.results import write_result
from moesim.testing.timelines import check_timeline
from tests.unit.results import factory


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
    with pytest.raises(InputError, match=r"is the file that is read|ends in \.json"):
        write_timeline(run, run / name)
    assert (run / name).read_bytes() == before
    assert write_timeline(run, run / "timeline.json") > 0


def test_it_keeps_to_the_format(trace: dict[str, Any]) -> None:
    check_timeline(trace)


BROKEN: dict[str, Callable[[list[dict[str, Any]]], Any]] = {
    "begins before": lambda events: of(events, "X")[2].update(ts=9.5),
    "below 0": lambda events: of(events, "X")[0].update(dur=-1),
    "no number": lambda events: of(events, "X")[0].update(ts="0"),
    "keys are missing": lambda events: of(events, "X")[0].pop("cat"),
    "unknown phase": lambda events: of(events, "X")[0].update(ph="B"),
    "track": lambda events: of(events, "X")[0].update(tid=77),
    "named twice": lambda events: events.append(of(events, "M")[0]),
    "one end": lambda events: events.remove(of(events, "f")[0]),
    "binds to no span": lambda events: of(events, "s")[0].update(ts=0.123),
    "not in order": lambda events: events.append(of(events, "C")[0]),
}


def of(events: list[dict[str, Any]], phase: str) -> list[dict[str, Any]]:
    return [event for event in events if event["ph"] == phase]


@pytest.mark.parametrize("said", BROKEN)
def test_what_breaks_the_format_is_said(trace: dict[str, Any], said: str) -> None:
    BROKEN[said](trace["traceEvents"])
    with pytest.raises(AssertionError, match=said):
        check_timeline(trace)


def test_gpus_and_engines_are_named(trace: dict[str, Any]) -> None:
    names = of(trace["traceEvents"], "M")
    processes = [e["args"]["name"] for e in names if e["name"] == "process_name"]
    tracks = {e["tid"]: e["args"]["name"] for e in names if e["name"] == "thread_name"}
    assert processes == ["GPU 0", "GPU 1", "memory of the fullest GPU"]
    assert sorted(tracks.values()) == ["GPU time"] * 2 + ["copies H2D"] * 2


def test_a_name_is_what_is_done_and_the_rest_is_beside_it(trace: dict[str, Any]) -> None:
    spans = of(trace["traceEvents"], "X")
    assert {span["name"] for span in spans} == {"attention", "experts", "copy"}
    experts = {span["args"]["experts"] for span in spans if span["name"] == "experts"}
    assert experts == {"1,4"}
    assert {(span["args"]["step"], span["args"]["layer"]) for span in spans} == {(1, 0), (2, 0)}


def test_an_arrow_goes_from_each_copy_to_its_kernel(trace: dict[str, Any]) -> None:
    begins, ends = (of(trace["traceEvents"], phase) for phase in "sf")
    starts = [round(one["ts"] * 1000) % 9_001 for one in (*begins, *ends)]
    assert starts == [1_001] * 4 + [3_333] * 4
    assert [one["id"] for one in begins] == [one["id"] for one in ends] == [1, 2, 3, 4]


def test_a_counter_follows_the_copies(trace: dict[str, Any]) -> None:
    counters = of(trace["traceEvents"], "C")
    rates = [one["args"]["GB/s"] for one in counters]
    assert rates == [round(7_000 / 2_332, 6), 0.0] * 4


def test_memory_is_shown_by_category_at_the_start_of_each_step(tmp_path: Path) -> None:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    write_timeline(run, tmp_path / "t.json", range(1))
    counters = of(json.loads((tmp_path / "t.json").read_text())["traceEvents"], "C")
    sizes = {one["name"]: one["args"]["bytes"] for one in counters if "bytes" in one["args"]}
    assert sizes == {"weights": 4_000_000_000, "expert slots": 2_000_000_000}


def test_nanoseconds_survive(trace: dict[str, Any]) -> None:
    starts = {round(e["ts"] * 1000) for e in of(trace["traceEvents"], "X")}
    assert starts == {s * 9_001 + t for s in (1, 2) for t in (0, 1_001, 3_333)}


def test_a_file_is_replaced_when_it_is_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, out = write_result(factory.result(with_spans=True), tmp_path / "run"), tmp_path / "t.json"
    out.write_text("old")

    def breaks(*_: Any) -> Iterator[dict[str, Any]]:
        yield {"ph": "M"}
        raise RuntimeError

    monkeypatch.setattr("moesim.report.timeline.write.trace_events", breaks)
    with pytest.raises(RuntimeError):
        write_timeline(run, out)
    assert out.read_text() == "old"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "t.json"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    os.mkfifo(tmp_path / "pipe.json")
    with pytest.raises(InputError, match="is a pipe"):
        write_timeline(run, tmp_path / "pipe.json")


def test_a_run_of_replay_has_the_timeline_of_its_own_times(tmp_path: Path) -> None:
    """The steps are played again, by the engine that keeps spans."""
    experts = {"capacity": "6 slots/layer", "miss": {"kind": "cpu"}}
    source = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet",
              "workload": {"requests": 1}, "experts": experts, "engine": "replay"}  # fmt: skip
    result = moesim.run(source, out=tmp_path / "run", limit_steps=9)
    write_timeline(tmp_path / "run", tmp_path / "t.json", range(1, 3))
    trace = json.loads((tmp_path / "t.json").read_text())
    check_timeline(trace)
    spans = [span for span in of(trace["traceEvents"], "X") if span["tid"] == 1]
    for step in (1, 2):
        parts = [span for span in spans if span["args"]["step"] == step]
        ends = round((parts[-1]["ts"] + parts[-1]["dur"]) * 1000)
        times = [result.steps[name][step] for name in ("start_ns", "end_ns")]
        assert [round(parts[0]["ts"] * 1000), ends] == times
        assert round(sum(span["dur"] for span in parts) * 1000) == times[1] - times[0]
    assert "expert on CPU" in {span["name"] for span in of(trace["traceEvents"], "X")}


def test_a_policy_that_looks_ahead_has_the_future_of_its_run(tmp_path: Path) -> None:
    source = {"model": "small-moe", "hardware": "rtx-4060-8gb", "records": "expert",
              "trace": "traces/small-moe.parquet", "workload": {"requests": 3, "phase": "all"},
              "experts": {"capacity": "6 slots/layer", "policy": {"kind": "min"}}}  # fmt: skip
    made = moesim.run(source, out=tmp_path / "whole")
    moesim.run(source, records="summary", out=tmp_path / "run")
    middle = int(made.summary["steps"]) // 2
    counts = [
        write_timeline(tmp_path / name, tmp_path / f"{name}.json", range(middle - 40, middle))
        for name in ("whole", "run")
    ]
    whole, again = (json.loads((tmp_path / f"{n}.json").read_text()) for n in ("whole", "run"))
    assert counts[0] == counts[1]
    assert of(whole["traceEvents"], "X") == of(again["traceEvents"], "X")


def test_what_a_run_was_made_from_is_not_written_over(tmp_path: Path) -> None:
    model = tmp_path / "config.json"
    model.write_bytes(Path("moesim/model/cards/small-moe.json").read_bytes())
    source = {"model": str(model), "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet",
              "experts": {"capacity": "6 slots/layer"}, "workload": {"requests": 1}}  # fmt: skip
    moesim.run(source, out=tmp_path / "run")
    with pytest.raises(InputError, match="is the file that is read"):
        write_timeline(tmp_path / "run", model, range(2))
    assert write_timeline(tmp_path / "run", tmp_path / "t.json", range(2)) > 0


def test_a_run_without_spans_is_run_again_up_to_the_last_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = write_result(factory.result(), tmp_path / "run")
    calls: list[tuple[Any, dict[str, Any]]] = []

    def again(experiment: Any, **options: Any) -> Any:
        calls.append((experiment, options))
        return factory.result(with_spans=True)

    module = types.ModuleType("moesim.experiment.running.run")
    module.run = again  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "moesim.experiment.running.run", module)
    write_timeline(run, tmp_path / "t.json", range(3))
    ((experiment, options),) = calls
    assert experiment["name"] == "small"
    assert options == {"overrides": ["records=expert", "engine=des"], "limit_steps": 3}


@pytest.mark.parametrize(
    ("text", "steps"), [("0:20", range(20)), ("5", range(5, 6)), (":3", range(3))]
)
def test_steps_are_parsed(text: str, steps: range) -> None:
    assert parse_steps(text) == steps


@pytest.mark.parametrize("text", ["", "a", "3:3", "5:2", "-1:4", "1:2:3", "3:"])
def test_wrong_steps_are_said(text: str) -> None:
    with pytest.raises(InputError, match="names no steps"):
        parse_steps(text)


def test_steps_without_an_end_to_speak_of_take_no_room(tmp_path: Path) -> None:
    run = write_result(factory.result(with_spans=True), tmp_path / "run")
    assert write_timeline(run, tmp_path / "t.json", range(1, 10**12)) > 0


@pytest.mark.parametrize("with_spans", [True, False])
def test_steps_beyond_the_run_are_said(tmp_path: Path, *, with_spans: bool) -> None:
    """Before a run without spans is run once more, which of a service took minutes."""
    run = write_result(factory.result(with_spans=with_spans), tmp_path / "run")
    with pytest.raises(InputError, match=r"no step in 50:60; its last one is 9"):
        write_timeline(run, tmp_path / "t.json", range(50, 60))


@pytest.mark.parametrize(
    "serving",
    [
        {"replicas": 2},
        {"disaggregation": {"prefill": 1, "decode": 1, "bandwidth": "50 GB/s"}},
    ],
)
def test_a_timeline_of_several_engines_has_the_passes_of_each(
    tmp_path: Path, serving: dict[str, Any]
) -> None:
    served = {
        "model": "small-moe", "hardware": "rtx-4060-8gb", "records": "step", "serving": serving,
        "workload": {
            "requests": 6, "arrivals": {"kind": "poisson", "request_rate": "400 requests/s"},
            "lengths": {"kind": "fixed", "input_len": 60, "output_len": 5},
            "routing": {"kind": "draw"}, "batching": {"kind": "continuous"},
        },
    }  # fmt: skip
    run = moesim.run(served, out=tmp_path / "run")
    spans = rerun(tmp_path / "run", None).spans
    work = spans[spans["engine"] == "compute"].groupby("step")
    assert (work["gpu"].nunique() == 1).all()
    assert set(spans["gpu"]) == {0, 1}
    assert list(work["start_ns"].min()) == list(run.steps["start_ns"])
    assert list(work["end_ns"].max()) == list(run.steps["end_ns"])
    steps = range(len(run.steps))
    assert write_timeline(tmp_path / "run", tmp_path / "t.json", steps) == len(spans)
    events = json.loads((tmp_path / "t.json").read_text())["traceEvents"]
    handed = [one["dur"] for one in events if one["name"] == "handover"]
    gpus = {one["args"]["name"] for one in events if one["name"] == "process_name"}
    roles = ("replica 0", "replica 1") if "replicas" in serving else ("prefill", "decode")
    assert {f"GPU {gpu}, {role}" for gpu, role in enumerate(roles)} <= gpus
    waits: list[float] = list(run.requests.get("kv_exposed_ms", []))
    assert len(handed) == len(waits)
    assert all(dur >= 1000 * ms for dur, ms in zip(handed, waits, strict=True))


def test_a_run_that_did_not_fit_has_no_timeline(tmp_path: Path) -> None:
    run = write_result(factory.result("out_of_memory"), tmp_path / "run")
    with pytest.raises(InputError, match=r"expert_slots: 9\.0 GB do not fit"):
        write_timeline(run, tmp_path / "t.json")


def test_a_run_again_names_the_folders_experiment(tmp_path: Path) -> None:
    made = replace(factory.result(), experiment={"seed": 1}, provenance={"inputs": {}})
    folder = write_result(made, tmp_path / "run")
    with pytest.raises(InputError, match="model: is missing") as error:
        rerun(folder, range(1))
    assert {p.where for p in error.value.problems} == {str(folder / "experiment.yaml")}


@pytest.mark.parametrize("arrivals", [{"kind": "at_once"}, {"kind": "poisson"}])
def test_the_first_steps_of_a_server_are_those_of_the_whole_run(
    tmp_path: Path, arrivals: dict[str, Any]
) -> None:
    """With a host that takes time each step is decided as the clock goes; most wait at the end."""
    rate = {"request_rate": "400 requests/s"} if arrivals["kind"] == "poisson" else {}
    served = {
        "model": "small-moe", "hardware": "rtx-4060-8gb", "software": "vllm", "records": "step",
        "workload": {
            "requests": 12, "arrivals": arrivals | rate, "routing": {"kind": "draw"},
            "lengths": {"kind": "fixed", "input_len": 60, "output_len": 20},
            "batching": {"kind": "continuous", "scheduler": {"kind": "vllm", "max_num_seqs": 4}},
        },
    }  # fmt: skip
    whole = moesim.run(served, out=tmp_path / "run")
    first = rerun(tmp_path / "run", range(5))
    assert list(first.steps["end_ns"]) == list(whole.steps["end_ns"])[:5]
    assert write_timeline(tmp_path / "run", tmp_path / "t.json", range(2)) > 0
