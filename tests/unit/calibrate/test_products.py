from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.fit import Fits, fit_table
from moesim.calibrate.prices.price import price_table
from moesim.calibrate.profile_file import profile_text
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.card import card_of
from moesim.hardware.measurements.validate import valid
from moesim.hardware.operations.products.calibrated import product_numbers
from moesim.hardware.operations.products.fit import prices
from moesim.hardware.operations.products.kernel import ProductNumbers, blocks, tiled
from moesim.hardware.prices.ratio_table import RatioTable, pack
from moesim.model import load_model
from tests.unit.calibrate.conftest import operations

TRUE = ProductNumbers(5_000, 0.8, 0.6, 4.0, 0.5)


@pytest.fixture(scope="module")
def made(card):
    sizes, widths = [1, 8, 64, 256, 1024, 4096], [512, 1024, 4096, 8192]
    grid = np.array([(m, n, k) for m in sizes for n in widths for k in widths])
    table = operations(op="gemm", m=grid[:, 0], n=grid[:, 1], k=grid[:, 2])
    time = prices(TRUE, table, card, card_of(card))
    noise = np.exp(np.random.default_rng(2).normal(0, 0.01, len(time)))
    return table.assign(latency_ns=time * noise)


def test_a_fit_finds_the_numbers_that_made_the_table(card, made, tmp_path):
    fits = fit_table(valid(made)[0], card)
    path = tmp_path / "p.yaml"
    path.write_text(profile_text("h100-sxm", "mine", fits))
    profile = load_hardware(str(path))
    assert profile.calibrated is not None
    fit = profile.calibrated.products[0]
    numbers = product_numbers(fit, profile)
    assert numbers.bandwidth == pytest.approx(TRUE.bandwidth, rel=0.03)
    assert numbers.compute == pytest.approx(TRUE.compute, rel=0.03)
    assert fit.held_out is not None
    assert fit.held_out.median_percent < 2
    priced = price_table(profile, made)
    assert set(priced.price_source) == {"fitted"}
    assert not priced.outside.any()
    beyond = price_table(profile, operations(op=["gemm"], m=[9000], n=[4096], k=[4096]))
    assert beyond.outside[0]
    assert price_table(profile, made, "datasheet").price_source[0] == "datasheet"


def test_too_few_shapes_are_told(card, made):
    one = valid(made[(made["n"] == 512) & (made["k"] == 512)])[0]
    assert "a fit needs 30 of 4" in fit_table(one, card).missing[0]


def test_whole_waves_are_paid_for():
    m, n, k = (np.array([value, value], float) for value in (4096, 4096, 512))
    assert (tiled(m, n, k, 128) >= m * n / 1.05).all()
    small = tiled(np.array([1.0]), np.array([4096.0]), np.array([512.0]), 128)
    assert small[0] > 64 * 4096


def test_inputs_are_quantised_by_blocks_of_as_many_groups_as_divide_them():
    """SGLang's kernel: 128 elements a group; 6 a row at k = 768, so 2 a block of odd rows."""
    m, k = np.array([4096.0, 4097.0, 4098.0, 1.0, 4097.0]), np.array([768.0] * 4 + [2048.0])
    assert blocks(m, k).tolist() == [1536, 12_291, 6_147, 3, 4_097]


def test_a_block_is_found_where_a_kernel_quantises_inside(card):
    """DeepGEMM's, by its name; others have no such number."""
    sizes, widths = [1, 64, 1023, 1024, 2049, 4095, 4096], [512, 768, 1536, 2048, 8192]
    grid = np.array([(m, n, k) for m in sizes for n in widths for k in widths])
    table = operations(op="gemm", dtype="fp8", m=grid[:, 0], n=grid[:, 1], k=grid[:, 2])
    true = replace(TRUE, block_ns=0.8)
    table = table.assign(latency_ns=prices(true, table, card, card_of(card)))
    for kernel, found in (("sglang_deepgemm_gemm", 0.8), ("cutlass", None)):
        (fit,) = fit_table(valid(table.assign(kernel_source=kernel))[0], card).calibrated.products
        assert (fit.block and fit.block.value) == (found and pytest.approx(found, rel=0.1))


def uneven(table):
    """What the formula does not have: ratios that go smoothly with the shape."""
    logs = [np.log(table[name].to_numpy(float)) for name in ("m", "n", "k")]
    return np.exp(0.2 * np.sin(logs[1]) - 0.05 * (logs[2] - 7) + 0.02 * (logs[0] - 4))


@pytest.fixture(scope="module")
def kernel(card):
    """Times of a kernel on 49 shapes, and others between them."""
    widths = np.geomspace(256, 16384, 7).astype(int)
    rows = [(m, n, k) for m in (1, 16, 256, 2048) for n in widths for k in widths]
    table = pd.DataFrame(rows, columns=["m", "n", "k"])
    return timed(card, table), timed(card, table.assign(m=table["m"] * 2, n=table["n"] * 3 // 2))


def timed(card, table):
    shape = {name: table[name].to_numpy() for name in ("m", "n", "k")}
    table = operations(op="gemm", **shape)
    return table.assign(latency_ns=prices(TRUE, table, card, card_of(card)) * uneven(table))


@pytest.fixture(scope="module")
def tabled(card, kernel, tmp_path_factory):
    path = tmp_path_factory.mktemp("tabled") / "p.yaml"
    fits = fit_table(valid(kernel[0])[0], card)
    path.write_text(profile_text("h100-sxm", "mine", fits))
    loaded = load_hardware(str(path))
    assert loaded.calibrated == fits.calibrated
    return loaded


def test_a_table_is_used_where_it_is_better_than_the_formula(tabled, kernel):
    table, between = kernel
    fit = tabled.calibrated.products[0]
    assert fit.unseen is fit.table.errors["shapes"]
    assert set(fit.table.errors) == {"shapes", "points"}
    assert fit.unseen.median_percent < 0.8 * fit.held_out.median_percent
    for rows, source, most in ((table, "measured", 0.6), (between, "interpolated", 8)):
        inside = (rows["m"] <= 2048) & (rows["n"] <= 16384)
        priced = price_table(tabled, rows[inside].reset_index(drop=True))
        assert set(priced.price_source) == {source}
        assert not priced.outside.any()
        ratio = priced.price_ns / rows["latency_ns"][inside].to_numpy()
        assert np.median(np.abs(ratio - 1)) * 100 < most
    assert set(price_table(tabled, table, "fit").price_source) == {"fitted"}


def test_beyond_a_table_the_formula_carries_on(tabled):
    far = operations(op="gemm", m=[2048, 8192], n=[4096] * 2, k=[4096] * 2)
    priced = price_table(tabled, far)
    assert priced.price_source.tolist() == ["interpolated", "fitted"]
    assert priced.outside.tolist() == [False, True]
    formula = price_table(tabled, far, "fit").price_ns
    assert priced.price_ns[1] / priced.price_ns[0] == pytest.approx(
        formula[1] / formula[0], rel=1e-4
    )


def test_a_run_pays_what_the_table_says(tabled):
    """The same ratio whatever else is priced, and none below what reading the weights takes."""
    model = load_model("qwen3-30b-a3b")
    rows = np.arange(1, 600)
    head = CostModel(tabled, model).head_ns(rows)
    assert (head == [CostModel(tabled, model).head_ns(count) for count in rows]).all()
    quick = operations(op="gemm", m=[1], n=[4096], k=[4096])
    fit = tabled.calibrated.products[0]
    low = pack(np.array([[4096, 4096]]), np.full((1, 1), -1.2), np.ones((1, 1), bool))
    table = fit.table.model_copy(update={"grid": {"m": (1,)}, "packed": low})
    table = RatioTable.model_validate(table.model_dump())
    fits = tabled.calibrated.model_copy(
        update={"products": (fit.model_copy(update={"table": table}),)}
    )
    price = price_table(tabled.model_copy(update={"calibrated": fits}), quick).price_ns[0]
    assert price == round(4096 * 4096 * 2 / tabled.datasheet.memory_bandwidth.value * 1e9)


def test_explain_shows_what_the_table_adds(tabled, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    sources = {tabled.calibrated.products[0].source: "made"}
    path.write_text(profile_text("h100-sxm", "mine", Fits(tabled.calibrated, sources)))
    shape = [part for value in ("m=16", "n=700", "k=900") for part in ("--set", value)]
    assert main(["explain", str(path), "--op", "gemm", *shape]) == 0
    told = capsys.readouterr().out
    assert "gemm, interpolated" in told
    assert "measured beyond the formula" in told
    fit = tabled.calibrated.products[0]
    assert f"unseen shapes: median {fit.unseen.median_percent} %" in " ".join(told.split())


def test_weights_that_stayed_in_a_cache_are_left_out(card, kernel):
    """A launch that is faster than memory says nothing of a run, where other weights were read."""
    table = kernel[0]
    small = (table["n"] * table["k"] * 2 < 20e6) & (table["m"] == 16)
    reading = table["n"] * table["k"] * 2 / card.datasheet.memory_bandwidth.value * 1e9
    warm = table.assign(latency_ns=table["latency_ns"].where(~small, reading * 0.7))
    fit = fit_table(valid(warm)[0], card).calibrated.products[0]
    assert fit.points == len(table) - small.sum()


def test_a_cut_table_of_a_profile_is_told_with_its_line(tabled, tmp_path):
    sources = {tabled.calibrated.products[0].source: "made"}
    text = profile_text("h100-sxm", "mine", Fits(tabled.calibrated, sources))
    lines = text.splitlines()
    at = next(place for place, line in enumerate(lines) if line.strip() == "packed: |") + 1
    path = tmp_path / "mine.yaml"
    path.write_text("\n".join([*lines[:at], lines[at][:40], *lines[at + 2 :]]) + "\n")
    with pytest.raises(InputError, match=r"mine.yaml:\d+.*packed"):
        load_hardware(str(path))
