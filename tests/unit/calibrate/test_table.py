import numpy as np
import pandas as pd
import pytest

from moesim.calibrate.tables.limits import within
from moesim.config.errors import InputError
from moesim.hardware.measurements.columns import COLUMNS, SHAPES, short_dtype
from moesim.hardware.measurements.table import read_table, write_table
from moesim.hardware.measurements.validate import LINE, valid

GOOD = {
    "op": "moe",
    "dtype": "bf16",
    "tokens": 4,
    "hidden": 2048,
    "inter": 768,
    "experts": 128,
    "top_k": 8,
    "latency_ns": 120_000.0,
}


def table(*changes):
    frame = pd.DataFrame([GOOD | change for change in changes])
    frame[LINE] = np.arange(2, len(frame) + 2)
    return frame


def test_every_op_has_documented_columns():
    for shape in SHAPES.values():
        assert set(shape) <= set(COLUMNS)


@pytest.mark.parametrize(
    ("long", "short"),
    [("bfloat16", "bf16"), ("torch.float16", "fp16"), ("fp8_block", "fp8"), ("BF16", "bf16")],
)
def test_long_dtype_names_are_read(long, short):
    assert short_dtype(long) == short
    kept, findings = valid(table({"dtype": long}))
    assert list(kept["dtype"]) == [short]
    assert not findings


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"latency_ns": -1.0}, "negative"),
        ({"latency_ns": 0.0}, "zero"),
        ({"latency_ns": np.nan}, "not a number"),
        ({"op": "moee"}, "did you mean 'moe'"),
        ({"dtype": "fp7"}, "no dtype"),
        ({"dtype": None}, "has no 'dtype'"),
        ({"tokens": 10**18}, "'tokens' is too large; less than 1,125,899,906,842,624"),
        ({"tokens": 0}, "'tokens' is not a whole number above 0"),
        ({"hidden": 2048.5}, "'hidden'"),
        ({"top_k": 200}, "'top_k' is above 'experts'"),
        ({"distinct_experts": 40}, "above tokens x top_k"),
        ({"rows": [4, 4]}, "'rows'"),
        ({"rows": [32]}, "'rows'"),
        ({"rows": [-1, 33]}, "'rows'"),
        ({"rows": "many"}, "'rows'"),
        ({"gated": "perhaps"}, "'gated'"),
    ],
)
def test_an_impossible_row_is_told_by_its_line_and_left_out(change, words):
    kept, findings = valid(table({}, change, {"tokens": 8}))
    assert list(kept["tokens"]) == [4, 8]
    assert [finding.line for finding in findings] == [3]
    assert words in findings[0].what


def test_heads_that_cannot_share_keys_are_left_out():
    shape = {"op": "attention_decode", "batch": 1, "context": 64, "heads": 8, "head_dim": 64}
    kept, findings = valid(table(shape | {"kv_heads": 4}, shape | {"kv_heads": 16}))
    assert list(kept["kv_heads"]) == [4]
    assert "multiple" in findings[0].what


def test_a_missing_column_is_told():
    kept, findings = valid(table({}).drop(columns="top_k"))
    assert kept.empty
    assert findings[0].what == "has no 'top_k'"


def test_times_of_one_shape_that_disagree_are_both_left_out():
    kept, findings = valid(table({}, {"latency_ns": 123_000.0}, {"tokens": 2}))
    assert len(kept) == 3
    kept, findings = valid(table({}, {"latency_ns": 240_000.0}, {"tokens": 2}))
    assert list(kept["tokens"]) == [2]
    assert [finding.line for finding in findings] == [2, 3]


def test_the_datasheet_rules_out_wrong_units(card):
    fine = {"tokens": 1024, "latency_ns": 800_000.0}
    in_us, in_ps = {"tokens": 1025, "latency_ns": 800.0}, {"tokens": 1026, "latency_ns": 8e8}
    kept, findings = within(valid(table(fine, in_us, in_ps))[0], card)
    assert list(kept["latency_ns"]) == [800_000.0]
    assert [finding.line for finding in findings] == [3, 4]
    assert "faster than the datasheet allows" in findings[0].what


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_table_comes_back(tmp_path, suffix):
    path = tmp_path / f"table{suffix}"
    frame = table({"rows": [4] * 8, "mine": "kept"}, {"rows": None, "mine": "too"})
    write_table(frame, path)
    back = read_table(path)
    assert list(back[LINE]) == ([2, 3] if suffix == ".csv" else [1, 2])
    assert list(back["rows"].iloc[0]) == [4] * 8
    assert list(back["mine"]) == ["kept", "too"]
    assert not valid(back)[1]


def test_what_is_no_table_is_told(tmp_path):
    with pytest.raises(InputError, match="is not a file"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("x,y\n1,2\n")
    with pytest.raises(InputError, match="no column 'op'"):
        read_table(tmp_path / "a.csv")
