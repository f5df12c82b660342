"""``moesim command``: experiments as engines' lines, and lines as experiments."""

from __future__ import annotations

import io
import json
import shlex
from pathlib import Path

import pytest

from moesim.cli.main import main
from moesim.experiment.engine_commands import read_command
from moesim.experiment.loading.resolve import load_experiment

FILE = str(Path(__file__).parents[2] / "experiments" / "layers-on-cpu.yaml")
LINE = "llama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 --n-cpu-moe 14 -c 16384 -ctk q8_0 -np 2"


def test_the_line_is_all_that_stdout_has(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["command", FILE, "--context", "16384"]) == 0
    shown = capsys.readouterr()
    assert shown.out == (
        "llama-server -m gpt-oss-20b-mxfp4_moe.gguf -ngl 99 --n-cpu-moe 11 -c 16384 -np 1 -fa on\n"
    )
    assert "'gpt-oss-20b-mxfp4_moe.gguf' stands for your GGUF file" in shown.err


def test_what_no_engine_does_leaves_with_1_and_the_reason(
    capsys: pytest.CaptureFixture[str],
) -> None:
    slots = ["--set", "experts.capacity=8 slots/layer", "--set", "experts.on_cpu.layers=0"]
    assert main(["command", FILE, *slots]) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "no release of llama.cpp keeps" in shown.err
    assert shown.err.endswith("llama.cpp cannot run this experiment\n")
    assert main(["command", FILE, *slots, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["command"] is None


def test_a_line_becomes_an_experiment_that_loads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    machine = ["--gpu", "rtx-3090", "--host", "ddr4-3200-2ch-64gb"]
    assert main(["command", "--from", LINE, *machine, "-o", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}\n"
    one = load_experiment(path).experiment
    assert one.model == "gpt-oss-20b@mxfp4_moe"
    assert one.experts.on_cpu.layers == 14
    assert one.workload.batching.in_flight == 2
    text = path.read_text(encoding="utf-8")
    assert "# warning: -ctk q8_0: not modelled" in text
    assert one.workload.context == 8192  # of each of two slots
    assert "trace: gpt-oss-20b\n" in text
    assert "8192 tokens, all that the line allows a request" in text.replace("\n#  ", "")
    assert "does not load" not in text


def test_what_a_line_does_not_say_is_what_a_run_takes(capsys: pytest.CaptureFixture[str]) -> None:
    """The trace is that of an experiment without one, the context the trace's."""
    line = "llama-server -hf Qwen/Qwen3-30B-A3B-GGUF:Q4_K_M -ngl 99 -ncmoe 48"
    asking = ["command", "--from", line, "--gpu", "rtx-4090", "--json"]
    assert main(asking) == 0
    found = json.loads(capsys.readouterr().out)
    plain = {"model": found["experiment"]["model"], "hardware": "rtx-4090"}
    assert found["experiment"]["trace"] == load_experiment(plain).experiment.trace
    assert "context" not in found["experiment"]["workload"]
    told = "\n".join(found["notes"])
    assert "as the recording of qwen3-30b-a3b has 6 of 8 experts a token" in told
    assert "note: workload.context: the line does not say" in told
    assert main([*asking, "--set", "trace=qwen3-30b-a3b", "--set", "workload.context=16k"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["experiment"]["trace"] == "qwen3-30b-a3b"
    assert not any("trace" in note or "context" in note for note in found["notes"])


def test_a_context_may_be_written_in_thousands(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["command", FILE, "--context", "16k"]) == 0
    assert " -c 16384 " in capsys.readouterr().out
    assert main(["command", FILE, "--context", "16x"]) == 2
    assert "--context: '16x' is no number of tokens" in capsys.readouterr().err


def test_the_way_back_gives_the_line_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.yaml"
    assert main(["command", "--from", LINE, "--gpu", "rtx-4060-8gb", "-o", str(path)]) == 0
    capsys.readouterr()
    assert main(["command", str(path), "--context", "8192"]) == 0
    again = capsys.readouterr().out
    assert read_command(again).experiment == read_command(LINE).experiment
    assert shlex.split(again)[2] == "gpt-oss-20b-mxfp4_moe.gguf"


def test_a_line_without_a_machine_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["command", "--from", LINE]) == 0
    assert "# warning: hardware: no line names it; add --gpu and --host" in capsys.readouterr().out
    assert main(["command", "--from", LINE, "--gpu", "rtx-3090"]) == 0
    assert "# note: hardware: ddr5-6000-2ch-64gb is assumed, as none" in capsys.readouterr().out


def test_json_has_the_keys_and_what_they_leave_out(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["command", "--from", LINE, "--set", "hardware=rtx-4090", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["engine"], found["context_tokens"]) == ("llama.cpp", 8192)
    assert found["experiment"]["hardware"] == "rtx-4090"
    assert any(note.startswith("warning: -ctk q8_0") for note in found["notes"])


def test_a_line_from_stdin_keeps_its_quotes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    line = 'llama-server -m gpt-oss-20b-mxfp4.gguf -ngl 99 -ot "blk\\.[0-3]\\..*exps=CPU"\n'
    monkeypatch.setattr("sys.stdin", io.StringIO(line))
    assert main(["command", "--from", "-", "--json"]) == 0
    experts = json.loads(capsys.readouterr().out)["experiment"]["experts"]
    assert experts == {"on_cpu": {"layers": 4}}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ([], "write a FILE, or --from"),
        ([FILE, "--from", LINE], "write a FILE, or --from"),
        (["--from", "llama-server -m 'x"], "the command line: a quote is not closed; close it"),
        (["--from", "llama-server -c many"], "-c: 'many' is no whole number from 0 on; write one"),
        (["--from", "ollama serve"], "ollama: is no program of an engine"),
        (["--from", LINE, "--engine", "vllm"], "no program of vllm is named"),
        ([FILE, "--engine", "llamacpp"], "--engine: 'llamacpp' is not known"),
        ([FILE, "--set", "software=ideal"], "'ideal' is of no engine"),
        (["missing.yaml"], "missing.yaml"),
        (["--from", LINE, "--set", "hardware"], "--set hardware: has no '='"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["command", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
