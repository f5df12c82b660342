"""Models by the names that files and repositories have."""

from __future__ import annotations

import pytest

from moesim.experiment.engine_commands.model_names import (
    card_of,
    from_checkpoint,
    from_gguf,
    repositories,
)
from moesim.model import load_model, model_names


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
        ("Qwen3-30B-A3B-Thinking-2507-IQ4_XS.gguf", "qwen3-30b-a3b@iq4_xs", "the shape of"),
        ("openai_gpt-oss-20b-MXFP4.gguf", "gpt-oss-20b@mxfp4_moe", ""),
        ("gpt-oss-20b-BF16.gguf", "gpt-oss-20b", ""),
        ("Mixtral-8x7B-Instruct-v0.1.Q5_K_M.gguf", "mixtral-8x7b@q5_k_m", "the shape of"),
        ("DeepSeek-V3.2-Exp-Q2_K.gguf", "deepseek-v3.2@q2_k", "the shape of"),
        ("Kimi-K2-Thinking-UD-Q2_K_XL-00001-of-00008.gguf", "kimi-k2@q2_k", "own mix"),
        ("Qwen3-30B-A3B.gguf", "qwen3-30b-a3b", "names no format"),
        ("Qwen3-30B-A3B-IQ9_XX.gguf", "qwen3-30b-a3b", "no mix that moesim knows"),
        ("DeepSeek-V3.1-Q4_K_M.gguf", "DeepSeek-V3.1-Q4_K_M.gguf", "of no card"),
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
