"""Broken models: each gives exactly one line that names the mistake and the remedy."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.model.loader import CARDS

OLMOE = json.loads((CARDS / "olmoe-1b-7b.json").read_text(encoding="utf-8"))


def olmoe(**changes: Any) -> str:
    return json.dumps({**OLMOE, **changes})


def olmoe_without(*keys: str) -> str:
    return json.dumps({key: OLMOE[key] for key in OLMOE if key not in keys})


BROKEN: dict[str, tuple[str | bytes, str]] = {
    "no experts": (
        json.dumps({"model_type": "mamba3"}),
        r"has no experts \(model_type 'mamba3'\): none of num_experts.*routed experts",
    ),
    "experts by an unknown key": (
        json.dumps({"model_type": "mamba3", "moe_mixture_number": 64}),
        "has no experts.*moe_mixture_number may say them under another name",
    ),
    "nothing": ("{}", "has no experts: none of num_experts"),
    "missing key": (olmoe_without("hidden_size"), "family olmoe needs hidden_size: missing"),
    "several missing keys": (
        olmoe_without("hidden_size", "num_experts"),
        "needs hidden_size, num_experts: missing",
    ),
    "text for a number": (
        olmoe(num_experts="64"),
        'num_experts: "64": input should be a valid int',
    ),
    "fraction": (olmoe(hidden_size=2048.5), "hidden_size: 2048.5: input should be a valid int"),
    "truth value": (olmoe(num_hidden_layers=True), "num_hidden_layers: true: input should be"),
    "negative size": (olmoe(intermediate_size=-1024), "intermediate_size: -1024: .*greater than 0"),
    "no layers": (olmoe(num_hidden_layers=0), "num_hidden_layers: 0: .*greater than 0"),
    "endless layers": (olmoe(num_hidden_layers=10**9), "num_hidden_layers: .*less than or equal"),
    "more experts than ids": (olmoe(num_experts=70_000), "num_experts: 70000: .*less than 65535"),
    "top-k above experts": (olmoe(num_experts_per_tok=65), "cannot choose 65 of 64 experts"),
    "heads do not divide": (olmoe(num_attention_heads=15), "2048 is not a multiple of .* 15"),
    "key-value heads do not divide": (olmoe(num_key_value_heads=5), "16 is not a multiple of .* 5"),
    "unknown dtype": (olmoe(torch_dtype="float12"), 'torch_dtype: "float12": .*bfloat16'),
    "a quantisation without a name": (
        olmoe(quantization_config={"bits": 4}),
        "quantization_config.quant_method",
    ),
    "a quantisation with a broken expression": (
        olmoe(quantization_config={"quant_method": "fp8", "ignore": ["re:(lm_head"]}),
        r"quantization_config: .re:\(lm_head. is no regular expression",
    ),
    "one block size": (
        olmoe(quantization_config={"quant_method": "fp8", "weight_block_size": [128]}),
        "quantization_config.weight_block_size: a block has two sizes",
    ),
    "cut short": (olmoe()[:200], r"config.json:\d+:\d+: is not valid JSON"),
    "empty": ("", r"config.json:1:1: is not valid JSON"),
    "a list": ("[1, 2]", "holds a list, no JSON object"),
    "binary": (b"\x80\x04\x95\xff\xfe", "config.json:1:1: the byte 0x80 is not UTF-8"),
    "deeply nested": ("[" * 200_000, "config.json:1:101: is nested too deeply"),
    "endless number": (
        '{"hidden_size": ' + "9" * 5000 + "}",
        "9999 is no number that a computer holds",
    ),
}

TEXT = {
    "model_type": "new_moe", "hidden_size": 64, "num_hidden_layers": 4, "num_attention_heads": 4,
    "num_key_value_heads": 2, "moe_intermediate_size": 32, "num_experts": 8,
    "num_experts_per_tok": 2, "vocab_size": 100,
}  # fmt: skip
"""A family that nobody has described."""
DESCRIBED: dict[str, tuple[dict[str, Any], str]] = {
    "one expert": ({"num_experts": 1}, "has no experts"),
    "text for experts": ({"num_experts": "many"}, "num_experts: 'many': should be a whole number"),
    "endless experts": ({"num_experts": 10**9}, "num_experts: 1000000000: should be from 0 to"),
    "top-k above experts": ({"num_experts_per_tok": 9}, "cannot choose 9 of 8 experts"),
    "no top-k": ({"num_experts_per_tok": None}, "no key says how many experts a token takes"),
    "no layers": ({"num_hidden_layers": 0}, "num_hidden_layers: 0: should be above 0"),
    "endless layers": ({"num_hidden_layers": 10**12}, "num_hidden_layers: .* from 0 to 4096"),
    "no vocabulary": ({"vocab_size": None}, "no key says the model's vocabulary .vocab_size"),
    "no width": ({"moe_intermediate_size": None}, "no key says an expert's width"),
    "dense first without a width": ({"first_k_dense_replace": 2}, "layer 0 is dense, and no key"),
    "all layers dense": ({"mlp_only_layers": [0, 1, 2, 3]}, "no layer has experts"),
    "heads do not divide": (
        {"num_key_value_heads": 3},
        "4 attention heads are not a multiple of 3",
    ),
    "hidden size does not divide": ({"hidden_size": 66}, "hidden_size: 66 is not a multiple of 4"),
    "a fraction": ({"hidden_size": 64.5}, "hidden_size: '64.5': should be a whole number"),
    "negative": ({"moe_intermediate_size": -3}, "moe_intermediate_size: -3: should be from 0"),
    "a list that is short": ({"layer_types": ["full_attention"]}, "has 1 entries for 4 layers"),
    "linear layers beyond the last": (
        {"linear_attn_config": {"full_attn_layers": [1, 9], "kda_layers": [2]}},
        "linear_attn_config: its lists are not of 4 layers",
    ),
    "linear attention without sizes": (
        {"layer_types": ["linear_attention"] * 4, "linear_num_value_heads": 4},
        "no key says the model's linear_num_key_heads",
    ),
    "a latent without sizes": ({"kv_lora_rank": 16}, "no key says the model's nope_size"),
    "a broken quantisation": (
        {"quantization_config": {"quant_method": "fp8", "weight_block_size": [1]}},
        "quantization_config.weight_block_size: a block has two sizes",
    ),
}


def only_line(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        load_model(str(path))
    assert len(caught.value.problems) == 1
    line = str(caught.value)
    assert "\n" not in line
    return line


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_model_is_one_clear_line(case: str, tmp_path: Path) -> None:
    content, expected = BROKEN[case]
    path = tmp_path / "config.json"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = only_line(path)
    assert line.startswith(str(path))
    assert re.search(expected, line)


@pytest.mark.parametrize("case", DESCRIBED)
def test_a_described_model_that_contradicts_itself_is_one_clear_line(
    case: str, tmp_path: Path
) -> None:
    changes, expected = DESCRIBED[case]
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**TEXT, **changes}), encoding="utf-8")
    line = only_line(path)
    assert line.startswith(str(path))
    assert re.search(expected, line)


def test_a_folder_without_a_configuration(tmp_path: Path) -> None:
    assert "neither a config.json nor a GGUF file" in only_line(tmp_path)


def test_a_path_that_is_no_file(tmp_path: Path) -> None:
    assert "neither a shipped card nor a path" in only_line(tmp_path / "absent.json")


def test_every_mistake_of_a_file_is_reported_at_once(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(olmoe(hidden_size="big", num_experts=-1, vocab_size=None), encoding="utf-8")
    with pytest.raises(InputError) as caught:
        load_model(str(path))
    assert {problem.path for problem in caught.value.problems} == {
        "hidden_size",
        "num_experts",
        "vocab_size",
    }
