import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.columns import SHAPES
from moesim.calibrate.datasheet_prices import PRICES
from moesim.calibrate.price import price_table
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model
from tests.unit.calibrate.conftest import operations


def test_every_op_has_a_price(card):
    assert set(PRICES) == set(SHAPES)
    for op, shape in SHAPES.items():
        table = operations(**{name: [64] for name in shape} | {"op": [op]})
        prices = price_table(card, table)
        assert prices.price_ns[0] > 0, op
        assert prices.price_source[0] == "datasheet"


def test_the_datasheet_price_is_the_simulators():
    card, model = load_hardware("rtx-4060-8gb"), load_model("qwen3-30b-a3b")
    layer = next(layer for layer in model.layers if layer.moe)
    expert = layer.moe.expert
    rows = np.array([16] * 8)
    table = operations(
        tokens=[16],
        hidden=expert.hidden_size,
        inter=expert.intermediate_size,
        experts=layer.moe.experts,
        top_k=layer.moe.top_k,
        rows=[list(rows)],
    )
    simulated = CostModel(card, model).experts_ns(layer, rows, [0])[0]
    assert price_table(card, table, "datasheet").price_ns[0] == pytest.approx(simulated, abs=1)


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
    assert list(priced.columns[-3:]) == ["price_ns", "price_source", "outside"]
    assert priced["price_ns"].iloc[0] > priced["price_ns"].iloc[2]


def test_a_row_without_a_price_is_an_error_with_its_line(card):
    shape = {"hidden": 2048, "inter": 768, "experts": 128, "top_k": 8}
    with pytest.raises(InputError, match="ops:2: 'tokens' is not a whole number"):
        price_table(card, operations(tokens=[1, 0], **shape), name="ops")
    with pytest.raises(InputError, match="--method 'fitt'"):
        price_table(card, operations(tokens=[1], **shape), "fitt")
