"""Prompts and answers of a step in one call of a kernel, as vLLM's FlashAttention backend does, and
answers with unequal contexts.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from moesim.hardware import CostModel, load_hardware, load_software
from moesim.hardware.card import Card
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.operations.attention.attention import cache_of
from moesim.hardware.operations.attention.kernel import (
    AttentionNumbers,
    attention_ns,
    joint_ns,
    waiting_ns,
)
from moesim.hardware.operations.attention.scores import joint_scores, uniform
from moesim.hardware.operations.attention.tiles import AttentionShape
from moesim.hardware.prices.calibrated import Layout
from moesim.model import load_model

CARD = Card(bandwidth=1e12, l2=1.0, multiprocessors=10)
NUMBERS = AttentionNumbers(
    start_ns=1000, bandwidth=1, l2_speed=1, compute=1, softmax=88, item_ns=50, overlap=1
)
MODEL = load_model("qwen3-30b-a3b")


def shape(batch: float, queries: float, context: float, keys: float) -> AttentionShape:
    """8 query heads on 2 of keys and values, of 128."""
    values = (batch, queries, context, keys, 8, 2, 128, 2, 6e12)
    first, *rest = (np.array([float(one)]) for one in values)
    return AttentionShape._make((first, *rest, np.array([False])))


PROMPTS, SINGLE = shape(1, 128, 128, 64.5), shape(5, 1, 1000, 1000)


@pytest.mark.parametrize("l2", [1.0, 1e9])
@pytest.mark.parametrize(("layout", "tiles"), [("swapped-narrow", 5 * 8), ("packed", 5 * 2)])
def test_single_queries_take_whole_tiles_beside_prompts(
    layout: Layout, tiles: int, l2: float
) -> None:
    """A tile of 64 rows walks a key in 64 x (4 x 128 + 88) operations of 6e11 a multiprocessor,
    64 ns: 1000 of them and 50 ns for each, over ten multiprocessors. Keys and values of 5 x 1000
    tokens but the new ones are 5 x 999 x 2 x 2 x 128 x 2 bytes, queries and results
    5 x 2 x 8 x 128 x 2, and what is appended 5 x 4 x 2 x 128 x 2, a byte a picosecond. Of heads
    that are not packed three of four read again what the first of them read, where one head's
    2.6 MB of all requests do not stay in the L2.
    """
    card = CARD._replace(l2=l2)
    alone = attention_ns(NUMBERS, layout, PROMPTS, card)[0]
    both = joint_ns(NUMBERS, layout, (PROMPTS, SINGLE), NUMBERS, card)[0]
    again = 3 if layout != "packed" and l2 == 1 else 0
    moved = (5 * 999 * 1024 + 5 * 4096 + 5 * 2048 + again * 5 * 1000 * 1024) / 1e3
    waves = {"swapped-narrow": (2, 16 / 10), "packed": (1, 8 / 10)}[layout]
    whole, even = (number * per for number, per in zip(waves, each(layout), strict=True))
    busy = max(whole, even + tiles / 10 * (1000 * 64 + 50))
    assert both - alone == pytest.approx(moved + busy - whole)


@pytest.mark.parametrize(
    ("layout", "batch", "longest", "keys"),
    [
        ("swapped", 100, 9000, 3000),
        ("swapped", 100, 5000, 0),
        ("swapped", 1, 1000, 0),
        ("swapped", 4, 1500, 400),
        ("swapped", 3, 1300, 180),
        ("packed", 100, 9000, 0),
    ],
)
def test_the_longest_answer_is_walked_alone(
    layout: Layout, batch: int, longest: float, keys: float
) -> None:
    """100 requests are 200 tiles on ten multiprocessors. The last of the longest begins with 50
    others behind it, and while these and ten more are walked, six rounds of 1000 keys in the mean,
    it has 6000 of its own; a key is 64 ns. Four are 8 tiles, which are split into 1.25 parts each
    that begin at once: 500 keys more than the mean are 400 of a part. Three have 5 / 3 parts.
    """
    single = shape(batch, 1, 1000, 1000)
    waits = waiting_ns(NUMBERS, layout, single, np.array([longest]), CARD)[0]
    assert waits == pytest.approx(64 * keys)


def each(layout: Layout) -> tuple[float, float]:
    """A wave of the prompt's tiles: 128.5 keys on the average and 128 of the last, the longer."""
    rows = {"swapped-narrow": 64, "packed": 128}[layout]
    one = 128.5 * rows + 50
    return one, one


def costs(card: str, software: str = "vllm") -> CostModel:
    return CostModel(with_engine(load_hardware(card), load_software(software)), MODEL)


def priced(model: CostModel, prompt: int, answers: int, context: int = 1200) -> int:
    """A layer's attention of a prompt, and of answers that see ``context`` keys each."""
    sums = (prompt * (prompt + 1) // 2 + answers * context, prompt + answers * context)
    beside: tuple[Any, ...] = (answers, answers * context, answers * context, 0)
    served = beside if prompt and answers else ()
    return int(model.attention_ns(MODEL.layers[0], prompt + answers, *sums, *served))


def apart(model: CostModel, prompt: int, answers: int) -> int:
    """The same with a kernel for each."""
    other = model.hardware.model_copy(update={"mixed_attention": "apart"})
    return priced(CostModel(other, MODEL), prompt, answers)


def test_flash_attention_2_pays_for_answers_beside_prompts() -> None:
    """Without packing, 125 answers are 125 x 32 tiles of 64 rows, of which one has a query: more
    products than such a card has time for while it reads the cache. Seven of eight heads read again
    what the first one read: a key-value head's 77 MB of all requests stay in the L2 of an RTX PRO
    6000, but not in an A100's.
    """
    dearer = {}
    for name in ("rtx-pro-6000", "a100-sxm-80gb"):
        card = costs(name)
        dearer[name] = priced(card, 500, 125) / apart(card, 500, 125)
    assert dearer == pytest.approx({"rtx-pro-6000": 2.3, "a100-sxm-80gb": 4.7}, abs=0.2)


def test_flash_attention_3_packs_and_starts_once() -> None:
    card = costs("h100-sxm")
    assert 0.8 < priced(card, 500, 30) / apart(card, 500, 30) < 1


@pytest.mark.parametrize(
    ("card", "software"),
    [("b200-sxm", "vllm"), ("h100-sxm", "trtllm"), ("rtx-4090", "vllm")],
)
def test_kernels_that_are_apart_are_added(card: str, software: str) -> None:
    """FlashInfer's, TensorRT-LLM's, and what only a roofline prices."""
    model = costs(card, software)
    assert priced(model, 500, 30) == apart(model, 500, 30)


SIZES = st.integers(1, 3000)


@pytest.mark.parametrize("card", ["rtx-pro-6000", "h100-sxm", "a100-sxm-80gb", "l40s"])
@settings(max_examples=15, deadline=None)
@given(prompt=SIZES, answers=st.integers(1, 300), more=st.integers(1, 500))
def test_more_answers_are_no_cheaper_than_answers_alone_may_be(
    card: str, prompt: int, answers: int, more: int
) -> None:
    """Measured decodes are followed where they fall, by up to a tenth."""
    model = costs(card)
    mixed = priced(model, prompt + 1, answers)
    assert mixed <= 1.1 * priced(model, prompt + 1, answers + more)
    assert mixed >= max(priced(model, prompt + 1, 0), priced(model, 0, answers)) / 1.1


def of_answers(card: str, *longest: int) -> int:
    """128 answers of 1,100 keys in the mean."""
    model = costs(card)
    return int(model.attention_ns(MODEL.layers[0], 128, *[128 * 1100] * 2, 0, 0, 0, 0, *longest))


def test_unequal_answers_wait_where_kernels_do_not_pack() -> None:
    assert not costs("h100-sxm").waits_for_longest
    assert of_answers("h100-sxm", 4000) == of_answers("h100-sxm")
    assert costs("rtx-pro-6000").waits_for_longest
    equal, unequal = of_answers("rtx-pro-6000", 1100), of_answers("rtx-pro-6000", 4000)
    assert equal == of_answers("rtx-pro-6000")
    assert 1.05 < unequal / equal < 1.3
    assert unequal < of_answers("rtx-pro-6000", 5000)


def test_a_cache_of_something_else_is_no_call_of_the_kernels_that_were_measured() -> None:
    """Whose heads have no size: a mixed step of such a model divided by it."""
    card, block = (
        with_engine(load_hardware("l40s"), load_software("vllm")),
        MODEL.layers[0].attention,
    )
    groups = uniform([256], [256 * 128], [256]), uniform([8], [8 * 900], [8 * 900])
    cache = cache_of(block, MODEL.activation_bytes)
    assert joint_scores(card, block, cache, groups) is not None
    half = replace(block, kv_bytes_per_token=block.kv_bytes_per_token // 2)
    assert joint_scores(card, half, cache, groups) is None
