"""Groups of layers that share blocks: those that vLLM 0.33 makes of the same layers (its functions
``get_kv_cache_groups`` and ``get_kv_cache_config_from_groups``, run once), and what a block of them
takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moesim.config.amounts.sizes import GIB
from moesim.memory.footprint.kv_groups import KvAsked, KvPlan, kv_plan
from moesim.memory.footprint.kv_pool import KvPool
from moesim.model import load_model
from moesim.model.spec import ModelSpec

TOKEN = 2 * 8 * 64 * 2
"""Bytes that a layer of gpt-oss caches of a token: keys and values, 8 heads of 64, 16 bits."""
GEMMA = [None if (i + 1) % 6 == 0 else 1024 for i in range(62)]


def with_windows(windows: list[int | None], **attention: Any) -> ModelSpec:
    """As many layers, but for their windows alike."""
    model = load_model("gpt-oss-120b")
    first = replace(model.layers[0].attention, **attention)
    layers = [
        replace(model.layers[0], index=k, attention=replace(first, window=window))
        for k, window in enumerate(windows)
    ]
    return replace(model, layers=tuple(layers))


def groups_of(windows: list[int | None]) -> list[tuple[int | None, list[int]]]:
    plan = plan_of(with_windows(windows))
    assert {(one.times, one.keeps) for one in plan.groups} == {(1, "tokens")}
    return [(one.window, list(one.layers)) for one in plan.groups]


def plan_of(model: ModelSpec, size: int = 16, **asked: Any) -> KvPlan:
    plan = kv_plan(model, KvAsked(size, **asked))
    assert plan is not None
    return plan


def test_half_and_half() -> None:
    assert groups_of([128, None] * 18) == [(128, [*range(0, 36, 2)]), (None, [*range(1, 36, 2)])]


def test_five_of_six_layers_slide() -> None:
    """10 layers keep all, so that 52 others are in 6 groups, of which two are one smaller."""
    assert groups_of(GEMMA) == [
        (1024, [0, 7, 14, 21, 28, 36, 43, 50, 57]),
        (1024, [1, 8, 15, 22, 30, 37, 44, 51, 58]),
        (1024, [2, 9, 16, 24, 31, 38, 45, 52, 60]),
        (1024, [3, 10, 18, 25, 32, 39, 46, 54, 61]),
        (1024, [4, 12, 19, 26, 33, 40, 48, 55]),
        (1024, [6, 13, 20, 27, 34, 42, 49, 56]),
        (None, [5, 11, 17, 23, 29, 35, 41, 47, 53, 59]),
    ]


def test_a_few_more_layers_of_a_kind_are_in_one_group() -> None:
    """13 are fewer than 1.5 x 12, and 30 are not fewer than 1.5 x 20."""
    more: list[int | None] = [*[128, None] * 12, None]
    assert groups_of(more) == [(128, [*range(0, 24, 2)]), (None, [*range(1, 25, 2), 24])]
    assert groups_of([*[None] * 20, *[64] * 30]) == [
        (None, [*range(20)]), (64, [*range(20, 50, 2)]), (64, [*range(21, 50, 2)]),
    ]  # fmt: skip


def test_two_windows_are_two_kinds_side_by_side() -> None:
    assert groups_of([*[64, 128, None] * 4, 64, 64, 64]) == [
        (64, [0, 6, 12, 14]), (64, [3, 9, 13]), (128, [1, 4, 7, 10]), (None, [2, 5, 8, 11]),
    ]  # fmt: skip
    assert groups_of([64] * 5) == [(64, [*range(5)])]


def test_layers_that_attend_to_chunks_keep_all() -> None:
    """Of 1,024 requests that may run windows took 1,154 GiB of a GPU, and nothing was served."""
    model = load_model("llama-4-scout")
    pool = pool_of(model)
    assert [(one.window, one.layers) for one in plan_of(model).groups] == [(None, tuple(range(48)))]
    assert pool.bytes_of(model) == 100 * 16 * 48 * 2 * 8 * 128 * 2
    assert pool.blocks_of(20_000) == 1250


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "glm-5.3", "minimax-m3", "deepseek-v4-flash"])
def test_others_are_in_none(name: str) -> None:
    """No windows, though some layers keep more of a token; pages beside each other in a block."""
    assert kv_plan(load_model(name), KvAsked(16)) is None


def test_layers_with_less_of_a_token_have_blocks_of_more_tokens() -> None:
    """Gemma 4: 8,192 bytes a token in 25 layers, 4,096 in 5. In 30 GiB 49,152 blocks."""
    model = load_model("gemma-4-26b-a4b")
    plan, pool = plan_of(model), pool_of(model)
    assert (plan.block_size, plan.page_bytes) == (16, 16 * 8192)
    assert [(one.window, one.times, one.layers) for one in plan.groups] == [
        (1024, 1, (0, 6, 12, 18, 24)),
        (1024, 1, (1, 7, 13, 19, 25)),
        (1024, 1, (2, 8, 14, 20, 26)),
        (1024, 1, (3, 9, 15, 21, 27)),
        (1024, 1, (4, 10, 16, 22, 28)),
        (None, 2, (5, 11, 17, 23, 29)),
    ]
    assert 30 * GIB // pool.block_bytes(model) == 49152
    assert pool.blocks_of(3000) == 94 + 5 * 65
    assert pool.seat_bytes(model) == 0


def test_so_have_those_that_keep_all_of_mimo() -> None:
    """5 + 1 layers, 7 times, so that 39 are in 5 groups; in 30 GiB 43,690 blocks."""
    model = load_model("mimo-v2-flash")
    groups = plan_of(model).groups
    assert [(one.window, one.times, len(one.layers)) for one in groups] == [
        (None, 2, 9), (128, 1, 8), (128, 1, 8), (128, 1, 8), (128, 1, 8), (128, 1, 7),
    ]  # fmt: skip
    assert groups[0].layers[:3] == (0, 5, 11)
    assert 30 * GIB // pool_of(model).block_bytes(model) == 43690


def test_pages_that_do_not_fit_are_filled_up() -> None:
    """12 heads of 64 beside 8: a page is 1.5 times the other."""
    model = with_windows([64, None] * 4)
    wider = replace(model.layers[1].attention, kv_bytes_per_token=TOKEN * 3 // 2)
    odd = [replace(layer, attention=wider) for layer in model.layers[1::2]]
    mixed = [layer for pair in zip(model.layers[::2], odd, strict=True) for layer in pair]
    model = replace(model, layers=tuple(mixed))
    assert [(one.window, one.times) for one in plan_of(model).groups] == [(64, 1), (None, 1)]
    assert pool_of(model).block_bytes(model) == 4 * 16 * TOKEN * 3 // 2


def test_blocks_of_tokens_grow_until_they_hold_a_state() -> None:
    """Qwen3-Next: 2,162,688 bytes of state, 2,048 a token in 12 layers: 1,056 tokens, in 64s, of
    which FlashInfer's kernel on a Hopper keeps states, 1,088. In 30 GiB 1,204 blocks.
    """
    model = load_model("qwen3-next-80b-a3b")
    plan, pool = plan_of(model), pool_of(model)
    assert (plan.block_size, plan.page_bytes, plan.inside) == (1088, 1088 * 2048, True)
    assert [(one.keeps, one.layers[:3]) for one in plan.groups] == [
        ("state", (0, 4, 8)), ("state", (1, 5, 9)), ("state", (2, 6, 10)), ("tokens", (3, 7, 11)),
    ]  # fmt: skip
    assert 30 * GIB // pool.block_bytes(model) == 1204
    assert pool.blocks_of(10_000) == 10 + 3 * 2
    older = plan_of(model, capability=8.0)
    assert (older.block_size, older.inside) == (1056, False)
    alone = plan_of(model, caches_prefixes=False)
    assert (alone.block_size, alone.inside) == (1056, False)
    assert [one.keeps for one in alone.groups] == ["spare", "spare", "spare", "tokens"]
    assert plan_of(model, size=4096).block_size == 4096


def test_states_have_a_block_for_each_draft() -> None:
    model = load_model("qwen3-next-80b-a3b")
    groups = plan_of(model, drafts=2).groups
    assert [one.keeps for one in groups] == [*["state", "spare", "spare"] * 3, "tokens"]
    pool = replace(pool_of(model), plan=plan_of(model, drafts=2))
    assert pool.blocks_of(10_000) == 10 + 3 * (2 + 2)


def test_beside_a_latent_blocks_are_of_128_tokens() -> None:
    """Kimi K3: 6,586,368 bytes of state, 1,152 a token."""
    assert plan_of(load_model("kimi-k3")).block_size == 45 * 128
    assert plan_of(load_model("nemotron-3-nano")).block_size == 131 * 16


def pool_of(model: ModelSpec) -> KvPool:
    plan = plan_of(model)
    return KvPool(100, plan.block_size, seats=4, tokens=8192, at_once=4, plan=plan)


def test_a_block_is_of_the_largest_group_and_nothing_is_set_aside() -> None:
    model = load_model("gpt-oss-120b")
    assert pool_of(model).block_bytes(model) == 18 * 16 * TOKEN
    assert pool_of(model).bytes_of(model) == 100 * 18 * 16 * TOKEN
    gemma = with_windows(GEMMA)
    assert pool_of(gemma).block_bytes(gemma) == 10 * 16 * TOKEN
    first = replace(gemma, layers=gemma.layers[:13])  # a stage: at most 2 of any group
    assert pool_of(gemma).block_bytes(first) == 2 * 16 * TOKEN


def test_blocks_of_a_request_by_hand() -> None:
    """1,000 tokens: 63 blocks in the layers that keep all, 9 of a window of 128."""
    pool = pool_of(load_model("gpt-oss-120b"))
    assert pool.blocks_of(1000) == 63 + 9
    assert pool.blocks_of(40) == 3 + 3
    assert replace(pool, plan=None).blocks_of(1000) == 63
