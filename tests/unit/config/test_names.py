"""Names as people write them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.config.names import known_name
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.traces import trace_of
from moesim.hardware import load_hardware, load_software
from moesim.model import load_model


@pytest.mark.parametrize("written", ["rtx-4090", "RTX 4090", " rtx_4090 ", "Rtx  4090", "RTX-4090"])
def test_letters_spaces_and_underscores(written: str) -> None:
    assert known_name(written, ["rtx-4080", "rtx-4090"]) == "rtx-4090"
    assert known_name(written, ["rtx-4080"]) is None


def test_every_door_reads_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert load_model("Qwen3 30B A3B").name == load_model("Qwen3_30B-A3B").name == "qwen3-30b-a3b"
    assert load_model("Qwen3-30B-A3B@Q4_K_M").name == "qwen3-30b-a3b@Q4_K_M"
    assert load_hardware("RTX 4090").name == "rtx-4090"
    assert load_software("LLAMA.CPP").name == "llama.cpp"
    parts = {"gpu": "RTX 3090", "host": "DDR5 6000 2ch 64GB", "link": "PCIe4 x16"}
    content = {"model": "GPT OSS 20B", "hardware": parts, "trace": "GPT-OSS-20B"}
    path = tmp_path / "one.yaml"
    path.write_text(json.dumps({**content, "software": "Llama.cpp"}))
    one = load_experiment(path).experiment
    assert trace_of(one).metadata.model == "gpt-oss-20b"
    assert main(["command", str(path), "--context", "4k"]) == 0
    assert capsys.readouterr().out.startswith("llama-server ")
    line = ["command", "--from", "llama-server -m gpt-oss-20b.gguf -ngl 99", "--gpu", "RTX 4090"]
    assert main(line) == 0
    assert "does not load" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("key", "name", "near"),
    [
        ("model", "GPT OSS 20", "did you mean 'gpt-oss-20b'"),
        ("hardware", "RTX 409", "near it: rtx-4090"),
        ("hardware", "monde", "it is a near-memory device.*{gpu: rtx-4090, near_memory: monde}"),
        ("hardware", "nvme-pcie4", "it is a drive.*{gpu: rtx-4090, storage: nvme-pcie4}"),
        ("software", "LLAMA.CP", "did you mean 'llama.cpp"),
    ],
)
def test_an_unknown_name_gets_the_near_ones(key: str, name: str, near: str) -> None:
    content = {"model": "gpt-oss-20b", "hardware": "rtx-4090", key: name}
    with pytest.raises(InputError, match=near):
        load_experiment(content)
