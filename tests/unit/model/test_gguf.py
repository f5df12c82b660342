"""GGUF files of the shapes of real models: bytes exact by layer and tensor, from headers alone."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.config.files.inputs import file_of, files_read
from moesim.model import ModelSpec, load_model
from moesim.model.gguf.header import read_header
from moesim.model.gguf.types import BY_NUMBER
from tests.gguf_files import Row, gguf, write

F32, Q8_0, Q4_K, Q6_K, BF16, MXFP4 = 0, 8, 12, 14, 30, 39
SIZES = {F32: (1, 4), Q8_0: (32, 34), Q4_K: (256, 144), Q6_K: (256, 210), BF16: (1, 2),
         MXFP4: (32, 17)}  # fmt: skip
"""Weights in a block and its bytes, from llama.cpp's ggml-common.h."""


def row(name: str, kind: int, *shape: int) -> Row:
    weights, size = SIZES[kind]
    assert shape[0] % weights == 0
    return name, shape, kind, prod(shape) // weights * size


def of(rows: list[Row], *words: str) -> int:
    return sum(size for name, _, _, size in rows if any(word in name for word in words))


def head(architecture: str, **values: Any) -> dict[str, Any]:
    own = {f"{architecture}.{key}": value for key, value in values.items()}
    return {"general.architecture": architecture, **own}


def qwen() -> tuple[dict[str, Any], list[Row]]:
    """Qwen3-30B-A3B Q4_K_M: half of the down projections and value matrices in 6 bits."""
    rows = [
        row("token_embd.weight", Q4_K, 2048, 151936), row("output.weight", Q6_K, 2048, 151936),
        row("output_norm.weight", F32, 2048),
    ]  # fmt: skip
    for i in range(48):
        more, b = (Q6_K if i < 6 or i >= 42 or (i - 6) % 3 == 2 else Q4_K), f"blk.{i}."
        rows += [
            row(f"{b}attn_norm.weight", F32, 2048), row(f"{b}ffn_norm.weight", F32, 2048),
            row(f"{b}attn_q.weight", Q4_K, 2048, 4096), row(f"{b}attn_k.weight", Q4_K, 2048, 512),
            row(f"{b}attn_v.weight", more, 2048, 512),
            row(f"{b}attn_output.weight", Q4_K, 4096, 2048),
            row(f"{b}attn_q_norm.weight", F32, 128), row(f"{b}attn_k_norm.weight", F32, 128),
            row(f"{b}ffn_gate_inp.weight", F32, 2048, 128),
            row(f"{b}ffn_gate_exps.weight", Q4_K, 2048, 768, 128),
            row(f"{b}ffn_up_exps.weight", Q4_K, 2048, 768, 128),
            row(f"{b}ffn_down_exps.weight", more, 768, 2048, 128),
        ]  # fmt: skip
    values = {
        "block_count": 48, "embedding_length": 2048, "attention.head_count": 32,
        "attention.head_count_kv": 4, "attention.key_length": 128,
        "attention.value_length": 128, "expert_count": 128, "expert_used_count": 8,
        "context_length": 40960,
    }  # fmt: skip
    return head("qwen3moe", **values), rows


def gpt_oss() -> tuple[dict[str, Any], list[Row]]:
    """gpt-oss-120b as ggml-org has it: MXFP4 experts with fp32 biases, all else in 8 bits."""
    rows = [
        row("token_embd.weight", Q8_0, 2880, 201088), row("output.weight", Q8_0, 2880, 201088),
        row("output_norm.weight", F32, 2880),
    ]  # fmt: skip
    for i in range(36):
        b = f"blk.{i}."
        rows += [
            row(f"{b}attn_norm.weight", F32, 2880),
            row(f"{b}post_attention_norm.weight", F32, 2880),
            row(f"{b}attn_q.weight", Q8_0, 2880, 4096), row(f"{b}attn_q.bias", F32, 4096),
            row(f"{b}attn_k.weight", Q8_0, 2880, 512), row(f"{b}attn_k.bias", F32, 512),
            row(f"{b}attn_v.weight", Q8_0, 2880, 512), row(f"{b}attn_v.bias", F32, 512),
            row(f"{b}attn_output.weight", Q8_0, 4096, 2880), row(f"{b}attn_output.bias", F32, 2880),
            row(f"{b}attn_sinks.weight", F32, 64),
            row(f"{b}ffn_gate_inp.weight", F32, 2880, 128), row(f"{b}ffn_gate_inp.bias", F32, 128),
        ]  # fmt: skip
        for part in ("gate", "up", "down"):
            rows += [
                row(f"{b}ffn_{part}_exps.weight", MXFP4, 2880, 2880, 128),
                row(f"{b}ffn_{part}_exps.bias", F32, 2880, 128),
            ]
    values = {
        "block_count": 36, "embedding_length": 2880, "attention.head_count": 64,
        "attention.head_count_kv": 8, "attention.key_length": 64, "attention.value_length": 64,
        "attention.sliding_window": 128, "expert_count": 128, "expert_used_count": 4,
    }  # fmt: skip
    return head("gpt-oss", **values), rows


def deepseek() -> tuple[dict[str, Any], list[Row]]:
    """DeepSeek-V3 Q4_K_M: three dense layers, a shared expert, a latent for keys and values."""
    rows = [
        row("token_embd.weight", Q4_K, 7168, 129280), row("output.weight", Q6_K, 7168, 129280),
        row("output_norm.weight", F32, 7168),
    ]  # fmt: skip
    for i in range(61):
        b = f"blk.{i}."
        rows += [
            row(f"{b}attn_norm.weight", F32, 7168), row(f"{b}ffn_norm.weight", F32, 7168),
            row(f"{b}attn_q_a.weight", Q4_K, 7168, 1536),
            row(f"{b}attn_q_a_norm.weight", F32, 1536),
            row(f"{b}attn_q_b.weight", Q4_K, 1536, 24576),
            row(f"{b}attn_kv_a_mqa.weight", Q8_0, 7168, 576),
            row(f"{b}attn_kv_a_norm.weight", F32, 512),
            row(f"{b}attn_k_b.weight", Q8_0, 128, 512, 128),
            row(f"{b}attn_v_b.weight", Q8_0, 512, 128, 128),
            row(f"{b}attn_output.weight", Q4_K, 16384, 7168),
        ]  # fmt: skip
        ending, count, width = ("_exps", (256,), 2048) if i > 2 else ("", (), 18432)
        rows += [
            row(f"{b}ffn_gate{ending}.weight", Q4_K, 7168, width, *count),
            row(f"{b}ffn_up{ending}.weight", Q4_K, 7168, width, *count),
            row(f"{b}ffn_down{ending}.weight", Q6_K, width, 7168, *count),
        ]
        if i > 2:
            rows += [
                row(f"{b}ffn_gate_inp.weight", F32, 7168, 256),
                row(f"{b}exp_probs_b.bias", F32, 256),
                row(f"{b}ffn_gate_shexp.weight", Q4_K, 7168, 2048),
                row(f"{b}ffn_up_shexp.weight", Q4_K, 7168, 2048),
                row(f"{b}ffn_down_shexp.weight", Q6_K, 2048, 7168),
            ]  # fmt: skip
    values = {
        "block_count": 61, "embedding_length": 7168, "attention.head_count": 128,
        "attention.head_count_kv": 1, "attention.kv_lora_rank": 512, "rope.dimension_count": 64,
        "attention.key_length": 576, "attention.value_length": 512,
        "attention.key_length_mla": 192, "attention.value_length_mla": 128, "expert_count": 256,
        "expert_used_count": 8, "leading_dense_block_count": 3,
    }  # fmt: skip
    return head("deepseek2", **values), rows


FILES = {"qwen3": (qwen, 30_532_122_624), "gpt-oss": (gpt_oss, 116_829_156_672),
         "deepseek": (deepseek, 671_026_419_200)}  # fmt: skip


@pytest.mark.parametrize("name", FILES)
def test_bytes_are_those_of_the_tensors_by_layer_and_class(name: str, tmp_path: Path) -> None:
    make, parameters = FILES[name]
    metadata, rows = make()
    model = load_model(str(write(tmp_path / "model.gguf", metadata, rows)))
    assert model.parameters == parameters
    assert model.bytes == sum(size for *_, size in rows)
    assert model.embedding_bytes == of(rows, "token_embd")
    assert model.head_bytes == of(rows, "output.weight") - of(rows, "attn_output.weight")
    for layer in model.layers:
        own = [one for one in rows if one[0].startswith(f"blk.{layer.index}.")]
        assert layer.bytes == of(own, "blk")
        if layer.moe is None:
            assert layer.dense is not None
            assert layer.dense.bytes == of(own, "ffn_gate.", "ffn_up.", "ffn_down.")
            continue
        assert layer.moe.expert.bytes * layer.moe.experts == of(own, "_exps")
        assert (layer.moe.shared.bytes if layer.moe.shared else 0) == of(own, "shexp")
        assert layer.moe.router_bytes == of(own, "gate_inp", "exp_probs")
    assert model.notes == ()


def test_types_may_differ_by_layer(tmp_path: Path) -> None:
    model = load_model(str(write(tmp_path / "model.gguf", *qwen())))
    sizes = [layer.moe.expert.bytes for layer in model.layers if layer.moe]
    four = 768 * 2048 * 144 // 256
    assert sizes[0] == 2 * four + 768 * 2048 * 210 // 256
    assert sizes[6] == 3 * four
    assert (model.name, model.family, model.longest_context) == ("model", "qwen3moe", 40960)


@pytest.mark.parametrize("name", FILES)
def test_tensors_may_come_in_any_order(name: str, tmp_path: Path) -> None:
    """llama-quantize sorts them by name: gpt-oss' biases of experts before their weights."""
    metadata, rows = FILES[name][0]()
    models = [
        load_model(str(write(tmp_path / "a.gguf", metadata, one))) for one in (rows, rows[::-1])
    ]
    assert models[0] == models[1]
    assert all(
        layer.moe is None or layer.moe.expert.hidden_size > 2000 for layer in models[0].layers
    )


def test_attention_is_understood_from_the_metadata(tmp_path: Path) -> None:
    oss = load_model(str(write(tmp_path / "a.gguf", *gpt_oss())))
    assert [layer.attention.window for layer in oss.layers] == [128, None] * 18
    assert oss.layers[0].attention.kv_bytes_per_token == 2 * 8 * 64 * 2
    latent = load_model(str(write(tmp_path / "b.gguf", *deepseek()))).layers[5].attention
    assert latent.kv_bytes_per_token == (512 + 64) * 2
    assert (latent.dtype, oss.layers[0].attention.dtype) == ("q4_k", "q8_0")
    assert (latent.query_key_head_size, latent.value_head_size) == (192, 128)


SMALL = head("small", block_count=1, embedding_length=256, expert_count=4, expert_used_count=2,
             **{"attention.head_count": 4, "attention.head_count_kv": 2})  # fmt: skip
ROWS = [
    row("token_embd.weight", F32, 256, 10), row("blk.0.attn_q.weight", F32, 256, 256),
    row("blk.0.ffn_gate_inp.weight", F32, 256, 4),
    row("blk.0.ffn_up_exps.weight", Q4_K, 256, 256, 4),
    row("blk.0.ffn_down_exps.weight", Q4_K, 256, 256, 4),
]  # fmt: skip


def small(tmp_path: Path, *more: Row, **changes: Any) -> ModelSpec:
    metadata = {**SMALL, **{f"small.{key}": value for key, value in changes.items()}}
    kept = {key: value for key, value in metadata.items() if value is not None}
    return load_model(str(write(tmp_path / "small.gguf", kept, [*ROWS, *more])))


def test_networks_without_a_gate_have_two_matrices(tmp_path: Path) -> None:
    model = small(tmp_path)
    moe = model.layers[0].moe
    assert moe is not None
    assert (moe.expert.gated, moe.expert.parameters) == (False, 2 * 256 * 256)
    assert model.head_parameters == 0  # tied


def test_layers_for_further_tokens_are_counted_apart(tmp_path: Path) -> None:
    more = [
        row("blk.1.nextn.eh_proj.weight", F32, 512, 256),
        row("blk.1.ffn_up_exps.weight", Q4_K, 256, 256, 4),
    ]
    model = small(tmp_path, *more, block_count=2)
    assert model.mtp_bytes == sum(size for *_, size in more)
    assert model.bytes == sum(size for *_, size in ROWS)
    assert len(model.layers) == 1


def test_a_state_is_read_from_the_shapes(tmp_path: Path) -> None:
    values = {"ssm.state_size": 128, "ssm.inner_size": 512, "ssm.group_count": 2,
              "ssm.time_step_rank": 4, "ssm.conv_kernel": 4}  # fmt: skip
    model = small(tmp_path, row("blk.0.ssm_out.weight", F32, 512, 256), **values)
    block = model.layers[0].attention
    assert block.state_bytes == 4 * (512 * 128 + 3 * (512 + 2 * 2 * 128))
    assert (block.heads, block.kind) == (4, "state")
    assert any("constant state" in note for note in model.notes)


def test_a_gated_delta_net_is_known_by_its_matrices(tmp_path: Path) -> None:
    values = {"ssm.state_size": 128, "ssm.inner_size": 512, "ssm.group_count": 2,
              "ssm.time_step_rank": 4, "ssm.conv_kernel": 4}  # fmt: skip
    more = [row("blk.0.ssm_out.weight", F32, 512, 256), row("blk.0.ssm_beta.weight", F32, 256, 4)]
    assert small(tmp_path, *more, **values).layers[0].attention.kind == "gated delta net"


def test_what_nobody_knows_is_counted_and_said(tmp_path: Path) -> None:
    model = small(tmp_path, row("blk.0.hyena_filter.weight", F32, 256, 256))
    assert model.layers[0].attention.bytes == 2 * 4 * 256 * 256
    assert "tensors hyena_filter.weight are unknown" in model.notes[0]


def test_a_type_that_nobody_knows_takes_the_bytes_to_the_next_tensor(tmp_path: Path) -> None:
    strange = ("blk.0.attn_v.weight", (256, 256), 143, 40_000)
    path = write(tmp_path / "small.gguf", SMALL, [*ROWS[:2], strange, *ROWS[2:]])
    model = load_model(str(path))
    assert model.layers[0].attention.bytes == 4 * 256 * 256 + 40_000
    assert "type 143" in model.notes[0]


def test_a_file_without_its_content_is_incomplete(tmp_path: Path) -> None:
    (tmp_path / "small.gguf").write_bytes(gguf(SMALL, ROWS))
    model = load_model(str(tmp_path / "small.gguf"))
    assert model.bytes == sum(size for *_, size in ROWS)
    assert "not in the file: it is incomplete" in model.notes[0]


def test_parts_of_a_split_file_are_one_model(tmp_path: Path) -> None:
    one = load_model(str(write(tmp_path / "whole.gguf", SMALL, ROWS)))
    split = {"split.count": 2, "split.tensors.count": len(ROWS)}
    first = write(tmp_path / "m-00001-of-00002.gguf", {**SMALL, **split}, ROWS[:2])
    second = write(tmp_path / "m-00002-of-00002.gguf", split, ROWS[2:])
    for path in (first, second):
        model = load_model(str(path))
        assert (model.name, model.layers, model.bytes) == ("m", one.layers, one.bytes)


def test_a_folder_stands_for_the_file_in_it(tmp_path: Path) -> None:
    write(tmp_path / "mmproj-a.gguf", SMALL, [])
    assert load_model(str(write(tmp_path / "a.gguf", SMALL, ROWS).parent)).name == "a"
    write(tmp_path / "b.gguf", SMALL, ROWS)
    with pytest.raises(InputError, match="holds the models a, b; name one file"):
        load_model(str(tmp_path))


def test_only_the_header_is_read_of_a_file_as_long_as_a_disk(tmp_path: Path) -> None:
    path = write(tmp_path / "long.gguf", SMALL, [*ROWS, ("x", (1 << 40,), 24, 1 << 40)])
    assert path.stat().st_size > 1 << 40
    with files_read() as files:
        model = load_model(str(path))
    assert model.other_bytes == 1 << 40
    assert [file.path for file in files] == [path]
    assert file_of(path) == files[0]  # known, and not read through


def test_another_header_or_length_is_another_file(tmp_path: Path) -> None:
    digests = set()
    for rows in (ROWS, [*ROWS, row("x", F32, 256)], [*ROWS, row("x", Q4_K, 1024)]):
        with files_read() as files:
            load_model(str(write(tmp_path / "small.gguf", SMALL, rows)))
        digests.add(files[0].sha256)
    assert len(digests) == 3


def test_values_of_every_type_are_read(tmp_path: Path) -> None:
    values = {"a.flag": True, "a.float": 1.5, "a.text": "x", "a.long": 2**40, "a.list": [1, 2, 3],
              "a.texts": ["p", "q"], "a.none": [], "a.vocabulary": ["t"] * 5000,
              "a.scores": [0] * 5000}  # fmt: skip
    found = read_header(write(tmp_path / "small.gguf", {**SMALL, **values}, ROWS)).metadata
    passed = {"a.vocabulary": None, "a.scores": None}
    assert {key: found[key] for key in values} == {**values, **passed}


def test_the_table_of_types_is_llama_cpps() -> None:
    gguf_py = pytest.importorskip("gguf")
    sizes = {int(kind): size for kind, size in gguf_py.GGML_QUANT_SIZES.items()}
    ours = {number: (one.weights, one.block_bytes) for number, one in BY_NUMBER.items()}
    assert {number: ours.get(number) for number in sizes} == sizes
