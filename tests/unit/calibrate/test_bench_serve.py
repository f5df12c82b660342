"""What 'vllm bench serve' saved is evidence of mean times of requests."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest

from moesim.calibrate.host.fit import fit_host
from moesim.calibrate.host.measured import measured_run
from moesim.calibrate.published.pack import read_pack
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment

SAVED = {
    "date": "20251001-101010", "backend": "vllm", "model_id": "openai/gpt-oss-20b",
    "num_prompts": 200, "request_rate": "inf", "max_concurrency": 16, "duration": 52.0,
    "completed": 200, "failed": 0, "total_input_tokens": 204800, "total_output_tokens": 25600,
    "mean_ttft_ms": 210.5, "mean_tpot_ms": 31.25, "p99_tpot_ms": 33.0,
}  # fmt: skip
ARRIVALS = {"kind": "closed_loop", "max_concurrency": 16}
WORKLOAD = {
    "requests": 200, "arrivals": ARRIVALS, "batching": {"kind": "continuous"},
    "lengths": {"kind": "fixed", "input_len": 1024, "output_len": 128},
}  # fmt: skip


def added(folder: Path, saved: dict[str, Any], name: str = "run", **workload: Any) -> int:
    file, bench = folder / f"{name}.yaml", folder / "saved.json"
    file.write_text(json.dumps({
        "model": "gpt-oss-20b", "hardware": "l40s", "software": "vllm",
        "workload": {**WORKLOAD, **workload},
    }))  # fmt: skip
    bench.write_text(json.dumps(saved))
    pack = str(folder / "pack")
    return main(["evidence", "add", str(file), "--measured", str(bench), "--pack", pack])


def test_each_mean_time_is_a_row(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert added(tmp_path, SAVED) == 0
    told = capsys.readouterr()
    assert "mean_tpot_ms 31.25" in told.out
    assert told.err == ""
    tpot, ttft = read_pack(tmp_path / "pack")
    assert (tpot.run, tpot.of, tpot.measured_tokens_per_s) == ("run-tpot", "mean_tpot_ms", 32)
    assert (ttft.run, ttft.of) == ("run-ttft", "mean_ttft_ms")
    assert tpot.file == ttft.file == tmp_path / "pack" / "run.yaml"
    assert "model_id openai/gpt-oss-20b, num_prompts 200, max_concurrency 16" in tpot.source


def test_what_sglang_calls_otherwise_is_read_too(tmp_path: Path) -> None:
    """Its time end to end was left out without a word, and its runs were said to be vLLM's."""
    file = tmp_path / "saved.jsonl"
    file.write_text(json.dumps({**SAVED, "backend": "sglang", "mean_e2e_latency_ms": 4200}) + "\n")
    found = measured_run(str(file))
    assert found.times == {"mean_tpot_ms": 31.25, "mean_ttft_ms": 210.5, "mean_e2el_ms": 4200}
    assert found.source.startswith("bench_serving of SGLang saved.jsonl")


def test_rows_of_times_stand_beside_rows_of_speeds(tmp_path: Path) -> None:
    """The table gets the columns that it had no need of."""
    run, pack = tmp_path / "speed.yaml", tmp_path / "pack"
    run.write_text(json.dumps({"model": "gpt-oss-20b", "hardware": "l40s"}))
    asked = ["evidence", "add", str(run), "--measured", "12.5 tokens/s", "--pack", str(pack)]
    assert main(asked) == 0
    assert added(tmp_path, {**SAVED, "mean_e2el_ms": 4200}) == 0
    assert [one.run for one in read_pack(pack)] == ["speed", "run-tpot", "run-ttft", "run-e2el"]
    (first, *_) = csv.DictReader((pack / "measured.csv").open())
    assert (first["measured_tokens_per_s"], first["of"]) == ("12.5", "")


@pytest.mark.parametrize(
    ("saved", "workload", "what"),
    [
        ({"max_concurrency": 32}, {}, "has 16 clients, and the run had 32; write"),
        ({}, {"arrivals": {"kind": "at_once"}}, "has no limit of clients, and the run had 16"),
        ({"completed": 0}, {}, "completed '0' is no number above 0"),
        ({"mean_tpot_ms": float("nan")}, {}, "mean_tpot_ms 'nan' is no number above 0"),
        ({"mean_tpot_ms": None, "mean_ttft_ms": None}, {}, "has none of mean_tpot_ms"),
        ({}, {"batching": {"kind": "static", "batch_size": 1}, "arrivals": {"kind": "at_once"},
              "lengths": {"kind": "trace"}}, "the run served requests that come and go"),
    ],
)  # fmt: skip
def test_what_is_no_such_run_is_refused(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    saved: dict[str, Any],
    workload: dict[str, Any],
    what: str,
) -> None:
    assert added(tmp_path, {**SAVED, **saved}, **workload) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert what in line
    assert not (tmp_path / "pack").exists()


@pytest.mark.parametrize(
    ("saved", "told"),
    [
        ({"failed": 3}, "3 requests of the run failed"),
        ({"completed": 100, "total_input_tokens": 102400, "total_output_tokens": 12800},
         "workload.requests: the run answered 100, the experiment has 200; write 100"),
        ({"total_input_tokens": 409600}, "lengths.input_len: the run's were 2,048 tokens"),
    ],
)  # fmt: skip
def test_what_differs_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], saved: dict[str, Any], told: str
) -> None:
    assert added(tmp_path, {**SAVED, **saved}) == 0
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line


def test_no_host_is_fitted_to_times_of_requests(tmp_path: Path) -> None:
    bench = tmp_path / "saved.json"
    bench.write_text(json.dumps(SAVED))
    run = load_experiment({"model": "gpt-oss-20b", "hardware": "l40s"}).experiment
    with pytest.raises(InputError, match="--measured: a host is fitted to the speed of a run"):
        fit_host(run, measured_run(str(bench)))


@pytest.mark.parametrize(
    ("text", "times"),
    [
        ("56 ms/token", {"mean_tpot_ms": 56}),
        ("0.056 s a token", {"mean_tpot_ms": 56}),
        ("56000 us per tok", {"mean_tpot_ms": 56}),
        ("TTFT: 800 ms", {"mean_ttft_ms": 800}),
        ("1.5 s ttft", {"mean_ttft_ms": 1500}),
        ("5 s E2EL", {"mean_e2el_ms": 5000}),
        ("17.8 tok/s", {}),
    ],
)
def test_a_time_of_requests_may_be_written(text: str, times: dict[str, float]) -> None:
    """Of '0.056 s/token' it was asked whether '0.056 tokens/s' is meant."""
    found = measured_run(text)
    assert found.times == pytest.approx(times)
    assert found.tokens_per_s == pytest.approx(1e3 / next(iter(times.values()), 1e3 / 17.8))


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("0 ms/token", "'0 ms/token' is no time above 0"),
        ("800 TTFT", "'800' has no unit; write it as in '800 ms TTFT'"),
        ("12 tokens/s TTFT", "'12 tokens/s' has the unknown unit"),
        (
            "56 ms",
            "'56 ms' does not say of what; write '56 ms/token', '56 ms TTFT' or '56 ms E2EL'",
        ),
        ("-3 tokens/s", "'-3 tokens/s' is negative; a speed cannot be below zero; or name a file"),
    ],
)
def test_what_is_no_time_is_refused(text: str, what: str) -> None:
    with pytest.raises(InputError, match=f"^--measured: {what}"):
        measured_run(text)


def test_a_time_that_an_experiment_has_not_has_no_prediction(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run, pack = tmp_path / "run.yaml", str(tmp_path / "pack")
    described: dict[str, Any] = {"model": "gpt-oss-20b", "hardware": "l40s"}
    run.write_text(json.dumps({**described, "workload": {"requests": 1, "phase": "all"}}))
    assert main(["evidence", "add", str(run), "--measured", "80 ms TTFT", "--pack", pack]) == 0
    assert "mean_ttft_ms 80" in capsys.readouterr().out
    decodes = {**described, "workload": {"requests": 1, "phase": "decode"}}
    (tmp_path / "pack" / "run.yaml").write_text(json.dumps(decodes))
    assert main(["evidence", "--pack", pack, "--out", str(tmp_path / "out")]) == 0
    assert "no prediction of run-ttft: it has no mean_ttft_ms" in capsys.readouterr().out
    with pytest.raises(InputError, match="not to times of requests"):
        fit_host(load_experiment(run).experiment, measured_run("56 ms/token"))
