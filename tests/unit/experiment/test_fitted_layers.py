"""``experts.on_cpu.layers: auto``: the fewest layers left to the CPU with which all else fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.text import Annotation

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.experiment.building.build import build, with_layers_fitted
from moesim.experiment.building.built import Built
from moesim.experiment.building.fitted_layers import AT_ONCE
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import largest_fit
from moesim.report.plot import figure_of
from moesim.sweep.advise.room import room_of

LAYERS = 8
HOST = "ddr5-5600-2ch-64gb"
RESERVED = 5
"""MiB: 3.5 of the compute buffer, and 1.03 of a matrix, rounded up."""


def card(mib: float, context: str = "500 MiB", host: Any = HOST) -> dict[str, Any]:
    """A machine whose GPU has ``mib`` for the run, beside what llama.cpp reserves."""
    gpu = {"base": "rtx-3090", "memory": f"{500 + RESERVED + mib} MiB", "context_reserve": context}
    return {"gpu": gpu, "host": host}


def source(layers: Any = "auto", mib: float = 20, **more: Any) -> dict[str, Any]:
    """small-moe, 27 MB of which 25.2 are experts of 8 layers."""
    decoding = {"requests": 4, "phase": "decode", "batching": {"batch_size": 4, "kind": "static"}}
    return {
        "model": "small-moe",
        "trace": "traces/small-moe.parquet",
        "hardware": card(mib),
        "software": "llama.cpp",
        "workload": decoding,
        "experts": {"on_cpu": {"layers": layers}},
        **more,
    }


def built(given: dict[str, Any]) -> Built:
    return build(load_experiment(given).experiment)


def on_cpu(one: Built) -> int:
    """Layers without slots, which are the first ones."""
    count = int((one.case.slots[0] == 0).sum())
    assert not one.case.slots[0][:count].any()
    return count


def fits_gpu(one: Built) -> bool:
    return bool(one.footprint.total.max() <= one.limit_bytes)


def at_context(tokens: int, batch: int = 1, phase: str = "decode") -> dict[str, Any]:
    batching = {"kind": "static", "batch_size": batch}
    context = {"context": tokens} if phase == "decode" else {}
    return {"requests": batch, "phase": phase, "batching": batching, **context}


@given(
    mib=st.integers(1, 34),
    workload=st.builds(at_context, st.integers(16, 256), st.integers(1, 4))
    | st.builds(at_context, st.just(0), st.integers(1, 4), st.sampled_from(["prefill", "all"])),
)
def test_it_is_the_least_number_that_fits(mib: int, workload: dict[str, Any]) -> None:
    """Of all numbers, each built as it is written: whatever staging buffers and caches take."""
    fits = [n for n in range(LAYERS + 1) if fits_gpu(built(source(n, mib, workload=workload)))]
    assert on_cpu(built(source("auto", mib, workload=workload))) == min(fits, default=LAYERS)


@given(mib=st.integers(2, 30))
def test_all_who_tell_the_number_tell_this_one(mib: int) -> None:
    """A run, 'moesim fit', and the room that 'moesim init' and 'moesim advise' go by."""
    given = source("auto", mib)
    experiment = load_experiment(given).experiment
    fewest = on_cpu(build(experiment)) if fits_gpu(build(experiment)) else None
    assert largest_fit(experiment, None, [1])["cpu_layers"] == fewest
    if fewest:
        assert room_of(experiment, "auto").fewest_on_cpu == fewest


def test_layers_over_gpus_are_divided_anew_for_each_number() -> None:
    parts = {"parallelism": {"pipeline": 2}, "workload": at_context(256, 4)}
    fits = [n for n in range(LAYERS + 1) if fits_gpu(built(source(n, 8, **parts)))]
    found = built(source("auto", 8, **parts))
    assert 0 < min(fits) < LAYERS
    assert int((found.case.slots[0] == 0).sum()) == min(fits)


def test_none_needed_is_as_if_the_key_were_absent() -> None:
    auto, absent = (moesim.run(source(n, 64)).summary for n in ("auto", 0))
    assert (auto.pop("layers_on_cpu_auto"), auto["layers_on_cpu"]) == (True, 0)
    assert all(one.pop("engine_wall_s") for one in (auto, absent))
    assert auto == absent


def test_a_result_keeps_what_was_asked_and_says_what_was_taken() -> None:
    result = moesim.run(source())
    told = result.summary
    assert (told["layers_on_cpu"], told["moe_layers"]) == (on_cpu(built(source())), LAYERS)
    assert told["slots_by_layer"][0].count(0) == told["layers_on_cpu"]
    assert result.configuration["experts"]["on_cpu"]["layers"] == "auto"
    assert f"auto: {told['layers_on_cpu']} of 8 layers' experts on the CPU" in repr(result)
    number = moesim.run(source(told["layers_on_cpu"])).summary
    assert "layers_on_cpu_auto" not in number
    assert number["duration_ms"] == told["duration_ms"]


def test_the_other_engine_sees_the_same_number() -> None:
    by_events, replayed = (moesim.run(source(engine=name)).summary for name in ("des", "replay"))
    assert by_events["layers_on_cpu"] == replayed["layers_on_cpu"] > 0
    assert by_events["duration_ms"] == replayed["duration_ms"]


def serving(layers: Any, mib: float, scheduler: dict[str, Any], **more: Any) -> dict[str, Any]:
    lengths = {"kind": "fixed", "input_len": 96, "output_len": 32}
    workload = {
        "requests": 8,
        "lengths": lengths,
        "batching": {"kind": "continuous", "scheduler": scheduler},
    }
    memory = {"gpu_memory_utilization": "100 %"}
    return source(layers, mib, **{"workload": workload, "memory": memory, **more})


@pytest.mark.parametrize(
    ("scheduler", "requests", "tokens"),
    [
        ({"kind": "llama.cpp"}, AT_ONCE, 128),
        ({"kind": "llama.cpp", "max_num_seqs": 2}, 2, 128),
        ({"kind": "llama.cpp", "max_num_seqs": 6, "slot_context": 256}, 6, 256),
        ({"kind": "vllm", "max_num_batched_tokens": 512}, AT_ONCE, 128),
    ],
)
def test_requests_that_are_served_have_room_for_several(
    scheduler: dict[str, Any], requests: int, tokens: int
) -> None:
    """4 of the longest, what seats there are, or all of llama.cpp's slots, in blocks of 16."""

    def blocks(layers: Any) -> int:
        try:
            one = built(serving(layers, 16, scheduler))
        except InputError:
            return 0
        assert one.case.kv_pool is not None
        return one.case.kv_pool.blocks if fits_gpu(one) else 0

    needed = requests * tokens // 16
    fits = [n for n in range(LAYERS + 1) if blocks(n) >= needed]
    assert on_cpu(built(serving("auto", 16, scheduler))) == min(fits)
    assert min(fits) > 0


def test_room_for_keys_and_values_that_is_written_is_all_that_has_to_fit() -> None:
    few, many = (
        on_cpu(built(serving("auto", 16, {"kind": "llama.cpp"}, memory={"kv": f"{n} blocks"})))
        for n in (8, 100)
    )
    assert many == few + 2  # 92 blocks of 16 tokens of 4 KiB are 6.0 MB, and 3.1 MB a layer
    served = moesim.run(serving("auto", 16, {"kind": "llama.cpp"}, memory={"kv": "100 blocks"}))
    assert (served.status, served.summary["layers_on_cpu"]) == ("ok", many)


def test_a_gpu_that_is_too_small_for_the_rest_is_told_with_all_layers() -> None:
    told = moesim.run(source("auto", 1)).summary
    assert (told["status"], told["layers_on_cpu"]) == ("out_of_memory", LAYERS)
    assert "auto left the experts of 8 of 8 layers to the CPU, and all else" in told["reason"]


def test_a_host_that_is_too_small_is_told_with_the_fewest() -> None:
    small = card(10, host={"base": HOST, "memory": "8 MiB"})
    told = moesim.run(source("auto", hardware=small)).summary
    assert told["status"] == "out_of_memory"
    assert told["layers_on_cpu"] == on_cpu(built(source("auto", 10))) > 0
    assert "do not fit in the host's" in told["reason"]
    assert "the fewest with which the GPUs hold the rest" in told["reason"]


def test_one_memory_has_no_cpu_to_leave_layers_to(capsys: pytest.CaptureFixture[str]) -> None:
    machine = {"gpu": {"base": "gb10", "memory": "10 GiB"}}
    given = {**source(), "model": "gpt-oss-20b", "hardware": machine}
    given["trace"] = "traces/quickstart.parquet"
    told = moesim.run(given).summary
    assert (told["status"], told["layers_on_cpu"]) == ("out_of_memory", 0)
    assert told["reason"].endswith("auto took 0, as CPU and GPU share this memory")
    assert largest_fit(load_experiment(given).experiment, None, [1])["cpu_layers"] is None
    del given["hardware"]["gpu"]["memory"]
    assert moesim.run(given).status == "ok"


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ({"capacity": "auto"}, "capacity: auto holds a part; write capacity: all, or a number"),
        ({"capacity": "8 slots/layer"}, "capacity: 8 slots/layer holds a part"),
        ({"miss": {"kind": "cheapest"}}, "'cheapest' does not go together with on_cpu"),
        ({"on_cpu": {"layers": "fit"}}, "'fit' is neither a number of layers nor a list"),
        ({"on_cpu": {"layers": "auto", "pattern": "exps"}}, "say which layers twice"),
    ],
)
def test_what_does_not_go_together(experts: dict[str, Any], said: str) -> None:
    given = source()
    with pytest.raises(InputError, match=said):
        built({**given, "experts": {**given["experts"], **experts}})


def test_what_needs_no_layers_may_have_any_misses() -> None:
    experts = {"on_cpu": {"layers": "auto"}, "miss": {"kind": "cheapest"}}
    assert not on_cpu(built(source("auto", 64, experts=experts)))


def test_the_number_is_that_of_the_whole_run_however_much_is_played() -> None:
    """The last passes have the largest caches."""
    experiment = load_experiment(source("auto", 8, workload={"phase": "all"})).experiment
    assert on_cpu(build(experiment, 1)) == on_cpu(build(experiment)) > 0
    assert with_layers_fitted(experiment).experts.on_cpu.layers == on_cpu(build(experiment))


CARDS = (3, 8, 20, 64)


def test_each_point_of_a_sweep_takes_its_own(tmp_path: Path) -> None:
    given = source(
        sweep={
            "hardware.gpu.memory": [f"{500 + RESERVED + mib} MiB" for mib in CARDS],
            "experts.on_cpu.layers": [0, 8, "auto"],
        },
        figures=[],
    )
    table = moesim.sweep(given, tmp_path / "swept").table
    auto = table[table["experts.on_cpu.layers"].astype(str) == "auto"]
    assert auto["layers_on_cpu"].tolist() == [on_cpu(built(source("auto", m))) for m in CARDS]
    assert auto["layers_on_cpu"].nunique() == len(CARDS)
    assert auto["layers_on_cpu_auto"].all()
    numbers = table.drop(auto.index)
    assert (
        numbers["layers_on_cpu"].astype(str).tolist() == numbers["experts.on_cpu.layers"].tolist()
    )
    assert numbers["layers_on_cpu_auto"].isna().all()


def test_the_table_and_the_figure_have_the_numbers(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, out = tmp_path / "cards.yaml", tmp_path / "swept"
    axis = {"hardware.gpu.memory": [f"{500 + RESERVED + mib} MiB" for mib in CARDS]}
    file.write_text(json.dumps(source(sweep=axis)))
    assert main(["sweep", str(file), "-o", str(out)]) == 0
    shown = capsys.readouterr().out
    assert "on CPU" in shown
    drawn = figure_of({"kind": "metric_over_axis", "metric": "output_throughput", "over": "memory"})
    axes = Figure().add_subplot()
    drawn.draw(table := drawn.prepare(out), axes)
    texts = [text.get_text() for text in axes.texts if isinstance(text, Annotation)]
    ran = table[table["status"] == "ok"]["layers_on_cpu"].astype(int).astype(str).tolist()
    assert len(ran) >= 3
    assert [text for text in texts if text.isdigit()] == ran
    assert "of the 8 layers have their experts on the CPU (auto)" in axes.get_title()
    plain = figure_of(
        {"kind": "metric_over_axis", "metric": "layers_on_cpu", "over": "memory"}
    ).prepare(out)
    assert plain["layers_on_cpu"].dropna().astype(int).astype(str).tolist() == ran


def test_commands_say_the_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(source()))
    fewest = on_cpu(built(source()))
    said = f"auto: {fewest} of 8 layers"
    assert main(["check", str(file)]) == 0
    assert f"layers: {fewest}" in (out := capsys.readouterr().out)
    assert f"# {said} on the CPU" in out
    assert main(["run", str(file), "-o", str(tmp_path / "out")]) == 0
    assert said in capsys.readouterr().out
    assert main(["command", str(file)]) == 0
    told = capsys.readouterr()
    assert f"--n-cpu-moe {fewest} " in told.out
    assert f"{said} on the CPU" in told.err


def test_a_command_with_another_context_has_the_number_of_that(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(json.dumps(source(workload=at_context(16, 8))))
    longer = on_cpu(built(source(workload=at_context(256, 8))))
    assert longer > on_cpu(built(source(workload=at_context(16, 8))))
    assert main(["command", str(file), "--context", "256"]) == 0
    assert f"--n-cpu-moe {longer} -c 2048" in capsys.readouterr().out
