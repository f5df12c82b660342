import numpy as np
import pytest

from moesim.calibrate.fit import fit_table
from moesim.calibrate.prices.price import price_table
from moesim.calibrate.profile_file import profile_text
from moesim.hardware import load_hardware
from moesim.hardware.card import card_of
from moesim.hardware.measurements.validate import valid
from moesim.hardware.operations.products.calibrated import product_numbers
from moesim.hardware.operations.products.fit import prices
from moesim.hardware.operations.products.kernel import ProductNumbers, tiled
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
