"""``moesim model show``: a model by part, layer and expert."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from moesim.cli.main import main
from moesim.model import load_model, model_names
from tests.gguf_files import write

GGUF = {
    "general.architecture": "made", "made.block_count": 2, "made.embedding_length": 256,
    "made.attention.head_count": 4, "made.expert_count": 4, "made.expert_used_count": 2,
}  # fmt: skip
ROWS = [
    ("token_embd.weight", (256, 10), 0, 10240),
    *(
        (f"blk.{layer}.{name}", shape, 12, size)
        for layer in range(2)
        for name, shape, size in (
            ("attn_q.weight", (256, 256), 36864),
            ("ffn_up_exps.weight", (256, 256, 4), 147456),
            ("ffn_down_exps.weight", (256, 256, 4), 147456),
        )
    ),
]


def shown(capsys: Any, *arguments: str) -> str:
    assert main(["model", "show", *arguments]) == 0
    return str(capsys.readouterr().out)


@pytest.mark.parametrize("name", model_names())
def test_json_says_every_layer(name: str, capsys: Any) -> None:
    told, model = json.loads(shown(capsys, name, "--json")), load_model(name)
    assert (told["parameters"], told["bytes"]) == (model.parameters, model.bytes)
    assert told["active_parameters"] == model.active_parameters
    rows = told["layers"]
    assert [row["index"] for row in rows] == list(range(len(model.layers)))
    assert [row["experts"] for row in rows if row["experts"]] == [
        layer.moe.experts for layer in model.moe_layers if layer.moe
    ]
    parts = [key for key in rows[0] if key.endswith("_bytes") and key not in OTHERS]
    assert all(row["bytes"] == sum(row[part] for part in parts) for row in rows)


OTHERS = ("state_bytes", "expert_bytes")


def test_a_gguf_file_by_layer_and_expert(tmp_path: Path, capsys: Any) -> None:
    path = write(tmp_path / "made.gguf", GGUF, ROWS)
    told = json.loads(shown(capsys, str(path), "--json"))
    assert told["bytes"] == sum(size for *_, size in ROWS)
    for layer in told["layers"]:
        assert (layer["experts"], layer["expert_bytes"]) == (4, 2 * 147456 // 4)
        assert (layer["attention_bytes"], layer["expert_dtype"]) == (36864, "q4_k")


def test_layers_that_are_alike_are_one_row(capsys: Any) -> None:
    text = shown(capsys, "gpt-oss-20b")
    assert "20.91 B parameters, 3.61 B active, 13.76 GB" in text
    assert "sliding 128" in text
    assert "4 of 32" in text
    assert "(12)" in text
    assert "a token caches 49,152 bytes (KV), 24,576 of it in windows only" in text
    assert "every part is understood" in text


def test_states_and_what_is_apart_are_said(capsys: Any) -> None:
    text = shown(capsys, "qwen3-next-80b-a3b")
    assert "a request keeps 77.86 MB of state in 36 layers" in text
    assert "apart, in no total: 1 layer that predicts" in text
    assert "note: gated delta net keeps a constant state" in text


def test_a_mistake_is_one_line(tmp_path: Path, capsys: Any) -> None:
    (tmp_path / "x.gguf").write_bytes(b"GGUF")
    assert main(["model", "show", str(tmp_path / "x.gguf")]) == 2
    assert capsys.readouterr().err.count("\n") == 1
