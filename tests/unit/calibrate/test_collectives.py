"""Fits of collectives: numbers that come back, points by number of GPUs, and the engine."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.fit import fit_table
from moesim.calibrate.prices.price import price_table
from moesim.calibrate.profile_file import profile_text
from moesim.calibrate.tables.importing import import_measurements
from moesim.calibrate.tables.limits import within
from moesim.cli.main import main
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.fitting.transfers import between
from moesim.hardware.measurements.validate import LINE, valid
from moesim.hardware.operations.collectives.kernel import (
    CollectiveNumbers,
    bus_bandwidth,
    collective_fit_for,
    collective_ns,
    collective_numbers,
)
from moesim.model import load_model

TRUE = CollectiveNumbers(7_000.0, 400.0, 260e9, 1.08, 6_000.0, 80_000.0)


def made(noise=0.0, op="all_to_all", rounds=1, gpus=(2, 4, 8)):
    sizes = 2.0 ** np.arange(9, 30)
    grid = np.array([(count, size) for count in gpus for size in sizes])
    time = collective_ns(TRUE, rounds, grid[:, 0], grid[:, 1])
    time = time * np.exp(np.random.default_rng(4).normal(0, noise, len(time)))
    columns = {"op": op, "gpus": grid[:, 0], "bytes": grid[:, 1], "latency_ns": time}
    return pd.DataFrame(columns).assign(**{LINE: np.arange(1, len(grid) + 1)})


def fitted(table, card, path):
    path.write_text(profile_text("h100-sxm", "mine", fit_table(valid(table)[0], card)))
    return load_hardware(str(path))


@pytest.fixture(scope="module")
def both(card, tmp_path_factory):
    table = pd.concat([made(0.01), made(0.01, "all_reduce", 2)], ignore_index=True)
    table[LINE] = np.arange(1, len(table) + 1)
    path = tmp_path_factory.mktemp("fit") / "mine.yaml"
    return table, fitted(table, card, path), path


@pytest.mark.parametrize("op", ["all_to_all", "all_reduce"])
def test_a_fit_finds_the_numbers_that_made_the_table(both, op):
    _, profile, _ = both
    fit = collective_fit_for(profile.calibrated, op)
    assert fit is not None
    numbers = collective_numbers(fit)
    assert numbers.bandwidth == pytest.approx(TRUE.bandwidth, rel=0.02)
    assert numbers.scaling == pytest.approx(TRUE.scaling, rel=0.02)
    assert numbers.start_ns == pytest.approx(TRUE.start_ns, rel=0.03)
    assert numbers.step_ns == pytest.approx(TRUE.step_ns, rel=0.2)
    assert numbers.fill_ns == pytest.approx(TRUE.fill_ns, rel=0.1)
    assert (fit.points, fit.shapes) == (63, 63)
    assert fit.held_out is not None
    assert fit.held_out.median_percent < 2


def test_an_all_reduce_sends_twice(both):
    _, profile, _ = both
    large = pd.DataFrame({"op": ["all_to_all", "all_reduce"], "bytes": 2**29, "gpus": 8})
    prices = price_table(profile, large.assign(**{LINE: [1, 2]})).price_ns
    assert prices[1] / prices[0] == pytest.approx(2, rel=0.03)
    moved = 2**29 * 7 / 8 / float(bus_bandwidth(TRUE, 8)) * 1e9
    assert prices[0] == pytest.approx(moved, rel=0.03)


def test_measured_between_and_beyond(both):
    table, profile, _ = both
    priced = price_table(profile, table)
    assert set(priced.price_source) == {"measured"}
    assert np.median(np.abs(priced.price_ns / table["latency_ns"] - 1)) < 1e-3
    asked = pd.DataFrame(
        {"op": "all_to_all", "gpus": [8, 8, 6, 16, 8], "bytes": [512, 3000, 3000, 3000, 2**31]}
    ).assign(**{LINE: range(1, 6)})
    found = price_table(profile, asked)
    expected = ["measured", "interpolated", "fitted", "fitted", "fitted"]
    assert list(found.price_source) == expected
    assert list(found.outside) == [False, False, False, True, True]
    assert set(price_table(profile, asked, "datasheet").price_source) == {"datasheet"}


def test_the_engine_pays_what_the_table_says(both):
    table, profile, _ = both
    costs = CostModel(profile, load_model("olmoe-1b-7b"))
    rows = table[(table["op"] == "all_to_all") & (table["gpus"] == 8)]
    sent = np.array([np.full((8, 8), int(size) // 8) for size in rows["bytes"]])
    times = np.minimum.accumulate(rows["latency_ns"].to_numpy()[::-1])[::-1]
    assert costs.all_to_all_ns(sent) == pytest.approx(times, rel=1e-3)


def test_formats_are_one_fit_and_a_slow_outlier_is_no_step_back(card, tmp_path):
    table = pd.concat([made().assign(dtype=name) for name in ("fp16", "int8")], ignore_index=True)
    late = table["bytes"] == 4096
    table.loc[late, "latency_ns"] *= 2.5
    table[LINE] = np.arange(1, len(table) + 1)
    profile = fitted(table, card, tmp_path / "p.yaml")
    assert len(profile.calibrated.collectives) == 1
    asked = made(gpus=(4,))
    prices = price_table(profile, asked).price_ns
    assert (np.diff(prices) >= 0).all()
    assert prices[3] == pytest.approx(prices[4])


def test_too_few_points_are_told(card):
    fits = fit_table(valid(made().head(4))[0], card)
    assert fits.calibrated.collectives == ()
    assert "a fit needs 6" in fits.missing[0]


def test_what_no_link_can_do_is_told(card):
    table = made(op="all_reduce", rounds=2)
    assert within(table, card)[1] == []
    table["latency_ns"] /= 1000
    kept, told = within(table, card)
    assert len(told) > 20
    assert len(kept) + len(told) == len(table)
    assert "faster than the datasheet allows" in told[0].what


def test_explain(both, capsys):
    _, _, path = both
    asked = ["--op", "all_to_all", "--set", "bytes=65536", "--set", "gpus=4"]
    assert main(["explain", str(path), *asked]) == 0
    told = capsys.readouterr().out
    assert "filling" in told
    assert "held" not in told


def test_the_bytes_of_imported_tables_are_what_a_gpu_holds(card, tmp_path):
    """The wheel counts elements, nccl-tests bytes: one all-to-all of 1 MiB a GPU both ways."""
    common = {"framework": "TRTLLM", "version": "2.29.2", "device": "H100", "kernel_source": "NCCL"}
    row = common | {"nccl_dtype": "half", "num_gpus": 8, "message_size": 2**19, "latency": 0.0187}
    pd.DataFrame([row | {"op_name": "alltoall"}]).to_parquet(tmp_path / "nccl_perf.parquet")
    ranks = "".join(f"#  Rank  {n} Group  0 Pid 1 on host device  {n} [0x01] NVIDIA H100\n"
                    for n in range(8))  # fmt: skip
    text = "# size count type redop root time algbw busbw #wrong\n"
    text += "     1048576        131072      half    none      -1    18.70   56.07   49.06    N/A\n"
    (tmp_path / "alltoall_perf.txt").write_text(ranks + text)
    table = import_measurements(tmp_path).table
    assert list(table["op"]) == ["all_to_all"] * 2
    assert list(table["bytes"]) == [2**20] * 2
    assert table["latency_ns"].to_numpy() == pytest.approx([18_700] * 2)
    assert list(table["gpus"]) == [8, 8]
    (tmp_path / "alltoall_perf.txt").rename(tmp_path / "other.txt")
    done = import_measurements(Path(tmp_path / "other.txt"))
    assert done.table.empty
    assert sum(done.left_out.values()) == 1


def test_sizes_left_out_are_judged_by_the_formula_and_by_what_is_between_the_others(card, tmp_path):
    """A kernel that changes its way: no formula of six numbers has the step, its neighbours do."""
    table = made()
    table.loc[table["bytes"] > 2**18, "latency_ns"] *= 1.5
    fit = collective_fit_for(fitted(table, card, tmp_path / "p.yaml").calibrated, "all_to_all")
    assert fit is not None
    assert fit.held_out is not None
    assert fit.between is not None
    assert fit.between.points == fit.held_out.points == fit.points
    assert fit.between.p90_percent < fit.held_out.p90_percent
    assert (fit.unseen, fit.outside) == (fit.between, fit.held_out)


def test_between_the_sizes_seen_a_time_follows_the_formula_s_shape():
    """By hand: half way in the formula's logarithms is half way in those of the times."""
    table = pd.DataFrame({"bytes": [1, 10, 100], "latency_ns": [20.0, 1.0, 80.0]})
    prices = between(table, np.array([10.0, 20.0, 40.0]), np.array([True, False, True]))
    assert prices == pytest.approx([20.0, 40.0, 80.0])
