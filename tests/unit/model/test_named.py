"""Models by the names that files and repositories have."""

from __future__ import annotations

from pathlib import Path

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.model import load_model, model_names
from moesim.model.loader import CARDS
from moesim.model.named import Named, from_checkpoint, from_gguf, named
from moesim.model.repositories import card_of, repositories
from moesim.model.slicing import unsliced_experts


@pytest.mark.parametrize("card", model_names())
def test_a_card_is_known_by_its_own_name_in_any_format(card: str) -> None:
    names = [card, card.upper(), f"/models/{card}-Q4_K_M-00001-of-00003.gguf", f"org/{card}-GGUF"]
    assert {card_of(name) for name in names} == {card}


@pytest.mark.parametrize(("card", "repository"), repositories().items())
def test_a_card_is_known_by_its_repository(card: str, repository: str) -> None:
    last = repository.rpartition("/")[2]
    names = [repository, f"unsloth/{last}-GGUF", f"{last}-UD-Q4_K_XL.gguf", f"{repository}-FP8"]
    assert {card_of(name) for name in names} == {card}
    assert load_model(from_checkpoint(repository, ()).model).name == card


@pytest.mark.parametrize(
    ("name", "model", "told"),
    [
        ("Qwen3-30B-A3B-Thinking-2507-IQ4_XS.gguf", "qwen3-30b-a3b-2507@iq4_xs", "the shape of"),
        ("openai_gpt-oss-20b-MXFP4.gguf", "gpt-oss-20b@mxfp4_moe", ""),
        ("gpt-oss-20b-BF16.gguf", "gpt-oss-20b", ""),
        ("Mixtral-8x7B-Instruct-v0.1.Q5_K_M.gguf", "mixtral-8x7b@q5_k_m", "the shape of"),
        ("DeepSeek-V3.2-Exp-Q2_K.gguf", "deepseek-v3.2@q2_k", "the shape of"),
        ("Kimi-K2-Thinking-UD-Q2_K_XL-00001-of-00008.gguf", "kimi-k2.5@q2_k", "own mix"),
        ("Qwen3-30B-A3B-Q4.gguf", "qwen3-30b-a3b@q4_k_m", "says only how many bits"),
        ("Qwen3-30B-A3B.gguf", "qwen3-30b-a3b", "names no format"),
        ("Qwen3-30B-A3B-IQ9_XX.gguf", "qwen3-30b-a3b", "no mix that moesim knows"),
        ("Qwen3-30B-A3B-IQ9_XX.gguf", "qwen3-30b-a3b", "(bf16, 61 GB)"),
        ("Qwen3-30B-A3B-IQ9_XX.gguf", "qwen3-30b-a3b", "--set model=qwen3-30b-a3b@iq4_k"),
        ("Qwen3-30B-A3B-IQ3_XX.gguf", "qwen3-30b-a3b", "--set model=qwen3-30b-a3b@iq3_k"),
        ("Qwen3-30B-A3B-IQ4_KSS.gguf", "qwen3-30b-a3b@iq4_kss", "a mix's others differ"),
        ("Qwen3-30B-A3B-smol-IQ2_KL.gguf", "qwen3-30b-a3b@iq2_kl", "a mix's others differ"),
        ("Qwen3-30B-A3B-IQ4_KS_R4.gguf", "qwen3-30b-a3b@iq4_ks", "a mix's others differ"),
        ("Qwen3-30B-A3B-IQ1_S_R4.gguf", "qwen3-30b-a3b@iq1_s_r4", "a mix's others differ"),
        ("Qwen3-30B-A3B-Q4_K_M_R4.gguf", "qwen3-30b-a3b@q4_k_m", "rows interleaved"),
        ("gpt-oss-120b-IQ4_KSS.gguf", "gpt-oss-120b@mxfp4_moe", "experts stay in mxfp4"),
        ("Jamba-1.5-Q4_K_M.gguf", "Jamba-1.5-Q4_K_M.gguf", "of no card"),
    ],
)
def test_a_files_name_says_model_and_format(name: str, model: str, told: str) -> None:
    found = from_gguf(name, ())
    assert found.model == model
    assert told in " ".join((*found.assumed, *found.wrong))
    assert bool(told) == bool(found.assumed + found.wrong)


@pytest.mark.parametrize(
    ("name", "quantization", "model"),
    [
        ("Qwen/Qwen3-30B-A3B-FP8", None, "qwen3-30b-a3b@fp8_block"),
        ("Qwen/Qwen3-30B-A3B", "fp8", "qwen3-30b-a3b@fp8"),
        # what a quantised name says stays, however its numbers are read
        ("Qwen/Qwen3-30B-A3B-FP8", "fp8", "qwen3-30b-a3b@fp8_block"),
        ("unsloth/gpt-oss-20b-BF16", "fp8", "gpt-oss-20b@fp8"),
        # an -FP8 is what its publisher makes
        ("zai-org/GLM-4.5-Air-FP8", None, "glm-4.5-air@fp8"),
        ("/models/GLM-4.7-FP8", None, "glm-4.6@fp8"),
        ("zai-org/GLM-5-FP8", None, "glm-5@fp8_block"),
        ("meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8", None, "llama-4-maverick@fp8"),
        ("nvidia/Qwen3-235B-A22B-FP8", "modelopt", "qwen3-235b-a22b@fp8_static"),
        ("RedHatAI/Qwen3-30B-A3B-FP8-dynamic", None, "qwen3-30b-a3b@fp8"),
        ("RedHatAI/Qwen3-30B-A3B-FP8-block", None, "qwen3-30b-a3b@fp8_block"),
        ("neuralmagic/Mixtral-8x7B-Instruct-v0.1-FP8", None, "mixtral-8x7b@fp8_static"),
        ("amd/Mixtral-8x7B-Instruct-v0.1-FP8-KV", None, "mixtral-8x7b@fp8_static"),
        ("nvidia/DeepSeek-R1-0528-NVFP4-v2", None, "deepseek-r1@nvfp4"),
        ("MiniMaxAI/MiniMax-M2", None, "minimax-m2.5"),
        ("Qwen/Qwen3-30B-A3B-GPTQ-Int4", "gptq_marlin", "qwen3-30b-a3b@int4"),
        ("nvidia/Qwen3-30B-A3B-NVFP4", "modelopt_fp4", "qwen3-30b-a3b@nvfp4"),
        ("nvidia/Qwen3-30B-A3B-NVFP4", "compressed-tensors", "qwen3-30b-a3b@nvfp4"),
        ("deepseek-ai/DeepSeek-V3", "fp8", "deepseek-v3"),
        ("openai/gpt-oss-120b", "mxfp4", "gpt-oss-120b"),
        ("Qwen/Qwen3-30B-A3B", "bitsandbytes", "qwen3-30b-a3b"),
    ],
)
def test_a_checkpoints_name_or_its_quantisation_says_the_format(
    name: str, quantization: str | None, model: str
) -> None:
    found = from_checkpoint(name, (), quantization)
    assert found.model == model
    assert bool(found.wrong) == (quantization == "bitsandbytes")


@pytest.mark.parametrize(
    ("quantization", "wrong"), [("awq_marlin", ""), ("fp8", "says int4"), ("moe_x", "says int4")]
)
def test_a_quantised_checkpoint_is_read_as_its_name_has_it(quantization: str, wrong: str) -> None:
    found = from_checkpoint("QuantTrio/GLM-4.6-AWQ", (), quantization)
    assert found.model == "glm-4.6@int4"
    assert wrong in " ".join(found.wrong)
    assert bool(wrong) == bool(found.wrong)


@pytest.mark.parametrize("gpus", [2, 4, 8])
def test_fp8_without_blocks_is_sliced_as_vllm_does(gpus: int) -> None:
    """1,408 inner channels: parts of 704 have no whole blocks of 128."""
    assert unsliced_experts(load_model("zai-org/GLM-4.5-Air-FP8"), gpus) is None
    assert unsliced_experts(load_model("glm-4.5-air@fp8_block"), gpus) is not None


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("openai/gpt-oss-120b", "gpt-oss-120b"),
        ("https://huggingface.co/openai/gpt-oss-120b", "gpt-oss-120b"),
        ("Qwen/Qwen3-30B-A3B-FP8", "qwen3-30b-a3b@fp8_block"),
        ("RedHatAI/Qwen3-30B-A3B-quantized.w4a16", "qwen3-30b-a3b@int4"),
        ("mlx-community/Qwen3-30B-A3B-4bit", "qwen3-30b-a3b@int4_g64"),
        ("nvidia/DeepSeek-R1-0528-FP4", "deepseek-r1@nvfp4"),
        ("unsloth/gpt-oss-20b-BF16", "gpt-oss-20b@bf16"),
        ("hf.co/unsloth/Qwen3-30B-A3B-GGUF:IQ4_XS", "qwen3-30b-a3b@iq4_xs"),
        ("unsloth/Qwen3-30B-A3B-GGUF", "qwen3-30b-a3b@q4_k_m"),
        ("ggml-org/gpt-oss-120b-GGUF", "gpt-oss-120b@mxfp4_moe"),
        ("gpt-oss:20b", "gpt-oss-20b@mxfp4_moe"),
        ("qwen3:30b", "qwen3-30b-a3b@q4_k_m"),
        ("qwen3:30b-a3b-instruct-2507-q8_0", "qwen3-30b-a3b-2507@q8_0"),
        ("qwen3-30b", "qwen3-30b-a3b"),
        ("llama4:128x17b", "llama-4-maverick@q4_k_m"),
        ("deepseek-coder-v2:16b", "deepseek-v2-lite@q4_k_m"),
        ("baidu/ERNIE-4.5-21B-A3B-PT", "ernie-4.5-21b-a3b"),
        ("rednote-hilab/dots.llm1.inst", "dots-llm1"),
        ("moonshotai/Kimi-K2-Thinking", "kimi-k2.5"),
        ("Qwen/Qwen3-30B-A3B@q4_k_m", "qwen3-30b-a3b@q4_k_m"),
        ("Qwen/Qwen3-30B-A3B-FP8@kv_cache=fp8", "qwen3-30b-a3b@fp8_block,kv_cache=fp8"),
    ],
)
def test_what_others_call_a_model_is_its_card_and_the_model_says_so(name: str, model: str) -> None:
    found = named(name)
    assert found.model == model
    assert load_model(name).notes == (*load_model(model).notes, *found.assumed)
    assert found.assumed[0].startswith(f"'{name.partition('@')[0]}' is read as ")


@pytest.mark.parametrize(
    "name",
    [
        "deepseek-r1:8b",
        "deepseek-ai/DeepSeek-R1-Distill-Qwen-32B",
        "xai-org/grok-2",
        "Qwen3-30B-A3B-Q4_K_M.gguf",
        "models/qwen3-30b-a3b/config.json",
        "qwen3",
        "",
    ],
)
def test_other_models_and_files_that_are_not_here_are_no_card(name: str) -> None:
    assert named(name) == Named(name)
    with pytest.raises(InputError):
        load_model(name)


def test_a_gguf_file_that_is_not_here_has_a_name_without_it() -> None:
    with pytest.raises(InputError, match="no such file; 'qwen3-30b-a3b@q4_k_m' is such a model"):
        load_model("Qwen3-30B-A3B-Q4_K_M.gguf")


def test_a_folder_of_that_name_is_itself(tmp_path: Path) -> None:
    folder = tmp_path / "Qwen" / "Qwen3-30B-A3B-FP8"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text((CARDS / "olmoe-1b-7b.json").read_text("utf-8"), "utf-8")
    name = "Qwen/Qwen3-30B-A3B-FP8"
    assert named(name, (tmp_path,)) == Named(name)
    assert load_model(name, (tmp_path,)).parameters == load_model("olmoe-1b-7b").parameters


@pytest.mark.parametrize(
    ("word", "format_name"),
    [("awq", "int4"), ("GPTQ-Int4", "int4"), ("fp4", "nvfp4"), ("Q4", "q4_k_m"), ("q8", "q8_0")],
)
def test_formats_have_the_names_of_checkpoints_too(word: str, format_name: str) -> None:
    assert named(f"qwen3-30b-a3b@{word}").model == f"qwen3-30b-a3b@{format_name}"


def test_a_run_says_what_its_model_was_read_as() -> None:
    run = moesim.run(
        {
            "model": "unsloth/gpt-oss-20b-GGUF",
            "hardware": "rtx-4090",
            "trace": "gpt-oss-20b",
            "workload": {"requests": 1, "phase": "decode"},
        }
    )
    assert (
        "'unsloth/gpt-oss-20b-GGUF' is read as gpt-oss-20b@mxfp4_moe" in run.summary["model_notes"]
    )
