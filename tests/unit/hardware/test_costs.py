"""Prices against the roofline by hand, and the laws that every price must keep."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.hardware import CostModel, HardwareProfile, load_hardware
from moesim.hardware.prices.provenance import Source
from moesim.model.spec import LayerSpec
from tests.unit.hardware.small import changed, layer, small_model

BYTES_A_NS = 3.35e12 * 0.9 / 1e9
BF16_A_NS = 989.4e12 * 0.65 / 1e9
ACTIVATION_A_NS = 3.35e12 * 0.5 / 1e9
START_NS = 2700
EXPERT_ELEMENTS = 3 * 1024 * 4096
MOVED_A_ROW = 2 * 2 * (2 * 1024 + 2 * 4096 + 4096)

counts = st.integers(0, 5000)


def plain_experts_ns(rows: list[int]) -> int:
    """The price of one launch, written as a sum over experts."""
    total = sum(rows)
    tokens = math.ceil(total / 4)
    tile = 16 if tokens <= 32 else 32 if tokens <= 96 else 64 if tokens <= 512 else 128
    read = sum(2 * EXPERT_ELEMENTS for r in rows if r) / BYTES_A_NS
    work = sum(math.ceil(r / tile) * tile for r in rows) * 2 * EXPERT_ELEMENTS / BF16_A_NS
    return int(3 * START_NS + max(read, work) + total * MOVED_A_ROW / ACTIVATION_A_NS + 0.5)


@given(st.lists(st.lists(st.integers(0, 400), min_size=1, max_size=9), min_size=1, max_size=6))
def test_experts_agree_with_a_plain_loop(
    costs: CostModel, only: LayerSpec, launches: list[list[int]]
) -> None:
    starts = np.cumsum([0, *map(len, launches)])[:-1]
    prices = costs.experts_ns(only, np.concatenate(launches), starts)
    assert prices == pytest.approx([plain_experts_ns(launch) for launch in launches], abs=1)


def test_launch_edges(costs: CostModel, only: LayerSpec) -> None:
    assert costs.experts_ns(only, [0], [0]).tolist() == [3 * START_NS]
    without, alone = costs.experts_ns(only, [5], [0, 0])
    assert without == 0
    assert alone == costs.experts_ns(only, [5], [0])[0]
    assert costs.experts_ns(only, [], []).shape == (0,)
    assert costs.experts_ns(only, [7, 7, 5], [2])[0] == alone


def test_memory_bound_experts_cost_their_bytes(costs: CostModel, only: LayerSpec) -> None:
    two, four = costs.experts_ns(only, [1] * 6, [0, 2])
    row = MOVED_A_ROW / ACTIVATION_A_NS
    assert four - two == pytest.approx(2 * (2 * EXPERT_ELEMENTS / BYTES_A_NS + row), abs=2)


def test_many_rows_cost_their_products(costs: CostModel, only: LayerSpec) -> None:
    rows = 1 << 20
    price = costs.experts_ns(only, [rows], [0])[0] - rows * MOVED_A_ROW / ACTIVATION_A_NS
    assert price == pytest.approx(rows * 2 * EXPERT_ELEMENTS / BF16_A_NS, rel=1e-3)


def test_four_bit_experts_read_less_and_multiply_as_bf16(h100: HardwareProfile) -> None:
    plain, packed = layer("bf16"), layer("mxfp4")
    prices = [CostModel(h100, small_model(one)) for one in (plain, packed)]
    few = [c.experts_ns(one, [1], [0])[0] for c, one in zip(prices, (plain, packed), strict=True)]
    lot = [
        c.experts_ns(one, [9999], [0])[0] for c, one in zip(prices, (plain, packed), strict=True)
    ]
    assert few[0] - few[1] == pytest.approx(EXPERT_ELEMENTS * 1.46875 / BYTES_A_NS, rel=1e-3)
    assert lot[0] == lot[1]


@given(counts, counts)
def test_more_tokens_never_cost_less(
    costs: CostModel, only: LayerSpec, first: int, second: int
) -> None:
    few, more = sorted((first, second))
    ordered = [
        costs.attention_ns(only, [few, more], [few * 9, more * 9], [few, more]),
        costs.gate_ns(only, [few, more]),
        costs.permute_ns(only, [few, more]),
        costs.shared_ns(only, [few, more]),
        costs.head_ns([few, more]),
        costs.masks_ns(only, [few, more], 32, [few // 4, more // 4]),
        costs.price("combine_product", only, [few, more], 32, [few // 4, more // 4]),
        costs.experts_ns(only, [few, 3, more, 3], [0, 2]),
        costs.all_to_all_ns([[[0, few], [9, 0]], [[0, more], [9, 0]]]),
    ]
    for low, high in ordered:
        assert 0 <= low <= high
    assert costs.copy_ns(few, "h2d") <= costs.copy_ns(more, "h2d")


@given(st.integers(1, 3000), st.floats(1, 20), st.sampled_from(["memory_bandwidth", "pcie"]))
def test_a_better_machine_never_costs_more(
    h100: HardwareProfile, only: LayerSpec, tokens: int, factor: float, what: str
) -> None:
    value = getattr(h100.datasheet, what).value
    slow, fast = (
        CostModel(machine, small_model(only))
        for machine in (h100, changed(h100, **{what: value * factor}))
    )
    for price in (
        lambda c: c.attention_ns(only, tokens, tokens * 100, tokens * 100),
        lambda c: c.experts_ns(only, [tokens, 1, 0], [0]),
        lambda c: c.head_ns(tokens),
        lambda c: c.masks_ns(only, tokens, 32, 8),
    ):
        assert price(fast) <= price(slow)


def test_nothing_costs_nothing(costs: CostModel, only: LayerSpec) -> None:
    assert costs.attention_ns(only, 0, 0, 0) == 0
    assert costs.gate_ns(only, 0) == costs.permute_ns(only, 0) == costs.shared_ns(only, 0) == 0
    assert costs.head_ns(0) == costs.dense_ns(only, 5) == 0
    assert costs.masks_ns(only, 0, 32, 0) == costs.price("combine_product", only, 4, 32, 0) == 0
    assert costs.copy_ns(0, "h2d") == 0


def test_dense_and_moe_layers(h100: HardwareProfile) -> None:
    dense = layer(dense=True)
    costs = CostModel(h100, small_model(dense))
    assert costs.gate_ns(dense, 5) == costs.shared_ns(dense, 5) == 0
    read = 2 * EXPERT_ELEMENTS / BYTES_A_NS + 5 * MOVED_A_ROW / ACTIVATION_A_NS
    assert costs.dense_ns(dense, 5) == pytest.approx(3 * START_NS + read, abs=1)


def test_attention_reads_the_cache_once(costs: CostModel, only: LayerSpec) -> None:
    short, long = costs.attention_ns(only, 1, [0, 1_000_000], [0, 1_000_000])
    assert long - short == pytest.approx(1_000_000 * 1024 / BYTES_A_NS, abs=1)


def test_prefill_scores_cost_their_products(costs: CostModel, only: LayerSpec) -> None:
    short, long = costs.attention_ns(only, 4096, [0, 4096 * 4096], [0, 4096])
    assert long - short == pytest.approx(4096**2 * 2 * 16 * 128 / BF16_A_NS, rel=1e-6)


def test_masks_cost_forty_bytes_an_element(costs: CostModel, only: LayerSpec) -> None:
    built = costs.masks_ns(only, 512, 32, 128) - costs.price("combine_product", only, 512, 32, 128)
    placed = 4 * 130 * 512 * 32  # four choices a token
    moved = 40 * 512 * 32 * 128 + placed
    assert built == pytest.approx(START_NS + moved / BYTES_A_NS, abs=2)


def test_encoding_writes_every_place_and_moves_the_kept_rows(
    costs: CostModel, only: LayerSpec
) -> None:
    """Positions as with masks, places written once, rows as in a reordering: no masks."""
    some, more, roomy = (
        int(costs.encode_ns(only, 512, 32, capacity, rows)[()])
        for capacity, rows in ((64, 0), (64, 900), (65, 0))
    )
    assert more - some == pytest.approx(int(costs.permute_ns(only, 900)[()]), abs=1)
    row = costs.model.hidden_size * costs.model.activation_bytes
    assert roomy - some == pytest.approx(32 * row / ACTIVATION_A_NS, abs=1)
    placed = 4 * 130 * 512 * 32 / BYTES_A_NS
    written = 32 * 64 * row / ACTIVATION_A_NS
    assert some == pytest.approx(START_NS + placed + written, abs=2)
    assert costs.encode_ns(only, 512, 32, 64, 900) < costs.masks_ns(only, 512, 32, 64)
    assert costs.encode_ns(only, 0, 32, 0, 0) == 0


def test_a_batched_product_takes_the_tile_of_one_expert(
    h100: HardwareProfile, only: LayerSpec
) -> None:
    """200 experts of 16 rows: tiles of 16 rows, where a grouped kernel takes 128."""
    model = small_model(only)
    grouped = CostModel(h100, model, "datasheet")
    batched = CostModel(h100, model, "datasheet", batched=True)
    few, many = [16] * 200, [1024] * 200
    assert batched.experts_ns(only, few, [0]) <= grouped.experts_ns(only, few, [0])
    assert batched.experts_ns(only, many, [0]) == grouped.experts_ns(only, many, [0])


def test_small_products_lose_efficiency_on_the_v100(only: LayerSpec) -> None:
    machine = load_hardware("v100-sxm2-32gb")
    costs = CostModel(machine, small_model(only))
    starts = 3 * machine.datasheet.kernel_start.value
    moved = 128 * MOVED_A_ROW / (900e9 * 0.5 / 1e9)
    product = costs.shared_ns(only, 128) - starts - moved
    assert product == pytest.approx(2 * 2 * 128 * EXPERT_ELEMENTS / (125e3 * 0.6), rel=1e-3)


def test_copies_round_up_once(costs: CostModel) -> None:
    assert costs.copy_ns(1, "h2d") == 7000 + 1
    assert costs.copy_ns(55_630, "h2d") == 7000 + 1000
    assert costs.copy_ns(55_631, "h2d") == 7000 + 1001
    assert costs.copy_ns(3 * 55_630, "h2d", copies=3) == 3 * 7000 + 3000
    assert costs.copy_ns(10_300, "h2d", pinned=False) == 7000 + 1000


def test_all_to_all_takes_the_busiest_gpu(costs: CostModel) -> None:
    rate = 450e9 * 0.77
    even = [[9_999_999, 1000, 1000], [1000, 0, 1000], [1000, 1000, 0]]
    into_one = [[0, 0, 0], [70_000, 0, 0], [80_000, 0, 0]]
    prices = costs.all_to_all_ns(np.array([even, into_one]))
    expected = [20_000 + math.ceil(size / rate * 1e9) for size in (2000, 150_000)]
    assert prices.tolist() == expected
    assert costs.all_to_all_ns(np.array([[[5]], [[6]]])).tolist() == [0, 0]


def test_every_price_says_its_source(costs: CostModel) -> None:
    shares = costs.provenance("head", costs.head_ns([1, 8]), [1, 8])
    assert shares[Source.DATASHEET] == shares.sum() == costs.head_ns([1, 8]).sum()


def test_a_price_beyond_every_operation_is_refused_before_it_wraps() -> None:
    """Each number of the profile is possible alone; the clock's int64 would not hold their sums."""
    profile = changed(load_hardware("rtx-4060-8gb"), memory_bandwidth=1e9, bandwidth_fraction=1e-4)
    costs = CostModel(profile, small_model(layer()))
    with pytest.raises(InputError, match=r"takes .* s by the hardware profile: no operation takes"):
        costs.head_ns([1 << 40])
    assert costs.head_ns([1]).dtype == np.int64


@pytest.mark.parametrize("price", [-5.0, -1e9, float("nan"), float("inf")])
def test_a_price_that_is_none_names_its_operation(costs: CostModel, price: float) -> None:
    with pytest.raises(InputError, match=r"^'head' takes "):
        costs.whole("head", [price, 1.0])
    assert costs.whole("head", []).tolist() == []
