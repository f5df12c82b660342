"""The YAML file of options that vLLM's and SGLang's ``--config`` names."""

from __future__ import annotations

from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.experiment.engine_commands import ReadCommand, read_command

FILE = """model: openai/gpt-oss-120b
tensor-parallel-size: 4
enable_expert_parallel: true
enable-prefix-caching: false
max-num-seqs: 64
host: 0.0.0.0
served-model-name:
  - gpt-oss
  - other
compilation-config: {cudagraph_mode: PIECEWISE}
"""
SAID = "openai/gpt-oss-120b -tp 4 -ep --no-enable-prefix-caching --max-num-seqs 64 --host 0.0.0.0"
SAID += ' --served-model-name gpt-oss other -cc \'{"cudagraph_mode": "PIECEWISE"}\''


def read(line: str, text: str = FILE, folders: tuple[Path, ...] = ()) -> ReadCommand:
    return read_command(f"cat > serve.yaml <<EOF\n{text}EOF\n{line}\n", folders=folders)


def test_its_keys_are_options_of_the_line() -> None:
    found, said = read("vllm serve --config serve.yaml"), read_command(f"vllm serve {SAID}")
    assert found.experiment == said.experiment
    assert found.experiment["parallelism"]["expert"] == 4
    warned = [note for note in found.notes if note.startswith("warning: ")]
    assert warned == [note for note in said.notes if note.startswith("warning: ")]


def test_what_the_line_says_counts_first() -> None:
    line = "vllm serve Qwen/Qwen3-30B-A3B --max-num-seqs 8 --config serve.yaml -tp 2"
    found = read(line).experiment
    assert found["model"].startswith("qwen3-30b-a3b")
    assert found["parallelism"]["expert"] == 2
    assert found["workload"]["batching"]["batch_size"] == 8


@pytest.mark.parametrize("key", [True, False])
def test_a_switch_of_the_line_counts_before_its_opposite_in_the_file(key: bool) -> None:
    said = "--no-" if key else "--"
    text = f"enable-prefix-caching: {key}\nenable-expert-parallel: {key}\n".lower()
    line = "vllm serve openai/gpt-oss-120b -tp 2 --config serve.yaml"
    line += f" {said}enable-prefix-caching {said}enable-expert-parallel"
    command = f"cat > serve.yaml <<EOF\n{text}EOF\n{line}\n"
    found = read_command(command, served=True).experiment
    assert found["memory"] == {"prefix_caching": not key}
    alone = line.replace(" --config serve.yaml", "")
    assert found == read_command(alone, served=True).experiment


def test_a_file_without_options_is_read() -> None:
    found = read("vllm serve openai/gpt-oss-120b --config serve.yaml", "{}\n")
    assert not [note for note in found.notes if "--config" in note]


def test_of_sglang_too() -> None:
    text = "model-path: openai/gpt-oss-20b\ntp: 2\nmax_running_requests: 32\n"
    line = "python -m sglang.launch_server"
    found = read(f"{line} --config=serve.yaml", text)
    said = f"{line} --model-path openai/gpt-oss-20b --tp 2 --max-running-requests 32"
    assert found.experiment == read_command(said).experiment


def test_a_file_that_lies_here(tmp_path: Path) -> None:
    (tmp_path / "serve.yaml").write_text("tensor_parallel_size: 2\n")
    line = "vllm serve openai/gpt-oss-120b --config serve.yaml"
    found = read_command(line, folders=(tmp_path,))
    assert found.experiment["parallelism"]["expert"] == 2


def test_one_that_is_not_here_is_told() -> None:
    found = read_command("vllm serve openai/gpt-oss-120b --config elsewhere.yaml")
    told = [note for note in found.notes if "--config" in note]
    assert len(told) == 1
    assert "not here; paste what writes it" in told[0]


def test_a_key_that_nobody_knows_is_told() -> None:
    found = read("vllm serve --config serve.yaml", FILE + "tensor-paralel-size: 8\n")
    assert any("--tensor-paralel-size=8: not understood" in note for note in found.notes)


@pytest.mark.parametrize(
    ("text", "what"),
    [("only words\n", "serve.yaml: has no keys"), ("a: [1\n", "serve.yaml"), ("", "serve.yaml")],
)
def test_a_broken_file_is_one_line(text: str, what: str) -> None:
    with pytest.raises(InputError, match=what):
        read("vllm serve m --config serve.yaml", text)
