from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.calibrate.fit import Fits, fit_table
from moesim.calibrate.prices.price import price_table
from moesim.calibrate.profile_file import profile_text
from moesim.cli.main import main
from moesim.hardware import load_hardware
from moesim.hardware.card import card_of
from moesim.hardware.measurements.validate import valid
from moesim.hardware.operations.attention.calibrated import attention_numbers
from moesim.hardware.operations.attention.fit_numbers import shapes
from moesim.hardware.operations.attention.kernel import (
    AttentionNumbers,
    attention_ns,
    attention_terms,
)
from moesim.hardware.operations.attention.tiles import LAYOUTS
from tests.unit.calibrate.conftest import operations

TRUE = AttentionNumbers(
    start_ns=9_000,
    bandwidth=0.8,
    l2=0.7,
    l2_speed=3.0,
    compute=0.5,
    softmax=150.0,
    item_ns=2_500,
    single=2.5,
    overlap=3.0,
    combine_ns=3_000,
    merge_ns=100.0,
    reorder_ns=6_000,
)
MODELS = [(8, 1), (16, 2), (32, 8), (64, 8), (16, 16)]
SHOWN = ("start_ns", "bandwidth", "compute", "item_ns")


def calls(op, **columns):
    return operations(op=op, **columns)


def grid(op, batches, contexts):
    rows = [(b, c, *m, d) for b, c, m, d in product(batches, contexts, MODELS, (64, 128))]
    names = ("batch", "context", "heads", "kv_heads", "head_dim")
    return calls(op, **dict(zip(names, np.array(rows).T, strict=True)))


def timed(card, table, layout, kernel):
    time = attention_ns(TRUE, layout, shapes(table, card), card_of(card))
    noise = np.exp(np.random.default_rng(3).normal(0, 0.01, len(time)))
    return table.assign(latency_ns=time * noise, kernel_source=kernel, source="made")


@pytest.fixture(scope="module")
def decode(card):
    table = grid("attention_decode", [1, 4, 16, 64, 256], [16, 256, 1024, 4096, 16384])
    return timed(card, table, "swapped", "two")


@pytest.fixture(scope="module")
def prefill(card):
    table = grid("attention_prefill", [1, 4, 16, 64], [16, 64, 256, 1024, 4096])
    return timed(card, table, "packed", "three")


@pytest.fixture(scope="module")
def profile(card, decode, prefill, tmp_path_factory):
    """Both fits, written to a file and read again."""
    fits = fit_table(valid(pd.concat([decode, prefill], ignore_index=True))[0], card)
    path = tmp_path_factory.mktemp("fitted") / "mine.yaml"
    path.write_text(profile_text("h100-sxm", "mine", fits))
    loaded = load_hardware(str(path))
    assert loaded.calibrated == fits.calibrated
    return loaded


def test_a_fit_finds_the_numbers_that_made_the_table(profile):
    by_op = {fit.op: fit for fit in profile.calibrated.attention}
    assert by_op["attention_decode"].layout == "swapped"
    assert by_op["attention_prefill"].layout == "packed"
    assert by_op["attention_prefill"].combine is None
    for fit in by_op.values():
        found = attention_numbers(fit, profile)
        assert fit.held_out.median_percent < 3
        assert fit.held_out.shapes == fit.shapes
        names = SHOWN if fit.op == "attention_prefill" else ("start_ns", "bandwidth", "item_ns")
        for name in names:
            assert getattr(found, name) == pytest.approx(getattr(TRUE, name), rel=0.1), name


def test_rows_get_the_price_of_their_fit(profile, decode, prefill):
    for table in (decode, prefill):
        priced = price_table(profile, table)
        assert set(priced.price_source) == {"fitted"}
        assert not priced.outside.any()
        assert np.median(np.abs(priced.price_ns / table["latency_ns"] - 1)) < 0.03
    shape = {"batch": [1], "context": [10**6], "heads": [8], "kv_heads": [1], "head_dim": [128]}
    assert price_table(profile, calls("attention_decode", **shape)).outside[0]


def test_without_a_fit_the_datasheet_prices(card, profile, decode):
    bare = price_table(card, decode)
    assert set(bare.price_source) == {"datasheet"}
    assert price_table(profile, decode, "datasheet").price_ns.tolist() == bare.price_ns.tolist()


def test_a_cold_cache_is_read_from_memory(profile):
    shape = {"batch": [4], "context": [2048], "heads": [32], "kv_heads": [8], "head_dim": [128]}
    table = calls("attention_decode", **shape)
    warm, cold = (price_table(profile, table.assign(l2_warm=w)).price_ns[0] for w in (True, False))
    assert price_table(profile, table).price_ns[0] == warm
    assert cold > warm


def test_too_few_shapes_and_another_kernel_are_told(card, decode):
    few = valid(decode[decode["batch"] == 1])[0].head(20)
    assert "a fit needs 30 of 4" in fit_table(few, card).missing[0]
    noise = np.exp(np.random.default_rng(4).normal(0, 2, len(decode)))
    wild = decode.assign(latency_ns=decode["latency_ns"] * noise)
    assert "the formula misses unseen shapes" in fit_table(valid(wild)[0], card).missing[0]


def test_a_prompt_of_one_token_is_no_prompt(card):
    single = grid("attention_prefill", [1, 4, 16, 64], [1])
    table = timed(card, single, "packed", "three")
    assert "0 usable points" in fit_table(valid(table)[0], card).missing[0]


@given(
    st.sampled_from(LAYOUTS),
    st.sampled_from(MODELS),
    st.sampled_from([64, 128, 256]),
    st.tuples(st.integers(1, 600), st.integers(1, 600)),
    st.tuples(st.integers(2, 40_000), st.integers(2, 40_000)),
    st.sampled_from(["attention_decode", "attention_prefill"]),
    st.booleans(),
)
def test_more_requests_and_keys_never_cost_less(
    card, layout, model, head_dim, batches, contexts, op, warm
):
    (heads, kv_heads), batches, contexts = model, sorted(batches), sorted(contexts)
    table = calls(
        op,
        batch=[batches[0], batches[1], batches[0]],
        context=[contexts[0], contexts[0], contexts[1]],
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        l2_warm=warm,
    )
    unsplit = replace(TRUE, combine_ns=0.0, merge_ns=0.0, reorder_ns=0.0)
    numbers = TRUE if op == "attention_decode" else unsplit
    low, wide, long = attention_ns(numbers, layout, shapes(table, card), card_of(card))
    assert low <= wide * (1 + 1e-9)
    assert low <= long * (1 + 1e-9)


def test_terms_sum_and_reorder(card):
    table = calls(
        "attention_decode", batch=[4], context=[64], heads=[8], kv_heads=[2], head_dim=128
    )
    shape, other = shapes(table, card), replace(TRUE, reorder_ns=0.0)
    told = attention_terms(TRUE, "swapped", shape, card_of(card))
    without = attention_ns(other, "swapped", shape, card_of(card))
    assert told.total - without == pytest.approx(TRUE.reorder_ns)
    overlapping = told.total - told.start - told.split - told.write
    assert (overlapping >= np.maximum(told.memory, told.busy)).all()
    assert (overlapping <= told.memory + told.busy).all()


def test_explain_shows_the_terms(profile, tmp_path, capsys):
    sources = {fit.source: profile.sources[fit.source] for fit in profile.calibrated.attention}
    path = tmp_path / "mine.yaml"
    path.write_text(profile_text("h100-sxm", "mine", Fits(profile.calibrated, sources)))
    shape = ["batch=8", "context=4096", "heads=32", "kv_heads=8", "head_dim=128"]
    options = [part for value in shape for part in ("--set", value)]
    assert main(["explain", str(path), "--op", "attention_decode", *options]) == 0
    told = capsys.readouterr().out
    for term in ("start", "splitting and merging", "busiest multiprocessor", "unseen shapes"):
        assert term in told


def test_a_table_of_decodes_is_used_where_it_is_better_than_the_formula(card, decode):
    """In a run the cache is cold, so that no price is one that was measured."""
    heads, batch = (np.log(decode[name].to_numpy(float)) for name in ("heads", "batch"))
    odd = np.exp(0.3 * np.sin(heads) + 0.05 * batch)
    odd = decode.assign(latency_ns=decode["latency_ns"] * odd)
    fits = fit_table(valid(odd)[0], card)
    (fit,) = fits.calibrated.attention
    assert fit.table is not None
    assert fit.held_out is not None
    assert fit.unseen is not None
    assert set(fit.table.errors) == {"shapes", "heads", "points"}
    assert fit.unseen.median_percent < 0.8 * fit.held_out.median_percent
    profile = card.model_copy(update={"calibrated": fits.calibrated})
    priced = price_table(profile, odd)
    assert set(priced.price_source) == {"measured"}
    assert np.abs(priced.price_ns / odd["latency_ns"] - 1).max() < 0.006
    cold = price_table(profile, odd.assign(l2_warm=False))
    assert set(cold.price_source) == {"interpolated"}
    assert (cold.price_ns >= priced.price_ns).all()
    between = price_table(profile, odd.assign(batch=3, context=700).head(1))
    assert between.price_source[0] == "interpolated"
    assert set(price_table(profile, odd, "fit").price_source) == {"fitted"}
