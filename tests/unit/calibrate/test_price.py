import json
from typing import Any

import numpy as np
import pandas as pd
import pytest

import moesim
from moesim.calibrate.prices.explain import explained
from moesim.calibrate.prices.operations import OPERATIONS
from moesim.calibrate.prices.price import price_table
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.hardware import load_hardware
from moesim.hardware.described.precision import UNITS
from moesim.hardware.measurements.columns import BYTES, SHAPES
from moesim.hardware.measurements.validate import LINE
from tests.unit.calibrate.conftest import operations


def test_every_op_has_a_price(card):
    assert set(OPERATIONS) == set(SHAPES)
    for op, shape in SHAPES.items():
        table = operations(**{name: [64] for name in shape} | {"op": [op]})
        prices = price_table(card, table)
        assert prices.price_ns[0] > 0, op
        assert prices.price_source[0] == "datasheet"


def test_prices_keep_rows_order_and_columns(tmp_path, card):
    table = pd.DataFrame(
        {
            "op": ["moe", "gemm", "moe"],
            "dtype": ["bfloat16", "fp16", "bf16"],
            "tokens": [64.0, None, 1.0],
            "hidden": [2048, None, 2048],
            "inter": [768, None, 768],
            "experts": [128, None, 128],
            "top_k": [8, None, 8],
            "m": [None, 16, None],
            "n": [None, 4096, None],
            "k": [None, 4096, None],
            "mine": ["a", "b", None],
            "empty": [None, None, None],
        }
    )
    ops, out = tmp_path / "ops.parquet", tmp_path / "out.parquet"
    table.to_parquet(ops)
    assert main(["price", "h100-sxm", "--ops", str(ops), "-o", str(out)]) == 0
    priced = pd.read_parquet(out)
    pd.testing.assert_frame_equal(priced[table.columns], pd.read_parquet(ops))
    made = ["price_ns", "price_source", "outside", "low_ns", "high_ns"]
    assert list(priced.columns[-5:]) == made
    assert priced["price_ns"].iloc[0] > priced["price_ns"].iloc[2]


def test_a_frame_has_the_prices_of_its_file(tmp_path):
    """Rows of experts that CSV keeps as a text, an index of one's own, and lines from 1."""
    frame = operations(
        op="moe", tokens=2, hidden=1024, inter=512, experts=8, top_k=2, rows=["2 1 1", "2 2"],
        dtype="bf16",
    ).drop(columns=LINE).set_axis([7, 3])  # fmt: skip
    frame.to_csv(tmp_path / "ops.csv", index=False)
    of_file = moesim.price("h100-sxm", tmp_path / "ops.csv")
    of_frame = moesim.price("h100-sxm", frame)
    assert of_frame.index.tolist() == [7, 3]
    pd.testing.assert_frame_equal(of_frame.reset_index(drop=True), of_file)
    pd.testing.assert_frame_equal(
        of_file, moesim.price("h100-sxm", pd.read_csv(tmp_path / "ops.csv"))
    )
    assert of_file["price_ns"].nunique() == 2
    assert moesim.price("h100-sxm", frame[:0])["price_ns"].tolist() == []
    with pytest.raises(InputError, match=r"^table:2: 'tokens' is not a whole number above 0$"):
        moesim.price("h100-sxm", frame.assign(tokens=[2, 0], rows=None))


def test_a_row_without_a_price_is_an_error_with_its_line(card):
    shape = {"hidden": 2048, "inter": 768, "experts": 128, "top_k": 8}
    with pytest.raises(InputError, match="ops:2: 'tokens' is not a whole number"):
        price_table(card, operations(tokens=[1, 0], **shape), name="ops")
    with pytest.raises(InputError, match="--method 'fitt'"):
        price_table(card, operations(tokens=[1], **shape), "fitt")


EXPERT: dict[str, Any] = {"hidden": [2880], "inter": 2880, "experts": 32, "top_k": 4, "gated": True}


@pytest.mark.parametrize(("tokens", "bound"), [(1, "memory (reads)"), (4096, "compute (products)")])
def test_a_datasheet_price_is_explained(tokens, bound):
    profile = load_hardware("rtx-4090")
    values = {name: np.ravel(value)[0] for name, value in EXPERT.items()}
    values |= {"op": "moe", "dtype": "bf16", "tokens": tokens}
    table = explained(profile, values, "datasheet")
    cells = list(zip(*([*column.cells] for column in table.columns), strict=True))
    rows = {name: (time, amount, at) for name, time, amount, at in cells}
    assert rows["bound by"][1] == bound
    time = {name: float(us or 0) for name, (us, _, _) in rows.items()}
    assert time["reads and products"] == max(time["  reads"], time["  products"])
    total = time["starts"] + time["reads and products"] + time["moves"]
    assert total == pytest.approx(time["price"], abs=2e-3)
    touched = min(4 * tokens, 32) * 3 * 2880 * 2880 * 2
    assert rows["  reads"][1:] == (
        "199.1 MB" if tokens == 1 else "1.593 GB",
        "907.2 GB/s, 90 % of 1.008 TB/s",
    )
    assert time["  reads"] == pytest.approx(touched / 907.2e9 * 1e6, rel=1e-4)
    assert rows["  products"][2] == "138.8 TFLOP/s, 84 % of 165.2 TFLOP/s"
    told = str(table.caption).splitlines()
    assert "memory bandwidth: NVIDIA GeForce RTX 4090 specifications, 2022" in told
    assert any(line.startswith("kernel start: prior, a fifth of") for line in told)
    assert not any("pageable" in line or "power" in line for line in told)


@pytest.mark.parametrize(
    ("op", "shape", "told"),
    [
        ("cpu_expert", {"tokens": 1, "hidden": 2880, "inter": 2880}, "expert fraction: prior, "),
        ("copy_h2d", {"bytes": 10**6}, "h2d pinned latency, h2d pageable latency: measured"),
    ],
)
def test_a_price_names_the_sources_of_the_part_that_it_is_of(op, shape, told):
    values = {"op": op, "dtype": "bf16", **shape}
    lines = str(explained(load_hardware("rtx-4090"), values, "datasheet").caption).splitlines()
    assert any(line.startswith(told) for line in lines), lines
    assert not any("GeForce RTX 4090 specifications" in line for line in lines)


def test_a_mix_is_priced_as_the_format_of_most_of_its_tensors(capsys):
    shape = ["--tokens", "1", "--hidden", "2048", "--inter", "768", "--op", "cpu_expert", "--json"]
    found = []
    for dtype in ("q4_k_m", "q4_k", "iq2_s"):
        assert main(["explain", "rtx-4090", *shape, "--dtype", dtype]) == 0
        found.append(json.loads(capsys.readouterr().out))
    mix, usual, other = found
    assert mix["parts"] == usual["parts"] != other["parts"]
    assert mix["notes"].startswith("q4_k_m is a mix: priced as q4_k, which most of its tensors")
    assert "is a mix" not in usual["notes"] + other["notes"]


def test_what_takes_an_hour_is_told_with_its_line(card):
    shape = {"m": [16, 2**40], "n": [4096, 2**20], "k": [4096, 2**20]}
    with pytest.raises(InputError, match="ops:2: takes more than an hour"):
        price_table(card, operations(op="gemm", **shape), name="ops")


def test_every_format_that_is_multiplied_has_a_size():
    assert [name for name in UNITS if not BYTES.get(name)] == []


def test_a_price_as_software_has_it(capsys):
    shape = ["--tokens", "64", "--hidden", "2048", "--inter", "768", "--dtype", "q4_k"]
    question = ["explain", "rtx-3060-12gb", "--op", "cpu_expert", *shape, "--json"]
    prices = []
    for software in ([], ["--software", "llama.cpp"], ["--software", "ik_llama.cpp"]):
        assert main([*question, *software]) == 0
        parts = json.loads(capsys.readouterr().out)["parts"]
        prices.append(next(float(part["us"]) for part in parts if part["term"] == "price"))
    none, llama, fork = prices
    assert len({none, llama, fork}) == 3
    assert llama > fork
    assert main([*question, "--software", "vlm"]) == 2
    assert "did you mean 'vllm'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("op", "given", "told"),
    [
        ("cpu_expert", ["--experts", "8", "--top-k", "2"], "not experts, top_k; leave"),
        ("cpu_expert", ["--rows", "3,1"], "reads tokens, hidden, inter, not rows; leave"),
        ("launch", [], "reads no number, not hidden, inter, tokens; leave"),
    ],
)
def test_a_number_that_a_price_does_not_read_is_told(capsys, op, given, told):
    shape = ["--tokens", "4", "--hidden", "2048", "--inter", "768"]
    assert main(["explain", "rtx-4090", "--op", op, *shape, *given]) == 2
    assert f"a price of '{op}' " in (line := capsys.readouterr().err)
    assert told in line


def test_of_an_experiment_its_experts_are_explained(capsys):
    asked = ["explain", "experiments/quickstart.yaml", "--tokens", "16"]
    assert main(asked) == 0
    assert (line := capsys.readouterr().out).lstrip().startswith("rtx-4060-8gb: experts, ")
    assert main([*asked, "--op", "experts"]) == 0
    assert capsys.readouterr().out == line
