"""What experts on the CPU reach of the memory, from one measured run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moesim.calibrate.host.fit import fit_host, with_share
from moesim.calibrate.host.host_file import host_text
from moesim.calibrate.host.measured import Measured, measured_run
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.hardware import load_hardware
from moesim.report.judged.host import lines

PARTS = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb", "link": "pcie4-x16"}
PEAK = 2 * 3200e6 * 8
"""Bytes a second of that host's memory."""
ROW: dict[str, Any] = {
    "cpu_info": "AMD Ryzen 9 7950X 16-Core Processor",
    "model_type": "gpt-oss 20B MXFP4 MoE",
    "n_threads": 16,
    "n_prompt": 0,
    "n_gen": 128,
    "n_depth": 0,
    "avg_ts": 31.5,
}


def asked(hardware: Any = PARTS, layers: int = 24, **more: Any) -> dict[str, Any]:
    return {"model": "gpt-oss-20b", "hardware": hardware, "workload": {"requests": 1},
            "software": "llama.cpp", "experts": {"on_cpu": {"layers": layers}}, **more}  # fmt: skip


def speed(hardware: str, layers: int = 24) -> float:
    summary = simulate(load_experiment(asked(hardware, layers)).experiment).summary
    return float(summary["output_throughput"])


def refusal(experiment: dict[str, Any], tokens_per_s: float) -> str:
    with pytest.raises(InputError) as caught:
        fit_host(load_experiment(experiment).experiment, Measured(tokens_per_s))
    return str(caught.value)


@pytest.mark.parametrize(("share", "layers"), [(0.31, 24), (0.72, 10)])
def test_the_share_that_made_a_run_comes_back(share: float, layers: int) -> None:
    machine = load_experiment(asked()).experiment.hardware
    made = speed(with_share(machine, share), layers)
    found = fit_host(load_experiment(asked(layers=layers)).experiment, Measured(made))
    assert found.share == pytest.approx(share, abs=2e-4)
    slower, faster = found.near
    assert slower is not None
    assert slower < share
    assert faster is not None
    assert faster > share


def test_the_file_is_a_host_that_makes_the_run(tmp_path: Path) -> None:
    found = fit_host(load_experiment(asked()).experiment, Measured(25.0))
    path = tmp_path / "mine.yaml"
    path.write_text(host_text(found, "Mine", "my run of 12 May"))
    machine = str({**PARTS, "host": str(path)})
    assert speed(machine) == pytest.approx(25, rel=1e-3)
    own, base = load_hardware(machine), load_hardware(str(PARTS))
    share = own.host.expert_fraction
    assert share is not None
    assert own.sources[share.source] == "fitted to one run: 25 tokens/s, my run of 12 May"
    assert own.host.expert_bytes_per_second == pytest.approx(found.share * PEAK, abs=1)
    for key in ("memory", "memory_bandwidth", "memory_fraction", "cores", "layer_start"):
        mine, its = getattr(own.host, key), getattr(base.host, key)
        assert mine.value == its.value
        assert own.sources[mine.source] == base.sources[its.source]


def test_speeds_that_no_share_gives_say_which_way(tmp_path: Path) -> None:
    fast = refusal(asked(), 1000)
    assert "--measured: 1000 tokens/s is too fast" in fast
    assert "100 % of the DRAM peak (51.2 GB/s)" in fast
    assert "host.memory_bandwidth" in fast
    slow = refusal(asked(), 0.5)
    assert "0.5 tokens/s is too slow" in slow
    assert "read from disk" in slow


def test_runs_that_say_nothing_of_the_host_are_refused() -> None:
    resident = refusal(asked(layers=0, experts={"capacity": "all"}), 30)
    assert "no expert of this run is computed on the CPU" in resident
    loading = refusal(asked(experts={"capacity": "8 slots/layer"}), 30)
    assert "no expert of this run is computed on the CPU" in loading
    small = {**PARTS, "gpu": {"base": "rtx-3090", "memory": "1 GiB"}}
    assert "the run does not fit in memory" in refusal(asked(small), 30)


def test_a_fitted_host_makes_its_run_again_and_names_the_trace(tmp_path: Path) -> None:
    """The shipped recording of Qwen3-30B-A3B has 6 experts a token, the model 8."""
    described = {**asked(layers=48), "model": {"base": "qwen3-30b-a3b", "format": "q4_k_m"}}
    found = fit_host(load_experiment(described).experiment, Measured(20.0))
    assert (found.trace, found.experts_per_token) == ("stand-in:qwen3-30b-a3b", 8)
    path = tmp_path / "mine.yaml"
    path.write_text(host_text(found, "Mine", "my run"))
    again = {**described, "hardware": {**PARTS, "host": str(path)}}
    same = simulate(load_experiment(again).experiment).summary
    assert same["output_throughput"] == pytest.approx(20, rel=1e-3)
    (told,) = same["host_notes"]
    assert told.endswith("fitted to one run: 20 tokens/s, my run")
    other = simulate(load_experiment({**again, "trace": "qwen3-30b-a3b"}).experiment).summary
    (told,) = other["host_notes"]
    assert "fitted with trace 'stand-in:qwen3-30b-a3b' (8 experts a token)" in told
    assert "this run has 'qwen3-30b-a3b' (6)" in told
    assert other["output_throughput"] > 22


def test_a_speed_is_a_text_with_its_unit_or_a_file(tmp_path: Path) -> None:
    assert measured_run("17.8 tokens/s") == Measured(17.8)
    assert measured_run("17.8 t/s").tokens_per_s == 17.8
    path = tmp_path / "bench.json"
    prompt = {**ROW, "n_prompt": 512, "n_gen": 0, "avg_ts": 900.0}
    path.write_text(json.dumps([prompt, ROW]))
    read = measured_run(str(path))
    assert read.tokens_per_s == 31.5
    assert "tg128 at depth 0" in read.source
    assert "cpu_info AMD Ryzen 9 7950X 16-Core Processor" in read.source
    assert (read.threads, read.layers_on_cpu) == (16, None)
    path.write_text("\n".join(json.dumps(row) for row in (prompt, ROW)))
    assert measured_run(str(path)) == read
    path.write_text(json.dumps([{**ROW, "n_cpu_moe": 20}]))
    assert measured_run(str(path)).layers_on_cpu == 20


def test_a_run_with_other_layers_on_the_cpu_is_another_run() -> None:
    described = load_experiment(asked(layers=24)).experiment
    with pytest.raises(
        InputError, match="has 24 layers on the CPU, but the run had n_cpu_moe 20; write layers: 20"
    ):
        fit_host(described, Measured(25, layers_on_cpu=20))
    last = load_experiment(asked(experts={"on_cpu": {"layers": list(range(4, 24))}})).experiment
    with pytest.raises(InputError, match="has 20 layers on the CPU, but the run had n_cpu_moe 20"):
        fit_host(last, Measured(25, layers_on_cpu=20))
    whole = fit_host(described, Measured(25, layers_on_cpu=99))
    assert whole.share == fit_host(described, Measured(25)).share


def test_other_threads_than_the_runs_are_told() -> None:
    described = load_experiment(asked()).experiment
    told = "\n".join(lines(fit_host(described, Measured(25, threads=6))))
    assert "warning: the run had 6 threads, the host 8: write host.threads" in told
    for threads in (None, 8, 16):
        found = fit_host(described, Measured(25, threads=threads))
        assert "threads, the host" not in "\n".join(lines(found))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        ("[]", "0 rows that only decode"),
        (json.dumps([ROW, {**ROW, "n_gen": 256}]), "2 rows that only decode"),
        (json.dumps([{**ROW, "avg_ts": "fast"}]), "avg_ts 'fast' is no number above 0"),
        ("{broken", "is neither the table that llama-bench prints nor its JSON"),
    ],
)
def test_files_that_say_no_speed(tmp_path: Path, content: str, what: str) -> None:
    path = tmp_path / "bench.json"
    path.write_text(content)
    with pytest.raises(InputError, match=what):
        measured_run(str(path))


@pytest.mark.parametrize("text", ["17.8", "fast", "0 tokens/s", "missing.json", "3 GB/s"])
def test_texts_that_are_no_speed(text: str) -> None:
    with pytest.raises(InputError, match="--measured"):
        measured_run(text)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run, out = tmp_path / "run.yaml", tmp_path / "host.yaml"
    run.write_text(json.dumps(asked()))
    asking = ["calibrate", "host", str(run), "--measured", "25 tokens/s"]
    assert main([*asking, "-o", str(out)]) == 0
    told = capsys.readouterr().out
    assert "of 51.2 GB/s (25 tokens/s measured)" in told
    assert "at -10% of that speed (22.5 tokens/s)" in told
    assert "only other runs of this host can judge the share" in told
    assert "the run of run.yaml" in out.read_text()
    assert main([*asking, "-o", str(run)]) == 2
    assert "is the file that is read" in capsys.readouterr().err
    assert main([*asking, "-o", str(tmp_path / "host.txt")]) == 2
    assert "a profile is a .yaml file" in capsys.readouterr().err
    out.unlink()
    assert main(asking) == 0
    assert "nothing is written" in capsys.readouterr().out
    assert main([*asking[:3], "--from-run", *asking[4:]]) == 2
    assert capsys.readouterr().err == "--from-run: is '--measured' now\n"


@pytest.mark.parametrize(
    ("share", "doubt"),
    [
        (0.2, "are experts read from disk"),
        (0.5, None),
        (0.9, "more than the 80% that copies reach"),
    ],
)
def test_a_share_that_no_real_run_reached_is_doubted(share: float, doubt: str | None) -> None:
    made = speed(with_share(load_experiment(asked()).experiment.hardware, share))
    told = "\n".join(lines(fit_host(load_experiment(asked()).experiment, Measured(made))))
    assert ("warning" in told) == (doubt is not None)
    assert doubt is None or doubt in told
