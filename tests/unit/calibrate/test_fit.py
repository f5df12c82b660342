import numpy as np
import pytest

from moesim.calibrate.fit import fit_table
from moesim.calibrate.prices.price import price_table
from moesim.calibrate.profile_file import profile_text
from moesim.calibrate.tables.routing_draws import power_law_rows
from moesim.cli.main import main
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.fitting.held_out import halves
from moesim.hardware.measurements.validate import valid
from moesim.hardware.operations.experts.calibrated import numbers_of
from moesim.hardware.operations.experts.fit_numbers import families_of
from moesim.hardware.operations.experts.fit_shapes import expert_shapes, expert_work
from moesim.hardware.prices.provenance import Source
from moesim.model import load_model
from tests.unit.calibrate.conftest import TRUE, operations, synthetic


@pytest.fixture(scope="module")
def fitted(card, tmp_path_factory):
    path = tmp_path_factory.mktemp("fit") / "mine.yaml"
    fits = fit_table(valid(synthetic(card, noise=0.01))[0], card)
    path.write_text(profile_text("h100-sxm", "mine", fits))
    return load_hardware(str(path))


def test_a_fit_finds_the_numbers_that_made_the_table(fitted):
    fit = fitted.calibrated.experts[0]
    numbers = numbers_of(fit, fitted)
    assert fit.family == "triton"
    assert numbers.bandwidth == pytest.approx(TRUE.bandwidth, rel=0.02)
    assert numbers.start_ns == pytest.approx(TRUE.start_ns, rel=0.1)
    assert numbers.compute == pytest.approx(TRUE.compute, rel=0.1)
    low, high = fit.bandwidth.interval
    assert low < TRUE.bandwidth * fitted.datasheet.memory_bandwidth.value < high


def test_a_fit_says_what_it_rests_on(fitted):
    fit = fitted.calibrated.experts[0]
    assert (fit.framework, fit.version, fit.shapes) == ("vllm", "0.24.0", 6)
    assert fit.held_out.points == fit.points
    assert fit.held_out.median_percent < 2
    assert "made" in fitted.sources[fit.source]


def test_no_shape_is_in_both_halves():
    shape = np.repeat(np.arange(7), 5)
    for seen, unseen in halves(shape):
        assert not set(shape[seen]) & set(shape[unseen])
        assert (seen ^ unseen).all()


def test_a_fit_is_deterministic(card):
    table = valid(synthetic(card, noise=0.02))[0]
    assert fit_table(table, card).calibrated == fit_table(table, card).calibrated


def test_too_few_points_are_told(card):
    table = valid(synthetic(card))[0].head(9)
    fits = fit_table(table, card)
    assert not fits.calibrated.experts
    assert "a fit needs 30" in fits.missing[0]


def test_a_measured_shape_is_measured_between_interpolated_beyond_fitted(card, fitted):
    table = synthetic(card, noise=0.01)
    exact = price_table(fitted, table)
    cold = exact.price_source == "measured"
    assert cold.sum() > 60
    error = np.abs(exact.price_ns[cold] / table["latency_ns"].to_numpy()[cold] - 1)
    assert error.max() < 1e-3
    shape = {"hidden": 4096, "inter": 1536, "experts": 128, "top_k": 8}
    found = price_table(fitted, operations(tokens=[24, 8192], **shape))
    assert list(found.price_source) == ["interpolated", "fitted"]
    assert list(found.outside) == [False, True]
    other = price_table(fitted, operations(tokens=[24], **(shape | {"inter": 2000})))
    assert list(other.price_source) == ["fitted"]


def test_the_methods(fitted):
    shape = {"tokens": [64], "hidden": 4096, "inter": 1536, "experts": 128, "top_k": 8}
    sources = {
        m: price_table(fitted, operations(**shape), m).price_source[0]
        for m in ("auto", "table", "fit", "datasheet")
    }
    assert sources == {
        "auto": "measured",
        "table": "measured",
        "fit": "fitted",
        "datasheet": "datasheet",
    }


def test_rows_are_the_input(fitted):
    shape = {"hidden": 4096, "inter": 1536, "experts": 128, "top_k": 8}
    few = operations(tokens=[16], rows=[[16] * 8], **shape)
    spread = operations(tokens=[16], rows=[[1] * 128], **shape)
    even = operations(tokens=[16], distinct_experts=[128], **shape)
    prices = [price_table(fitted, table, "fit").price_ns[0] for table in (few, spread, even)]
    assert prices[0] < prices[1] / 5
    assert prices[1] == prices[2]


def test_commands(card, tmp_path, capsys):
    table, profile = tmp_path / "t.parquet", tmp_path / "p.yaml"
    synthetic(card, noise=0.01).drop(columns="_line").to_parquet(table)
    assert main(["calibrate", "fit", str(table), "-o", str(profile)]) == 0
    assert "error on unseen shapes" in capsys.readouterr().out
    figure = tmp_path / "f.png"
    assert main(["calibrate", "check", str(profile), str(table), "-o", str(figure)]) == 0
    assert figure.stat().st_size > 0
    out = tmp_path / "prices.parquet"
    assert main(["price", str(profile), "--ops", str(table), "-o", str(out)]) == 0
    capsys.readouterr()
    shape = ["--hidden", "4096", "--inter", "1536", "--experts", "128", "--top-k", "8"]
    assert main(["explain", str(profile), "--tokens", "16", *shape]) == 0
    assert "reading of gate and up" in capsys.readouterr().out
    assert main(["explain", str(profile), "--tokens", "16"]) == 2
    assert "give --hidden N --inter N" in capsys.readouterr().err


def test_the_simulator_uses_a_fit_unless_it_is_told_not_to(card, fitted):
    model = load_model("qwen3-30b-a3b")
    layer = model.moe_layers[0]
    rows, starts = np.array([1] * 16 + [8] * 8), [0, 16]
    plain, sheet = CostModel(card, model), CostModel(fitted, model, "datasheet")
    assert list(sheet.experts_ns(layer, rows, starts)) == list(
        plain.experts_ns(layer, rows, starts)
    )
    costs = CostModel(fitted, model)
    found = costs.experts_ns(layer, rows, starts)
    provenance = costs.provenance("experts", found, layer, rows, starts)
    assert provenance[Source.MEASURED] == found[0]
    assert provenance[Source.INTERPOLATED] == found[1]
    assert provenance.sum() == found.sum()
    table = operations(
        tokens=[2, 8],
        hidden=2048,
        inter=768,
        experts=128,
        top_k=8,
        rows=[[1] * 16, [8] * 8],
    )
    priced = price_table(fitted, table).price_ns
    reorderings = 2 * fitted.datasheet.kernel_start.value
    assert found == pytest.approx(priced - reorderings, rel=2e-3)


def test_a_kernel_name_tells_the_families_that_it_can_mean():
    assert families_of("flashinfer_trtllm_bf16") == ("trtllm",)
    assert families_of("vllm_fused_moe") == ("triton", "triton-older")
    assert len(families_of(None)) == len(families_of("flashinfer_cutlass")) == 4


def test_chosen_launches_do_the_same_work_as_among_the_others(card):
    shape = {"hidden": 4096, "inter": 1536, "experts": 128, "top_k": 8}
    table = valid(
        operations(tokens=[16, 2, 40], rows=[[16] * 8, [1] * 16, [40] * 8], **shape), timed=False
    )[0]
    shapes = expert_shapes(table, card)
    mask = np.array([False, True, True])
    every, some = expert_work(shapes, "triton"), expert_work(shapes.where(mask), "triton")
    assert list(some.row_tiles) == list(every.row_tiles[mask])
    assert list(some.distinct) == [16, 8]


@pytest.mark.parametrize(("tokens", "top_k", "experts"), [(1, 8, 128), (4, 2, 8), (700, 6, 128)])
def test_power_law_rows_are_the_tokens_choices(tokens, top_k, experts):
    rows = power_law_rows(tokens, top_k, experts, 1.01)
    assert sum(rows) == tokens * top_k
    assert len(rows) == experts
    assert max(rows) <= tokens
    assert list(rows) == sorted(rows, reverse=True)


def test_a_table_that_shows_nothing_writes_nothing(card, tmp_path, capsys):
    table, profile = tmp_path / "t.parquet", tmp_path / "p.yaml"
    synthetic(card).head(9).drop(columns="_line").to_parquet(table)
    assert main(["calibrate", "fit", str(table), "-o", str(profile)]) == 1
    told = capsys.readouterr().err
    assert "a fit needs 30" in told
    assert "nothing was written" in told
    assert not profile.exists()


@pytest.mark.parametrize(("dtype", "size"), [("fp32", 4), ("bf16", 2), ("int4", 2)])
def test_activations_are_as_wide_as_a_model_of_that_format_has_them(card, dtype, size):
    shape = {"hidden": 4096, "inter": 1536, "experts": 128, "top_k": 8}
    table = valid(operations(tokens=[16], dtype=dtype, **shape), timed=False)[0]
    assert expert_work(expert_shapes(table, card), "triton").activation_bytes == [size]


def test_a_fit_stands_over_any_gpu_that_is_listed(tmp_path, capsys):
    """Cards without a profile of their own could not be fitted at all."""
    shape = "moe,bf16,{t},2048,768,128,8,{ns},{device},vllm,1"
    head = "op,dtype,tokens,hidden,inter,experts,top_k,latency_ns,device,framework,version"
    times = [(t, 120_000 * t) for t in range(1, 33)]

    def fitted(device, *base):
        table, profile = tmp_path / "table.csv", tmp_path / "mine.yaml"
        rows = [shape.format(t=t, ns=ns, device=device) for t, ns in times]
        table.write_text("\n".join([head, *rows, ""]))
        code = main(["calibrate", "fit", str(table), "-o", str(profile), *base])
        return load_hardware(str(profile)) if code == 0 else capsys.readouterr().err

    for found in (fitted("NVIDIA L40"), fitted("any", "--base", "l40")):
        assert found.datasheet.memory_bandwidth == load_hardware("l40").datasheet.memory_bandwidth
        assert len(found.calibrated.experts) == 1
    assert "no GPU of 'moesim list gpus' is 'L2'; name one with --base" in fitted("L2")
