"""The simulator's prices from fits: those of a measurement table, with every start once."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.calibrate.prices.price import price_table
from moesim.hardware import CostModel, HardwareProfile
from moesim.hardware.measurements.validate import LINE
from moesim.hardware.operations.attention.scores import uniform
from moesim.hardware.prices.calibrated import AttentionFit, Calibrated, KernelFit, ProductFit
from moesim.hardware.prices.provenance import Source
from moesim.hardware.roofline import Roofline
from moesim.model.spec import LayerSpec
from tests.unit.hardware.small import layer, small_model

SEEN = {"batch": (1, 512), "context": (2, 131_072), "heads": (1, 64), "kv_heads": (1, 16)}
MEMORY = 3.35e12
ROUNDED = 2
"""Of three prices in nanoseconds, each rounded by itself, and their sum."""


def of(value: Any) -> dict[str, Any]:
    return {"value": value, "interval": [value, value]}


def made(**numbers: Any) -> dict[str, Any]:
    about = {"source": "start", "points": 99, "shapes": 9}
    return about | {name: of(value) for name, value in numbers.items()}


def attention(op: str, **numbers: Any) -> AttentionFit:
    shared = made(
        start="8 us",
        bandwidth="3000 GB/s",
        l2="40 MB",
        l2_speed=1.5,
        compute="600 TFLOP/s",
        softmax=100.0,
        item="3 us",
        single=3.0,
        overlap=2.0,
        **numbers,
    )
    seen = SEEN | {"head_dim": (64, 256)}
    return AttentionFit(**shared, op=op, dtype="bf16", layout="packed", measured=seen)


PRODUCT = ProductFit(
    **made(
        start="3 us",
        bandwidth="2800 GB/s",
        compute="600 TFLOP/s",
        overlap=3.0,
        activation_bandwidth="2000 GB/s",
    ),
    dtype="bf16",
    measured={"m": (1, 8192), "n": (256, 65_536), "k": (256, 65_536)},
)
GATE = KernelFit(
    **made(start="5 us", bandwidth="900 GB/s", compute="40 TFLOP/s", overlap=3.0),
    op="gate",
    measured={"tokens": (1, 4096), "hidden": (512, 4096), "experts": (8, 256)},
)
PERMUTE = KernelFit(
    **made(start="2 us", bandwidth="1500 GB/s"),
    op="permute",
    measured={"tokens": (1, 1024), "top_k": (4, 4), "hidden": (512, 4096)},
)
LAUNCHES = tuple(
    KernelFit(**made(start=start), op="launch", kernel=kernel, measured={})
    for kernel, start in (("eager", "6 us"), ("graph", "1.5 us"))
)


@pytest.fixture(scope="module")
def fitted(h100: HardwareProfile) -> HardwareProfile:
    split = {"combine": "2 us", "merge": "0.1 us"}
    fits = (attention("attention_decode", **split), attention("attention_prefill"))
    return h100.model_copy(
        update={
            "calibrated": Calibrated(attention=fits, products=(PRODUCT,), kernels=(GATE, PERMUTE))
        }
    )


@pytest.fixture(scope="module")
def costs(fitted: HardwareProfile, only: LayerSpec) -> CostModel:
    return CostModel(fitted, small_model(only))


def table_ns(profile: HardwareProfile, op: str, **shape: Any) -> float:
    frame = pd.DataFrame({"op": [op], "dtype": "bf16", LINE: 1} | shape)
    priced = price_table(profile, frame)
    assert priced.price_source[0] == "fitted"
    return float(priced.price_ns[0])


def rest_ns(profile: HardwareProfile, starts: int, elements: int) -> float:
    """Starts, and activations of two bytes, at the datasheet's rate."""
    gpu = Roofline(profile)
    return starts * gpu.start_ns + float(gpu.activations_ns(2 * elements))


def scores_ns(costs: CostModel, only: LayerSpec, batch: int, queries: int, context: int) -> float:
    """The scores of requests whose last ``queries`` tokens of ``context`` attend at once."""
    operation, tokens = costs.operations["attention"], batch * queries
    keys = tokens * context - batch * queries * (queries - 1) // 2
    cache = operation.cache(only.attention)
    parts = operation.scores(only.attention, cache, tokens, keys, batch * context)
    return float(sum(part.time_ns for part in parts))


@pytest.mark.parametrize("queries", [1, 2, 4])
def test_drafts_are_verified_by_the_kernel_of_decodes(
    costs: CostModel, only: LayerSpec, fitted: HardwareProfile, queries: int
) -> None:
    found = scores_ns(costs, only, 16, queries, 4096)
    decode_ns = table_ns(
        fitted, "attention_decode", batch=16, context=4096, heads=16 * queries, kv_heads=4,
        head_dim=64, l2_warm=False,
    )  # fmt: skip
    assert found == pytest.approx(decode_ns, abs=2)


@pytest.mark.parametrize("context", [64, 1024, 65_536])
def test_more_drafts_cost_no_less(costs: CostModel, only: LayerSpec, context: int) -> None:
    times = [scores_ns(costs, only, 16, queries, context) for queries in range(1, 33)]
    assert all(later >= 0.97 * sooner for sooner, later in pairwise(times))


def test_scores_of_a_mixed_pass_are_two_kernels(
    costs: CostModel, only: LayerSpec, fitted: HardwareProfile
) -> None:
    """Of 16 requests that decode and a prompt of 512, with as many cached before it: projections
    once, of all tokens; each kernel as it is alone.
    """
    decode, prompt = (16, 16 * 4096, 16 * 4096), (512, 512 * 768, 1024)
    every = tuple(a + b for a, b in zip(decode, prompt, strict=True))
    mixed = costs.attention_ns(only, *every, *decode, 0)
    decode_ns = table_ns(
        fitted, "attention_decode", batch=16, context=4096, heads=16, kv_heads=4, head_dim=64,
        l2_warm=False,
    )  # fmt: skip
    operation = costs.operations["attention"]
    alone = sum(
        part.time_ns
        for part in operation.scores(only.attention, operation.cache(only.attention), *prompt)
    )
    plain = costs.attention_ns(only, 528, 528, 528)
    scores = operation.scores(only.attention, operation.cache(only.attention), 528, 528, 528)
    rest = plain - sum(part.time_ns for part in scores)
    assert mixed == pytest.approx(rest + alone + decode_ns, abs=2)


def test_padding_has_products_but_no_scores(costs: CostModel, only: LayerSpec) -> None:
    nobody, shape = (0, 0, 0), (5, 5000, 5000)
    operation = costs.operations["attention"]

    def scores(tokens: int) -> float:
        parts = operation.scores(
            only.attention, operation.cache(only.attention), tokens, *shape[1:]
        )
        return float(sum(part.time_ns for part in parts))

    padded = costs.attention_ns(only, 8, 5000, 5000, *nobody, 3)
    products = costs.attention_ns(only, 8, 5000, 5000) - scores(8)
    assert padded == pytest.approx(products + scores(5), abs=2)


def test_where_none_decodes_beside_others_the_price_is_the_plain_one(
    costs: CostModel, only: LayerSpec
) -> None:
    shape = (np.array([0, 4, 4096]), np.array([0, 4000, 4096 * 2048]), np.array([0, 4000, 4096]))
    nobody = np.zeros(3, np.int64)
    plain = costs.attention_ns(only, *shape)
    assert costs.attention_ns(only, *shape, *[nobody] * 4).tolist() == plain.tolist()
    # where all decode it is the plain one too
    assert costs.attention_ns(only, *shape, *shape, nobody).tolist() == plain.tolist()


@pytest.mark.parametrize(("batch", "context"), [(1, 700), (8, 4096), (200, 33)])
def test_decode_is_the_tables_products_and_attention(
    fitted: HardwareProfile, costs: CostModel, only: LayerSpec, batch: int, context: int
) -> None:
    shape = {"batch": batch, "context": context, "heads": 16, "kv_heads": 4, "head_dim": 64}
    scores = table_ns(fitted, "attention_decode", **shape, l2_warm=False)
    joint = table_ns(fitted, "gemm", m=batch, n=1536, k=1024)
    output = table_ns(fitted, "gemm", m=batch, n=1024, k=1024)
    rest = rest_ns(fitted, starts=3, elements=6 * 1024 * batch)
    price = costs.attention_ns(only, batch, batch * context, batch * context)
    assert int(price) == pytest.approx(scores + joint + output + rest, abs=ROUNDED)


def test_prefill_is_the_tables(fitted: HardwareProfile, costs: CostModel, only: LayerSpec) -> None:
    shape = {"batch": 4, "context": 512, "heads": 16, "kv_heads": 4, "head_dim": 64}
    scores = table_ns(fitted, "attention_prefill", **shape)
    tokens, keys = 4 * 512, 4 * 512 * 513 // 2
    joint = table_ns(fitted, "gemm", m=tokens, n=1536, k=1024)
    output = table_ns(fitted, "gemm", m=tokens, n=1024, k=1024)
    rest = rest_ns(fitted, starts=3, elements=6 * 1024 * tokens)
    price = costs.attention_ns(only, tokens, keys, tokens)
    assert int(price) == pytest.approx(scores + joint + output + rest, abs=ROUNDED)


def test_networks_and_head_are_the_tables_products(
    fitted: HardwareProfile, costs: CostModel, only: LayerSpec
) -> None:
    first = table_ns(fitted, "gemm", m=64, n=8192, k=1024)
    second = table_ns(fitted, "gemm", m=64, n=1024, k=4096)
    network = first + second + rest_ns(fitted, starts=1, elements=64 * 3 * 4096)
    assert int(costs.shared_ns(only, 64)) == pytest.approx(network, abs=ROUNDED)
    dense = layer(dense=True)
    other = CostModel(fitted, small_model(dense))
    assert int(other.dense_ns(dense, 64)) == pytest.approx(network, abs=ROUNDED)
    logits = table_ns(fitted, "gemm", m=64, n=32_000, k=1024)
    head = logits + rest_ns(fitted, starts=2, elements=64 * 4 * 1024)
    assert int(costs.head_ns(64)) == pytest.approx(head, abs=ROUNDED)


def test_gate_and_permute_are_their_kernels(
    fitted: HardwareProfile, costs: CostModel, only: LayerSpec
) -> None:
    moved = 64 * (1024 * 2 + 16 * 32) + 131_072
    memory, compute = moved / 900, 2 * 64 * 1024 * 32 / 40e3
    expected = 5000 + (memory**3 + compute**3) ** (1 / 3)
    assert int(costs.gate_ns(only, 64)) == pytest.approx(expected, abs=1)
    rows = table_ns(fitted, "permute", tokens=64, top_k=4, hidden=1024)
    assert int(costs.permute_ns(only, 256)) == rows


def test_a_measured_launch_is_every_start(h100: HardwareProfile, only: LayerSpec) -> None:
    measured = h100.model_copy(update={"calibrated": Calibrated(kernels=LAUNCHES)})
    pair = [CostModel(profile, small_model(only)) for profile in (h100, measured)]
    sheet, launch = (costs.attention_ns(only, 4, 4000, 4000) for costs in pair)
    assert sheet - launch == 6 * (2700 - 1500)
    told = CostModel(measured, small_model(only), "datasheet")
    assert told.attention_ns(only, 4, 4000, 4000) == sheet


def test_without_fits_nothing_changes(h100: HardwareProfile, only: LayerSpec) -> None:
    empty = h100.model_copy(update={"calibrated": Calibrated()})
    pair = [CostModel(profile, small_model(only)) for profile in (h100, empty)]
    tokens = np.arange(300)
    for price in (
        lambda c: c.attention_ns(only, tokens, tokens * 77, tokens * 77),
        lambda c: c.gate_ns(only, tokens),
        lambda c: c.permute_ns(only, tokens),
        lambda c: c.shared_ns(only, tokens),
        lambda c: c.head_ns(tokens),
    ):
        sheet, other = (price(costs) for costs in pair)
        assert sheet.tolist() == other.tolist()
        assert sheet[0] == 0


@given(st.integers(1, 300), st.integers(1, 5000), st.integers(0, 5000))
def test_equal_requests_are_found_from_their_sums(batch: int, queries: int, before: int) -> None:
    context = queries + before
    keys = queries * context - queries * (queries - 1) // 2
    found = uniform(batch * queries, batch * keys, batch * context)
    assert found.batch == pytest.approx(batch)
    assert found.queries == pytest.approx(queries)
    assert found.context == pytest.approx(context)
    assert found.keys == pytest.approx(keys / queries)


def test_a_window_bounds_the_keys_of_decode_and_prefill(costs: CostModel, only: LayerSpec) -> None:
    whole = costs.attention_ns(only, 16, 16 * 8192, 16 * 8192)
    inside = costs.attention_ns(only, 16, 16 * 128, 16 * 128)
    assert inside < whole
    prompt = uniform(4096, 4096 * 126, 4096)
    assert prompt.keys == 126
    assert prompt.batch * prompt.context == pytest.approx(4096)


@given(
    st.tuples(st.integers(1, 400), st.integers(1, 400)),
    st.tuples(st.integers(2, 20_000), st.integers(2, 20_000)),
    st.booleans(),
)
def test_the_block_is_monotone_and_within_the_physical_limit(
    costs: CostModel,
    only: LayerSpec,
    batches: tuple[int, int],
    contexts: tuple[int, int],
    prompts: bool,
) -> None:
    batch = np.array([min(batches), max(batches), min(batches)])
    context = np.array([min(contexts), min(contexts), max(contexts)])
    tokens = batch * context if prompts else batch
    keys = batch * context * (context + 1) // 2 if prompts else batch * context
    low, wide, long = price = costs.attention_ns(only, tokens, keys, batch * context)
    assert low <= wide
    assert low <= long
    read = only.attention.bytes + (0 if prompts else batch * context * 1024)
    work = 2.0 * tokens * only.attention.parameters + keys * 4 * 16 * 64
    assert (price >= read / MEMORY * 1e9).all()
    assert (price >= work / 989.4e12 * 1e9).all()


def test_prices_say_what_they_rest_on(costs: CostModel, only: LayerSpec) -> None:
    tokens, context = np.array([0, 4, 100_000]), np.array([0, 4000, 200_000])
    price = costs.attention_ns(only, tokens, context, context)
    shares = [
        costs.provenance("attention", price[at], only, tokens[at], context[at], context[at])
        for at in ([0, 1], [2])
    ]
    for found, at in zip(shares, ([0, 1], [2]), strict=True):
        assert found.sum() == pytest.approx(price[at].sum())
    inside, beyond = shares
    assert inside[Source.FITTED] > inside[Source.DATASHEET] > 0
    assert inside[Source.OUTSIDE] == 0
    assert beyond[Source.OUTSIDE] > 0 == beyond[Source.FITTED]
    for kind, shape in {
        "shared": (only, 64),
        "head": (64,),
        "gate": (only, 64),
        "permute": (only, 64),
    }.items():
        one = costs.price(kind, *shape)
        found = costs.provenance(kind, one, *shape)
        assert found.sum() == pytest.approx(float(one))
        assert found[Source.FITTED] > 0.5 * found.sum()


def test_a_latent_cache_keeps_the_datasheets_scores(
    h100: HardwareProfile, fitted: HardwareProfile, only: LayerSpec
) -> None:
    latent = replace(only, attention=replace(only.attention, kv_bytes_per_token=300))
    assert fitted.calibrated is not None
    bare = fitted.model_copy(
        update={"calibrated": fitted.calibrated.model_copy(update={"products": ()})}
    )
    pair = [CostModel(profile, small_model(latent)) for profile in (h100, bare)]
    sheet, other = (costs.attention_ns(latent, 8, 8000, 8000) for costs in pair)
    assert sheet == other
