"""What a decoder layer does with the source, against the roofline by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.hardware import CostModel, HardwareProfile
from moesim.hardware.prices.provenance import Source
from moesim.model.slicing import sliced
from moesim.model.spec import LayerSpec
from tests.unit.hardware.small import layer, small_model

BYTES_A_NS = 3.35e12 * 0.9 / 1e9
BF16_A_NS = 989.4e12 * 0.65 / 1e9
ACTIVATION_A_NS = 3.35e12 * 0.5 / 1e9
START_NS = 2700
counts = st.integers(0, 5000)


def crossing() -> LayerSpec:
    """A layer whose cross attention has the shape of its own: 16 heads, 4 of keys and values."""
    plain = layer()
    return replace(plain, cross_attention=plain.attention)


@pytest.fixture(scope="module")
def prices(h100: HardwareProfile) -> CostModel:
    return CostModel(h100, small_model(crossing()))


def test_a_step_reads_the_cache_of_its_sources(prices: CostModel) -> None:
    """1024 bytes a source token; a few scores take less."""
    price = prices.cross_attention_ns(crossing(), 100_000, 100_000, 0)
    assert price == pytest.approx(100_000 * 1024 / BYTES_A_NS, abs=1)


def test_many_queries_cost_their_scores(prices: CostModel) -> None:
    price = prices.cross_attention_ns(crossing(), 4096 * 4096, 4096, 0)
    assert price == pytest.approx(4096**2 * 2 * 16 * 128 / BF16_A_NS, abs=1)


def test_keys_and_values_are_projected_in_one_kernel(prices: CostModel) -> None:
    """Few tokens read 1024 x 512 weights, many pay their products; all read and write rows."""
    elements, moved = 1024 * 4 * 128, 2 * (1024 + 4 * 128)
    few, many = prices.cross_attention_ns(crossing(), [0, 0], [0, 0], [2, 1 << 20])
    read = 2 * elements / BYTES_A_NS + 2 * moved / ACTIVATION_A_NS
    assert few == pytest.approx(START_NS + read, abs=1)
    work = (1 << 20) * (2 * elements / BF16_A_NS + moved / ACTIVATION_A_NS)
    assert many == pytest.approx(START_NS + work, rel=1e-3)


def test_no_source_and_no_cross_attention_cost_nothing(prices: CostModel) -> None:
    assert prices.cross_attention_ns(crossing(), 0, 0, 0) == 0
    assert prices.cross_attention_ns(layer(), [5, 9], [5, 9], [5, 9]).tolist() == [0, 0]


@given(st.tuples(counts, counts, counts), st.tuples(counts, counts, counts))
def test_more_source_never_costs_less(
    prices: CostModel, one: tuple[int, int, int], other: tuple[int, int, int]
) -> None:
    pairs = [sorted(pair) for pair in zip(one, other, strict=True)]
    low, high = prices.cross_attention_ns(crossing(), *pairs)
    assert 0 <= low <= high


def test_a_part_of_a_node_holds_a_part_of_the_cache(h100: HardwareProfile) -> None:
    half = sliced(small_model(crossing()), 2)
    price = CostModel(h100, half).cross_attention_ns(half.layers[0], 100_000, 100_000, 0)
    assert price == pytest.approx(100_000 * 512 / BYTES_A_NS, abs=1)


def test_it_says_what_it_rests_on(prices: CostModel) -> None:
    shape = (crossing(), *(np.array([9, 0]),) * 3)
    price = prices.cross_attention_ns(*shape)
    provenance = prices.provenance("cross_attention", price, *shape)
    assert provenance[Source.DATASHEET] == pytest.approx(price.sum(), rel=1e-9)
