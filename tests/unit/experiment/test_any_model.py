"""Experiments with models of any file: GGUF, and families that nobody has described."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.cli.main import main
from moesim.experiment.loading.resolve import load_experiment
from moesim.model import load_model
from moesim.model.gguf.usual import plain_note
from moesim.sweep.table import read_points
from tests.gguf_files import Row, write

SMALL = load_model("small-moe")
LAYERS = len(SMALL.layers)
EXPERTS = max(layer.moe.experts for layer in SMALL.moe_layers if layer.moe)
TOP_K = max(layer.moe.top_k for layer in SMALL.moe_layers if layer.moe)


@pytest.fixture
def experiment(tmp_path: Path):
    def write_one(model: str) -> Path:
        path = tmp_path / "mine.yaml"
        text = f"model: {model}\nhardware: rtx-4060-8gb\ntrace: traces/small-moe.parquet\n"
        path.write_text(text + "experts: {capacity: 50 %}\n", encoding="utf-8")
        return path

    return write_one


METADATA = {
    "general.architecture": "made", "made.block_count": LAYERS, "made.embedding_length": 256,
    "made.attention.head_count": 4, "made.expert_count": EXPERTS,
    "made.expert_used_count": TOP_K,
}  # fmt: skip


def gguf_rows() -> list[Row]:
    rows: list[Row] = [("token_embd.weight", (256, 10), 0, 10240)]
    for layer in range(LAYERS):
        rows += [
            (f"blk.{layer}.attn_q.weight", (256, 256), 12, 36864),
            (f"blk.{layer}.ffn_up_exps.weight", (256, 256, EXPERTS), 12, EXPERTS * 36864),
            (f"blk.{layer}.ffn_down_exps.weight", (256, 256, EXPERTS), 14, EXPERTS * 53760),
        ]
    return rows


def test_a_gguf_file_beside_the_experiment(tmp_path: Path, experiment: Any) -> None:
    path = write(tmp_path / "mine.gguf", METADATA, gguf_rows())
    result = moesim.run(experiment("mine.gguf"))
    assert result.summary["status"] == "ok"
    half = EXPERTS // 2
    sizes = result.summary["memory_bytes"]
    slots = sizes["expert_slots"] + sizes["copies_in_flight"]
    assert slots == LAYERS * half * (36864 + 53760)
    assert result.provenance["inputs"]["model"]["path"] == str(path)
    assert "model_notes" not in result.summary


def test_a_gguf_file_in_16_bits_is_what_it_is(tmp_path: Path) -> None:
    """Its formats were chosen by whoever wrote it, and it takes no other (``NAME@FORMAT``)."""
    rows = [(n, shape, 1, 2 * math.prod(shape)) if "attn" in n else (n, shape, kind, size)
            for n, shape, kind, size in gguf_rows()]  # fmt: skip
    model = load_model(str(write(tmp_path / "mine.gguf", METADATA, rows)))
    assert {layer.attention.dtype for layer in model.layers} == {"fp16"}
    assert plain_note(model) is None


def test_advice_on_a_gguf_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(tmp_path / "mine.gguf", METADATA, gguf_rows())
    monkeypatch.chdir(tmp_path)
    options = ["--gpu", "rtx-3090", "--requests", "1", "-j", "1", "--out", "out"]
    assert main(["advise", "mine.gguf", *options]) == 0
    told = capsys.readouterr().out
    assert "software: llama.cpp, as the weights are GGUF's" in told
    assert "is no recording: drawn for mine" in told
    assert f"model: {path}\n" in (tmp_path / "out" / "experiment.yaml").read_text()
    monkeypatch.chdir("/")
    assert main(["run", str(tmp_path / "out/experiment.yaml"), "-o", str(tmp_path / "r")]) == 0


def test_software_that_maps_gguf_files_says_what_formats_it_was_given() -> None:
    def notes(model: str, software: str) -> list[str]:
        asked = {"model": model, "software": software, "workload": {"requests": 1}}
        machine = {"hardware": "rtx-4060-8gb", "trace": "traces/quickstart.parquet"}
        summary = moesim.run({**asked, **machine, "experts": {"capacity": "4 slots/layer"}}).summary
        return [note for note in summary.get("model_notes", ()) if "GGUF" in note]

    (line,) = notes("gpt-oss-20b", "llama.cpp")
    assert "13.8 GB; most GGUF files have fewer bits a weight, as gpt-oss-20b@mxfp4_moe" in line
    assert not notes("gpt-oss-20b@mxfp4_moe", "llama.cpp")
    assert not notes("gpt-oss-20b", "vllm")


@pytest.mark.parametrize("engine", ["des", "replay"])
def test_what_is_not_known_of_a_model_is_in_its_result(
    tmp_path: Path, experiment: Any, engine: str
) -> None:
    kinds = ["linear_attention", "hyena", "full_attention"] * LAYERS
    config = {
        "model_type": "new_moe", "hidden_size": 64, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "moe_intermediate_size": 32, "num_experts": EXPERTS,
        "num_experts_per_tok": TOP_K, "vocab_size": 100, "layer_types": kinds[:LAYERS],
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    summary = moesim.run(load_experiment(experiment("config.json"), [f"engine={engine}"])).summary
    assert summary["status"] == "ok"
    assert any("'hyena' is not known" in note for note in summary["model_notes"])
    assert any("constant state" in note for note in summary["model_notes"])


def test_engines_agree_on_layers_of_one_block(tmp_path: Path, experiment: Any) -> None:
    pattern = "M" + "E*" * LAYERS + "-"
    config = {
        "model_type": "new_moe", "hidden_size": 64, "hybrid_override_pattern": pattern,
        "num_attention_heads": 4, "moe_intermediate_size": 32, "intermediate_size": 32,
        "num_experts": EXPERTS, "num_experts_per_tok": TOP_K, "vocab_size": 100,
        "mamba_num_heads": 4, "mamba_head_dim": 16, "ssm_state_size": 8,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    file = experiment("config.json")
    found = [
        moesim.run(load_experiment(file, [f"engine={engine}"])).summary["duration_ms"]
        for engine in ("des", "replay")
    ]
    assert found[0] == found[1] > 0


def test_a_sweep_says_it_too(tmp_path: Path, experiment: Any, capsys: Any) -> None:
    config = {
        "model_type": "new_moe", "hidden_size": 64, "num_hidden_layers": LAYERS,
        "num_attention_heads": 4, "moe_intermediate_size": 32, "num_experts": EXPERTS,
        "num_experts_per_tok": TOP_K, "vocab_size": 100, "layer_types": ["hyena"] * LAYERS,
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config), encoding="utf-8")
    file = experiment("config.json")
    out = ["--out", str(tmp_path / "one")]
    assert main(["run", str(file), *out]) == 0
    assert capsys.readouterr().out.count("'hyena' is not known") == 1
    text = file.read_text(encoding="utf-8")
    file.write_text(f"{text}sweep: {{model: [config.json, small-moe]}}\n", encoding="utf-8")
    assert main(["sweep", str(file), "--out", str(tmp_path / "many")]) == 0
    assert capsys.readouterr().out.count("'hyena' is not known") == 1
    assert len(read_points(tmp_path / "many")) == 2
