"""Formats that a user chooses: llama-quantize's mixes, and a format for each class."""

from __future__ import annotations

from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.inputs import inputs_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.cache import key_of
from moesim.experiment.schema.json_schema import json_schema
from moesim.model import load_model
from moesim.model.chosen import with_experts_in
from tests.gguf_files import write
from tests.unit.model.test_gguf import deepseek, qwen

# sizes of published files, in bytes; a file is its tensors, and some megabytes of vocabulary
PUBLISHED = {
    "qwen3-30b-a3b@q4_k_m": 18_556_686_912,
    "gpt-oss-20b@mxfp4_moe": 12_109_565_632,
    "mixtral-8x7b@q4_k_m": 28_446_410_624,
    "qwen3-235b-a22b@experts=iq3_k,down=iq4_k,attention=iq6_k,embedding=q8_0,head=q8_0":
        114_707_839_058,
}  # fmt: skip


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_mix_is_as_long_as_the_published_file(name: str) -> None:
    assert load_model(name).bytes == pytest.approx(PUBLISHED[name], rel=1.2e-3)


def test_a_mix_has_the_bytes_of_the_file_by_layer_and_class(tmp_path: Path) -> None:
    chosen = load_model("qwen3-30b-a3b@Q4_K_M")
    file = load_model(str(write(tmp_path / "model.gguf", *qwen())))
    assert chosen.bytes == file.bytes
    assert [layer.bytes for layer in chosen.layers] == [layer.bytes for layer in file.layers]
    for ours, theirs in zip(chosen.moe_layers, file.moe_layers, strict=True):
        assert ours.moe
        assert theirs.moe
        assert ours.moe.expert.bytes == theirs.moe.expert.bytes
        assert ours.moe.router_bytes == theirs.moe.router_bytes
    assert (chosen.embedding_bytes, chosen.head_bytes) == (file.embedding_bytes, file.head_bytes)


def test_six_bits_are_where_llama_cpp_puts_them() -> None:
    layers = load_model("qwen3-30b-a3b@q4_k_m").moe_layers
    sizes = [layer.moe.expert.bytes for layer in layers if layer.moe]
    more = [i < 6 or i >= 42 or (i - 6) % 3 == 2 for i in range(48)]
    assert [size == max(sizes) for size in sizes] == more


def test_rows_that_are_no_whole_blocks_fall_back() -> None:
    # 2880 is no multiple of 256, and llama-quantize takes q5_0 for q4_k there
    expert = next(x.moe.expert for x in load_model("gpt-oss-20b@q4_k_s").layers[8:] if x.moe)
    assert expert.bytes == 3 * 2880 * 2880 * 22 // 32 + 3 * 2880 * 4


def test_formats_by_class() -> None:
    text = "experts=mxfp4,attention=q8_0,embedding=q4_k,head=q6_k"
    model, plain = load_model(f"qwen3-30b-a3b@{text}"), load_model("qwen3-30b-a3b")
    moe, before = model.layers[0].moe, plain.layers[0].moe
    assert moe
    assert before
    assert moe.expert.bytes == before.expert.parameters * 17 // 32
    assert moe.router_bytes == before.router_bytes
    assert model.embedding_bytes == 151936 * 2048 * 144 // 256
    assert model.head_bytes == 151936 * 2048 * 210 // 256
    matrices = plain.layers[0].attention.parameters - 256
    assert model.layers[0].attention.bytes == matrices * 34 // 32 + 2 * 256


def test_down_projections_may_have_a_format_of_their_own() -> None:
    matrix = 768 * 2048 // 256
    for text, size in (
        ("experts=iq4_k,down=iq5_k", (2 * 144 + 176) * matrix),
        ("down=iq5_k", (2 * 512 + 176) * matrix),
        # each row of ik_llama.cpp's own has a scale before its blocks
        ("experts=iq4_ks", 2 * 768 * (8 * 136 + 4) + 2048 * (3 * 136 + 4)),
    ):
        layers = load_model(f"qwen3-30b-a3b@{text}").moe_layers
        assert {layer.moe.expert.bytes for layer in layers if layer.moe} == {size}


@pytest.mark.parametrize(
    ("name", "bits"),
    [
        ("fp8", 8),
        ("fp8_static", 8),
        ("nvfp4", 4.5),
        ("int4_g32", 4.5),
        ("int3_g64", 3.25),
        ("int8_g32", 8.5),
    ],
)
def test_one_format_for_all_networks(name: str, bits: float) -> None:
    model = load_model(f"qwen3-30b-a3b@{name}")
    assert model.head_bytes == 2 * model.head_parameters
    expert = next(layer.moe.expert for layer in model.layers if layer.moe)
    assert 8 * expert.bytes / expert.parameters == pytest.approx(bits, rel=1e-4)


def test_fp8_says_whether_its_inputs_have_scales_that_were_set_before() -> None:
    static = {}
    for name in ("fp8", "fp8_static", "fp8_block"):
        layers = load_model(f"olmoe-1b-7b@{name}").layers
        (expert,) = {layer.moe.expert for layer in layers if layer.moe}
        static[name] = (expert.static_input, expert.block)
    assert static == {"fp8": (False, 1), "fp8_static": (True, 1), "fp8_block": (False, 128)}


def test_a_described_model_takes_a_format_too() -> None:
    model, plain = load_model("qwen3.5-35b-a3b@q4_k_m"), load_model("qwen3.5-35b-a3b")
    assert model.parameters == plain.parameters
    assert 4.5 < 8 * model.bytes / model.parameters < 5.1
    assert model.layers[0].norm_bytes == 4 * plain.layers[0].norm_parameters
    assert model.notes == plain.notes


WRONG = [
    ("qwen3-30b-a3b@q4km", "'q4km' is no format.*did you mean 'q4_k_m'"),
    ("qwen3-30b-a3b@ud-q2_k_xl", "own mix has no rule: name its GGUF file .*, or write 'q2_k'"),
    ("qwen3-30b-a3b@expert=q4_k", "'expert' is no class of tensors.*did you mean 'experts'"),
    ("qwen3-30b-a3b@experts=q4_k_m", "'q4_k_m' is no format of one class"),
    ("qwen3-31b@q4_k_m", "neither a shipped card nor a path"),
]


@pytest.mark.parametrize(("name", "told"), WRONG)
def test_a_format_that_is_none_is_one_line(name: str, told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        load_model(name)
    assert len(caught.value.problems) == 1


def test_a_gguf_file_has_formats_of_its_own(tmp_path: Path) -> None:
    path = write(tmp_path / "model.gguf", *deepseek())
    with pytest.raises(InputError, match="has formats of its own; name it without '@q4_k_m'"):
        load_model(f"{path}@q4_k_m")


def test_a_path_may_hold_the_separator(tmp_path: Path) -> None:
    assert load_model(str(write(tmp_path / "a@q4_k_m.gguf", *qwen()))).name == "a@q4_k_m"


SMALL = {"hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet"}


def test_an_experiment_names_base_and_format() -> None:
    model = {"base": "small-moe", "format": {"experts": "q8_0", "attention": "bf16"}}
    experiment = load_experiment({**SMALL, "model": model}).experiment
    assert experiment.model == "small-moe@experts=q8_0,attention=bf16"
    set_later = load_experiment(
        {**SMALL, "model": {"base": "small-moe", "format": "q8_0"}}, ["model.format=q5_0"]
    )
    assert set_later.experiment.model == "small-moe@q5_0"


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"base": "small-moe", "format": "q99"}, "'q99' is no format"),
        ({"base": "small-moe"}, "has the keys base and format, and no other"),
        ({"base": "small-moe", "format": "q8_0", "bits": 4}, "base and format, and no other"),
        ({"base": "smal-moe", "format": "q8_0"}, "did you mean 'small-moe'"),
    ],
)
def test_a_wrong_base_or_format_is_one_line(model: dict[str, str], told: str) -> None:
    with pytest.raises(InputError, match=told) as caught:
        load_experiment({**SMALL, "model": model})
    (problem,) = caught.value.problems
    assert problem.path == "model"


def test_editors_know_both_forms() -> None:
    schema = json_schema()["properties"]["model"]
    assert [one["type"] for one in schema["anyOf"]] == ["string", "object"]
    assert "type" not in schema


def test_results_of_other_formats_are_others() -> None:
    keys = set()
    for name in ("small-moe", "small-moe@q8_0", "small-moe@q5_0"):
        experiment = load_experiment({**SMALL, "model": name}).experiment
        keys.add(key_of(experiment, inputs_of([experiment])))
    assert len(keys) == 3


@pytest.mark.parametrize(
    ("name", "layer", "cached"),
    [
        ("gpt-oss-20b", 0, 2 * 8 * 64),
        ("deepseek-v3", 5, 512 + 64),
        # its index has a format of its own
        ("deepseek-v3.2", 5, 512 + 64 + 256),
    ],
)
def test_a_kv_cache_in_fp8_has_a_byte_an_element(name: str, layer: int, cached: int) -> None:
    own, chosen = load_model(name), load_model(f"{name}@kv_cache=fp8")
    block = chosen.layers[layer].attention
    assert (block.kv_bytes_per_token, block.cache_dtype) == (cached, "fp8")
    assert chosen.bytes == own.bytes
    assert chosen.layers[layer].moe == own.layers[layer].moe
    assert chosen.name == f"{name}@kv_cache=fp8"


def test_a_kv_cache_has_a_format_beside_that_of_weights() -> None:
    both = load_model("qwen3-30b-a3b@fp8_block,kv_cache=fp8")
    alone = load_model("qwen3-30b-a3b@fp8_block")
    assert both.bytes == alone.bytes
    assert 2 * both.layers[0].attention.kv_bytes_per_token == (
        alone.layers[0].attention.kv_bytes_per_token
    )
    assert with_experts_in(both.name, "int4") == "qwen3-30b-a3b@experts=int4,kv_cache=fp8"


@pytest.mark.parametrize("name", ["qwen3-next-80b-a3b", "nllb-moe-54b"])
def test_a_constant_state_keeps_its_format(name: str) -> None:
    own, chosen = load_model(name), load_model(f"{name}@kv_cache=fp8")
    for before, after in zip(own.layers, chosen.layers, strict=True):
        if before.attention.state_bytes or not before.attention.kv_bytes_per_token:
            assert before.attention == after.attention


def test_a_kv_cache_in_a_format_that_is_none_is_one_line() -> None:
    with pytest.raises(InputError, match="'int2' is no format of a KV cache") as caught:
        load_model("gpt-oss-20b@kv_cache=int2")
    assert len(caught.value.problems) == 1
