"""Groups of layers that share blocks: those that vLLM 0.33 makes of the same layers (its function
``_get_kv_cache_groups_uniform_page_size``, run once), and what a block of them takes.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from moesim.memory.footprint.kv_groups import kv_groups
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
    return [(one.window, list(one.layers)) for one in kv_groups(with_windows(windows))]


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
    assert [(one.window, one.layers) for one in pool.groups] == [(None, tuple(range(48)))]
    assert pool.bytes_of(model) == 100 * 16 * 48 * 2 * 8 * 128 * 2
    assert pool.blocks_of(20_000) == 1250


@pytest.mark.parametrize("name", ["qwen3-30b-a3b", "gemma-4-26b-a4b", "qwen3.5-35b-a3b"])
def test_others_are_in_none(name: str) -> None:
    """No windows; layers that differ in bytes a token; constant states."""
    assert kv_groups(load_model(name)) == ()


def pool_of(model: ModelSpec) -> KvPool:
    return KvPool(100, 16, seats=4, tokens=8192, at_once=4, groups=kv_groups(model))


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
    assert replace(pool, groups=()).blocks_of(1000) == 63
