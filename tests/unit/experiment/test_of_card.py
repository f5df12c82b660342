"""What an engine takes of a card where an experiment of served requests leaves it open."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.config.amounts.sizes import GIB
from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.building.derived import derived
from moesim.experiment.loading.resolve import load_experiment
from moesim.workload.serving.vllm import Vllm

LARGE, SMALL = "h100-sxm", "rtx-4090"


def served(hardware: str, scheduler: dict[str, Any], **choices: Any) -> Any:
    workload = {
        "requests": 2,
        "lengths": {"kind": "fixed", "input_len": 40, "output_len": 4},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous", "scheduler": scheduler},
    }
    given = {"model": "small-moe", "trace": "small-moe", "hardware": hardware}
    return load_experiment({**given, "workload": workload, **choices}).experiment


def case_of(*args: Any, **choices: Any) -> Any:
    return build(served(*args, **choices)).case


@pytest.mark.parametrize(("card", "seqs", "tokens"), [(LARGE, 1024, 8192), (SMALL, 256, 2048)])
def test_vllm_takes_more_of_a_large_card(card: str, seqs: int, tokens: int) -> None:
    case = case_of(card, {"kind": "vllm"})
    assert (case.serving.scheduler.max_num_seqs, case.kv_pool.seats) == (seqs, seqs)
    assert (case.serving.scheduler.max_num_batched_tokens, case.kv_pool.tokens) == (tokens, tokens)


def test_a_card_of_70_gib_is_large() -> None:
    assert Vllm().on_card(70 * GIB, "").max_num_seqs == 1024
    assert Vllm().on_card(70 * GIB - 1, "").max_num_seqs == 256
    assert Vllm().on_card(160 * GIB - 1, "").max_num_batched_tokens == 8192
    assert Vllm().on_card(160 * GIB, "").max_num_batched_tokens == 16384


@pytest.mark.parametrize("card", ["a100-sxm-80gb", "dgx-a100", "gb10"])
def test_what_vllm_counts_as_small_has_its_numbers(card: str) -> None:
    case = case_of(card, {"kind": "vllm"})
    assert case.serving.scheduler.max_num_seqs == 256
    assert case.serving.scheduler.max_num_batched_tokens == 2048


def test_what_is_written_stays() -> None:
    case = case_of(LARGE, {"kind": "vllm", "max_num_seqs": 3})
    assert case.serving.scheduler.max_num_seqs == 3
    assert case.serving.scheduler.max_num_batched_tokens == 8192


@pytest.mark.parametrize(
    ("card", "asked", "tokens"),
    [
        (SMALL, {"max_num_seqs": 64, "max_num_batched_tokens": 63}, "63"),
        (SMALL, {"max_num_seqs": 2049}, "2,048"),
    ],
)
def test_a_step_with_fewer_tokens_than_requests_is_refused_as_vllm_does(card, asked, tokens):
    told = f"{tokens} is less than max_num_seqs, {asked['max_num_seqs']:,}, with which vLLM does"
    with pytest.raises(InputError, match=told):
        case_of(card, {"kind": "vllm", **asked})
    case_of(card, {"kind": "vllm", "max_num_batched_tokens": 63})  # requests are left open
    case_of(card, {"kind": "vllm", "max_num_seqs": 64, "max_num_batched_tokens": 64})


@pytest.mark.parametrize(("kind", "tokens"), [("sglang", 1), ("vllm", 16), ("trtllm", 16)])
def test_a_block_is_the_engines(kind: str, tokens: int) -> None:
    case = case_of(SMALL, {"kind": kind})
    assert case.serving.room.block_size == case.kv_pool.block_size == tokens
    written = case_of(SMALL, {"kind": kind}, memory={"block_size": 32})
    assert written.serving.room.block_size == 32


def test_each_value_says_where_it_is_from() -> None:
    one: Any
    one, origins = derived(served(LARGE, {"kind": "vllm", "max_num_seqs": 3}))
    card, path = "from scheduler vllm: a card of 79.6 GiB", "workload.batching.scheduler"
    assert one.workload.batching.scheduler.max_num_batched_tokens == 8192
    assert origins[f"{path}.max_num_batched_tokens"] == card
    assert f"{path}.max_num_seqs" not in origins
    assert (one.memory.block_size, origins["memory.block_size"]) == (16, "from scheduler vllm")
    _, origins = derived(served("a100-sxm-80gb", {"kind": "vllm"}))
    small = "from scheduler vllm: a card of 80.0 GiB, which by its name counts as small"
    assert origins[f"{path}.max_num_seqs"] == small
    _, origins = derived(served(SMALL, {"kind": "llama.cpp"}, software="llama.cpp"))
    assert origins[f"{path}.checkpoints"] == (
        "from scheduler llama.cpp: as llama.cpp serves small-moe"
    )
    _, origins = derived(served(LARGE, {"kind": "sglang"}, memory={"block_size": 16}))
    assert not {key for key in origins if key.startswith(("memory", path))}
