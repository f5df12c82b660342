"""A run with one thing changed, as if the experiment had it; bounds where nothing is played."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.metrics.price_interval import TIMED
from moesim.report.page.upgrades import helped, speed
from moesim.results import read_result, write_result
from moesim.sweep.advise import what_if as module
from moesim.sweep.advise.what_if import what_if
from tests.unit.results import factory

SMALL: dict[str, Any] = {
    "name": "small",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "software": "vllm",
    "workload": {"requests": 4},
    "experts": {"capacity": "8 slots/layer"},
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("what-if")
    shutil.copy("traces/small-moe.parquet", folder / "mine.parquet")
    moesim.run(SMALL | {"trace": str(folder / "mine.parquet")}, out=folder / "run")
    return folder / "run"


FREE = """
end_mark: "..."
title: "no cost, and kernels that choose tokens"
base: ideal
sources: {kernels: "as vllm's"}
sampling_bytes: {value: 10, source: kernels}
...
"""


def test_each_change_is_what_the_experiment_with_it_gives(run: Path) -> None:
    (run.parent / "free.yaml").write_text(FREE.lstrip(), encoding="utf-8")
    summary = read_result(run).summary
    told = list[tuple[int, int]]()
    found = what_if(run, summary, lambda *standing: told.append(standing))
    assert told == [(number, 5) for number in (1, 2, 3, 4, 5)]
    assert found.steps == summary["steps"]
    assert found.as_is["output_throughput"] == summary["output_throughput"]
    changed = {one.title: one.summary for one in found.changed}
    assert set(changed) == {
        "next PCIe generation", "2 x GPU memory bandwidth", "no software cost", "1.5 x expert slots"
    }  # fmt: skip
    overrides = {
        "no software cost": f"software={run.parent / 'free.yaml'}",
        "1.5 x expert slots": "experts.capacity=12 slots/layer",
    }
    for title, override in overrides.items():
        alone = moesim.run(
            SMALL | {"trace": str(run.parent / "mine.parquet")}, overrides=[override]
        )
        assert changed[title]["duration_ms"] == alone.summary["duration_ms"]


@pytest.mark.parametrize(
    ("more", "fewer"),
    [
        ({"experts": {"on_cpu": {"layers": 5}}}, {"experts": {"on_cpu": {"layers": 3}}}),
        (
            {"experts": {"on_cpu": {"layers": [1, 3, 6]}}},
            {"experts": {"on_cpu": {"layers": [1, 3]}}},
        ),
        ({"experts": {}, "host_layers": 4}, {"experts": {}, "host_layers": 2}),
        ({"experts": {"on_cpu": {"layers": 1}}}, {"experts": {}}),
    ],
)
def test_layers_on_the_cpu_have_no_more_slots_but_fewer_of_them_are_played(
    tmp_path: Path, more: dict[str, Any], fewer: dict[str, Any]
) -> None:
    base = SMALL | {"trace": "traces/small-moe.parquet", "software": "llama.cpp"}
    run = moesim.run(base | more, out=tmp_path / "run")
    changed = {one.title: one.summary for one in what_if(tmp_path / "run", run.summary).changed}
    assert "1.5 x expert slots" not in changed
    found = changed["a third fewer layers on the CPU"]
    assert found["duration_ms"] == moesim.run(base | fewer).summary["duration_ms"]
    _, board = helped(tmp_path / "run", run.summary)
    assert board is not None
    room = re.compile(r"CPU: \d[\d.]* [GM]iB more memory")
    assert any(room.search(text) for text in board.columns[0].texts)


def test_where_all_have_slots_nothing_of_their_room_is_changed() -> None:
    """The first loads into slots for all are no want of room, and no layer is on the CPU."""
    cold = {"time_share": {"waiting_for_weights": 0.4, "experts": 0.6}, "misses": 5}
    cold |= {"slots_per_layer": 32, "local_experts": 32}
    room = {module.SLOTS, module.FEWER}
    assert not room & {key for key, _ in module.wanted(cold)}
    assert room & {key for key, _ in module.wanted(cold | {"slots_per_layer": 8})} == {module.SLOTS}


def test_a_near_memory_device_is_changed_where_it_computes(tmp_path: Path) -> None:
    """The run's page asked what twice the DRAM's bandwidth brings: nothing, x 1.00."""
    near = {
        "model": {"base": "small-moe", "format": "bf16"}, "trace": "small-moe",
        "workload": {"requests": 2}, "hardware": {"gpu": "rtx-3090", "near_memory": "monde"},
        "experts": {
            "capacity": "4 slots/layer", "miss": {"kind": "cpu", "computed_by": "near_memory"},
        },
    }  # fmt: skip
    summary = moesim.run(near, out=tmp_path / "run").summary
    found = what_if(tmp_path / "run", summary)
    before = found.as_is["duration_ms"]
    gains = {one.title: before / one.summary["duration_ms"] for one in found.changed}
    assert not {"2 x DRAM bandwidth", "2 x CPU cores"} & gains.keys()
    assert gains["2 x near-memory bandwidth"] > 1
    assert gains["2 x near-memory rate"] >= 1


def test_nothing_is_faster_than_its_share_of_the_time_allows(run: Path) -> None:
    found = what_if(run, read_result(run).summary)
    before = found.as_is["duration_ms"]
    ratios = [before / one.summary["duration_ms"] for one in found.changed]
    bounds = [one.at_most or float("inf") for one in found.changed]
    assert all(1 <= ratio <= most for ratio, most in zip(ratios, bounds, strict=True))
    assert bounds.count(float("inf")) == 1
    assert max(ratios) > 1.1


def test_long_runs_are_played_from_their_begin(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    summary = read_result(run).summary
    monkeypatch.setattr(module, "MOST_ACTIVATIONS", {"replay": 1000, "des": 1000})
    found = what_if(run, summary)
    assert 8 <= found.steps < summary["steps"]
    lines, board = helped(run, summary)
    assert f"the first {found.steps:,} of {summary['steps']:,} passes" in lines[1]
    assert board is not None
    assert [column.heading for column in board.columns][:3] == [
        "changed",
        "times as fast",
        "tokens/s",
    ]


def test_what_is_gone_or_takes_long_is_said_and_bounded(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    summary = read_result(run).summary
    monkeypatch.setattr(module, "MOST_S", 0.0)
    assert "would take long" in what_if(run, summary).why
    monkeypatch.undo()
    (run.parent / "mine.parquet").rename(tmp_path / "away")
    lines, board = helped(run, summary)
    (tmp_path / "away").rename(run.parent / "mine.parquet")
    assert lines[0].startswith("No upgrade was tried: the file that the run read is gone")
    assert board is not None
    assert board.columns[1].texts[0] == "-"
    assert board.columns[2].texts[0].startswith("x 1.")


def test_a_page_says_what_it_shows_of_time(run: Path, tmp_path: Path) -> None:
    from moesim.report.page import page_of

    page = page_of(run)
    assert [one.title for one in page.timeline] == ["time over run"]
    assert page.timeline_notes[0].startswith("The run kept its passes")
    assert page.helps[0].startswith("What would help most: ")
    bare = page_of(write_result(factory.result(), tmp_path / "bare"))
    assert bare.timeline_notes or bare.timeline


SERVED: dict[str, Any] = {
    **SMALL,
    "trace": "traces/small-moe.parquet",
    "experts": {"capacity": "all"},
    "workload": {
        "requests": 12,
        "arrivals": {"kind": "poisson", "request_rate": "300 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 60, "output_len": 30},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm"}},
    },
}


@pytest.mark.parametrize("more", [{}, {"serving": {"replicas": 2}}])
def test_a_service_is_played_whole_where_nothing_is_decided_of_experts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, more: dict[str, Any]
) -> None:
    """All are resident: as many layers as a replay may have experts take no longer."""
    result = moesim.run(SERVED | more, out=tmp_path / "run")
    summary = result.summary
    monkeypatch.setattr(module, "MOST_ACTIVATIONS", {"replay": summary["layer_steps"], "des": 1})
    assert summary["hits"] > 2 * summary["layer_steps"]
    found = what_if(tmp_path / "run", summary)
    assert (found.why, found.steps) == ("", summary["steps"])
    assert found.as_is["mean_tpot_ms"] == summary["mean_tpot_ms"]
    lines, board = helped(tmp_path / "run", summary)
    assert "by playing all passes again" in " ".join(lines)
    assert board is not None
    assert not any(text == "-" for text in board.columns[1].texts)
    pace = found.as_is["mean_tpot_ms"] / found.changed[0].summary["mean_tpot_ms"]
    assert f"x {pace:.2f}" in board.columns[1].texts


def test_a_service_without_an_answer_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first passes of 300 are prompts: 0 tokens/s was told of twice the bandwidth."""
    summary = moesim.run(SERVED, out=tmp_path / "run").summary
    monkeypatch.setattr(module, "MOST_ACTIVATIONS", {"replay": 1, "des": 1})
    found = what_if(tmp_path / "run", summary)
    assert found.why.startswith("no request has its answer in the first 8 passes; with shorter ")
    assert all(not one.summary for one in found.changed)
    half = summary["layer_steps"] // 2
    monkeypatch.setattr(module, "MOST_ACTIVATIONS", {"replay": half, "des": half})
    told = module._unanswered(summary, {"steps": 8})
    assert told.endswith("with workload.requests of at most 6 all passes are played")


OFFLOADED: dict[str, Any] = {
    "name": "offloaded",
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "software": "vllm",
    "trace": "traces/quickstart.parquet",
    "workload": SERVED["workload"]
    | {
        "requests": 1,
        "arrivals": {"kind": "poisson", "request_rate": "0.1 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 128, "output_len": 4},
        "routing": {"kind": "draw", "prompts_from": "decode"},
    },
}

UTILISATION = "for which memory.kv or memory.gpu_memory_utilization must make room"


@pytest.mark.parametrize(
    ("slots", "told"),
    [
        (6, "9 a layer, 0.89 GiB more memory, 0.89 GiB of it from keys and values"),
        (8, f"12 a layer, 1.18 GiB more memory, {UTILISATION}"),
        (10, "15 a layer, 1.48 GiB more memory, 0.53 GiB above what this GPU has"),
    ],
)
def test_slots_beside_keys_and_values_take_what_they_hold(
    tmp_path: Path, slots: int, told: str
) -> None:
    """A slot of 24 layers takes 24 x 13,236,480 bytes, .296 GiB, whatever 'memory.kv: auto' takes
    on a larger card. Weights, activations and a copy in flight take 3.597 GiB of 7.5; 15 slots
    4.438, so that .522 are short and what one request holds, .007.
    """
    base = OFFLOADED | {"experts": {"capacity": f"{slots} slots/layer"}}
    run = moesim.run(base, out=tmp_path / "run")
    _, board = helped(tmp_path / "run", run.summary)
    assert board is not None
    assert f"1.5 x expert slots: {told}" in board.columns[0].texts


@pytest.mark.parametrize(
    ("slots", "more", "overrides"),
    [
        (6, {}, ["experts.capacity=9 slots/layer"]),
        (8, {"memory": {"gpu_memory_utilization": "97 %"}}, ["experts.capacity=12 slots/layer"]),
    ],
)
def test_slots_that_this_gpu_has_room_for_are_played_on_it(
    tmp_path: Path, slots: int, more: dict[str, Any], overrides: list[str]
) -> None:
    """97 % of 8 GiB, less half of one for the context, hold 7.16 GiB beside keys and values."""
    base = OFFLOADED | {"experts": {"capacity": f"{slots} slots/layer"}} | more
    run = moesim.run(base, out=tmp_path / "run")
    (found,) = (
        one for one in what_if(tmp_path / "run", run.summary).changed
        if one.title == "1.5 x expert slots"
    )  # fmt: skip
    alone = moesim.run(base, overrides=overrides).summary
    assert not found.roomier
    for key in ("duration_ms", "kv_blocks", "peak_memory_bytes"):
        assert found.summary[key] == alone[key]


def test_requests_by_the_clock_have_shares_of_passes_and_no_bound() -> None:
    """Waits are .15 of a run that idles .8: .75 of its passes, where x 1.18 was 'at most'."""
    shares = {"waiting_for_weights": 0.15, "experts": 0.05, "idle": 0.8}
    run = {"time_share": shares, "misses": 5, "slots_per_layer": 8, "local_experts": 32}
    for reason, share, most in ((None, 0.15, 1 / 0.85), (TIMED, 0.75, None)):
        summary = run | {"price_interval": {"reason": reason}}
        found = {one.title: one for one in module._bounds(summary, "").changed}
        for title in ("next PCIe generation", "1.5 x expert slots"):
            assert found[title].share == pytest.approx(share)
            assert found[title].at_most == (most and pytest.approx(most))


def test_a_page_has_the_run_as_it_is_beside_its_changes(tmp_path: Path) -> None:
    run = moesim.run(OFFLOADED | {"experts": {"capacity": "8 slots/layer"}}, out=tmp_path / "run")
    lines, board = helped(tmp_path / "run", run.summary)
    assert board is not None
    rows = {row[0]: dict(zip((c.heading for c in board.columns), row, strict=True))
            for row in board.rows}  # fmt: skip
    assert next(iter(rows)) == "as it is"
    assert rows["as it is"]["times as fast"] == "x 1.00"
    pace = float(rows["as it is"]["TPOT ms"]) / float(rows["next PCIe generation"]["TPOT ms"])
    assert rows["next PCIe generation"]["times as fast"] == f"x {pace:.2f}"
    assert "at most" not in rows["as it is"]
    time = run.summary["time_share"]
    busy = 100 * time["waiting_for_weights"] / (1 - time["idle"])
    assert rows["next PCIe generation"]["% of the time in passes"] == f"{busy:.1f}"
    assert "no bound of a pace" in lines[1]


def test_a_larger_gpu_has_no_more_keys_and_values(tmp_path: Path) -> None:
    run = moesim.run(OFFLOADED | {"experts": {"capacity": "8 slots/layer"}}, out=tmp_path / "run")
    (found,) = (one for one in what_if(tmp_path / "run", run.summary).changed if one.roomier)
    assert found.summary["slots_per_layer"] == 12
    assert found.summary["kv_blocks"] == run.summary["kv_blocks"] == 2044
    more = found.summary["peak_memory_bytes"] - run.summary["peak_memory_bytes"]
    assert more == 4 * 24 * 13_236_480


def test_a_closed_loop_is_as_fast_as_its_throughput() -> None:
    """Without software prompts come at once, so that a token waits longer, and more are there."""
    loop = {"output_throughput": 12_117.0, "request_throughput": 47.0, "mean_tpot_ms": 9.3}
    assert speed(loop | {"price_interval": {"reason": None}}) == 12_117.0
    assert speed(loop | {"price_interval": {"reason": TIMED}}) == 1e3 / 9.3
