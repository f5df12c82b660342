from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from moesim.hardware.fitting.ratio_tables import (
    Columns,
    filled,
    ratio_table,
    steady,
    tensor_of,
)
from moesim.hardware.measurements.validate import LINE
from moesim.hardware.prices.ratio_table import (
    LARGEST,
    STEP,
    Beyond,
    RatioTable,
    interpolated,
    pack,
)

COLUMNS = Columns({"n": 1.0, "k": 0.5}, ("m",))
SIZES = (256, 1024, 4096)
ROWS = (1, 16, 256)
FORMULA_NS = 1e4


def rows(**columns):
    return {name: np.asarray(values, float) for name, values in columns.items()}


def table_of(logs, columns=COLUMNS):
    """The table of ``logs`` [n, k, m], nan where nothing was measured."""
    grid = [(n, k, m) for n in SIZES for k in SIZES for m in ROWS]
    frame = pd.DataFrame(grid, columns=["n", "k", "m"])
    known = ~np.isnan(logs.ravel())
    frame[LINE] = np.arange(len(frame))
    formula = FORMULA_NS * frame["m"].to_numpy(float) ** 2
    frame["latency_ns"] = formula * np.exp(logs.ravel())
    return ratio_table(frame[known].reset_index(drop=True), formula[known], columns, {})


def drawn(seed=0):
    return np.random.default_rng(seed).normal(0, 0.2, (3, 3, 3))


def test_what_was_measured_is_found_to_half_a_step():
    logs = drawn()
    table = table_of(logs)
    n, k, m = (values.ravel() for values in np.meshgrid(SIZES, SIZES, ROWS, indexing="ij"))
    found = table.at(rows(n=n, k=k, m=m))
    assert np.abs(np.log(found.ratio) - logs.ravel()).max() <= STEP / 2 + 1e-12
    assert found.measured.all()
    assert found.within.all()


def test_by_hand_between_two_rows_of_a_measured_shape():
    """4 is half way from 1 to 16 in logarithms."""
    logs = np.zeros((3, 3, 3))
    logs[0, 0] = 0.1, 0.3, -0.2
    found = table_of(logs).at(rows(n=[256, 256], k=[256, 256], m=[4, 64]))
    assert np.log(found.ratio) == pytest.approx([0.2, 0.05])
    assert not found.measured.any()
    assert found.within.all()


def test_by_hand_between_two_shapes_along_a_line():
    """A line of shapes: radial functions are linear between neighbours."""
    values = np.array([0.1, 0.3, 0.9])
    points = np.log(np.array([[1.0], [4.0], [16.0]]))
    found = interpolated(points, values[:, None], np.log([[2.0], [8.0], [4.0]]))
    assert found[:, 0] == pytest.approx([0.2, 0.6, 0.3])


def test_shapes_count_by_other_scales_beyond_a_value_of_the_grid():
    """Ratios that differ along the depth alone: where that hardly counts, the columns' neighbours
    weigh as much as the depth's.
    """
    logs = np.broadcast_to(np.array([0.0, 0.2, 0.9])[None, :, None], (3, 3, 3)).copy()
    near = Columns({"n": 1.0, "k": 1.0}, ("m",))
    asked = rows(n=[500, 500], k=[500, 500], m=[1, 256])
    flat = near._replace(shape={"n": 1.0, "k": 0.1})
    both = near._replace(beyond=Beyond(column="m", above=16, shape={"n": 1.0, "k": 0.1}))
    expected = [table_of(logs, columns).at(asked).ratio for columns in (near, flat)]
    assert expected[0][1] != pytest.approx(expected[1][1], rel=1e-3)
    found = table_of(logs, both).at(asked).ratio
    assert found == pytest.approx([expected[0][0], expected[1][1]])


def test_other_scales_are_of_a_column_of_the_grid():
    table = table_of(drawn()).model_dump()
    with pytest.raises(ValidationError, match="'beyond' names no column"):
        RatioTable(**table | {"beyond": {"column": "k", "above": 1, "shape": {"n": 1.0}}})


def test_beyond_the_edge_is_as_at_the_edge():
    table = table_of(drawn(1))
    far = table.at(rows(n=[10**6, 1, 256], k=[10**6, 1, 256], m=[10**6, 1, 1000]))
    edge = table.at(rows(n=[4096, 256, 256], k=[4096, 256, 256], m=[256, 1, 256]))
    assert far.ratio == pytest.approx(edge.ratio)
    assert not far.within.any()
    assert not far.measured.any()


@given(st.floats(-1, 1), st.lists(st.tuples(*[st.integers(1, 10**5)] * 3), min_size=1, max_size=20))
def test_one_ratio_everywhere_stays_everywhere(log, shapes):
    n, k, m = np.array(shapes, float).T
    found = table_of(np.full((3, 3, 3), log)).at(rows(n=n, k=k, m=m))
    assert np.abs(np.log(found.ratio) - log).max() <= STEP / 2 + 1e-9


@given(st.integers(0, 1000), st.permutations(range(12)))
def test_a_ratio_does_not_depend_on_what_else_is_asked(seed, order):
    table, generator = table_of(drawn(seed)), np.random.default_rng(seed)
    asked = rows(**{name: generator.integers(1, 9000, 12) for name in "nkm"})
    together = table.at(asked).ratio
    alone = [table.at({name: asked[name][[at]] for name in asked}).ratio[0] for at in order]
    assert together[order] == pytest.approx(alone, rel=1e-12)


def test_what_was_not_measured_is_filled_from_the_shapes_around_and_says_so():
    logs = np.broadcast_to(np.array([0.1, 0.2, 0.3])[:, None, None], (3, 3, 3)).copy()
    logs[1, 1, 1] = np.nan
    table = table_of(logs)
    found = table.at(rows(n=[1024, 1024], k=[1024, 1024], m=[16, 1]))
    assert found.measured.tolist() == [False, True]
    assert np.log(found.ratio) == pytest.approx([0.2, 0.2], abs=0.03)


def test_few_shapes_are_filled_along_the_grid():
    frame = pd.DataFrame({"n": [64, 64, 128], "k": [64, 64, 64], "m": [1, 16, 4]})
    tensor = tensor_of(frame, np.array([0.1, 0.3, 0.7]), COLUMNS)
    assert filled(tensor, COLUMNS) == pytest.approx(np.array([[0.1, 0.2, 0.3], [0.7] * 3]))


def test_a_shape_measured_again_counts_by_its_median():
    frame = pd.DataFrame({"n": [64] * 3, "k": [64] * 3, "m": [1] * 3})
    assert tensor_of(frame, np.array([0.1, 0.9, 0.2]), COLUMNS).logs.tolist() == [[0.2]]


def test_a_ratio_too_large_to_store_is_cut_and_not_called_measured():
    logs = np.zeros((3, 3, 3))
    logs[0, 0, 0] = 2.0
    found = table_of(logs).at(rows(n=[256], k=[256], m=[1]))
    assert np.log(found.ratio) == pytest.approx([LARGEST * STEP])
    assert not found.measured[0]


def test_by_hand_a_time_far_above_what_more_work_took_is_no_measurement():
    """Three times what 16 rows take; a tenth above is followed."""
    logs = np.log([[[1.0, 3.0, 1.05, 1.0], [1.0, 1.0, 1.0, 1.0]]])
    expected = np.log([[[1.0, 1.1, 1.05, 1.0], [1.0, 1.0, 1.0, 1.0]]])
    assert steady(logs) == pytest.approx(expected)
    assert steady(np.where(logs > 1, np.nan, logs)) == pytest.approx(
        np.where(logs > 1, np.nan, expected), nan_ok=True
    )
    both = np.log([[[9.0, 1.0], [2.0, 2.0]]])
    assert steady(both) == pytest.approx(np.log([[[1.1, 1.0], [2.0, 2.0]]]))


def test_two_columns_of_a_grid():
    shapes, logs = np.array([[8.0]]), np.array([[[0.0, 0.2], [0.4, 0.6]]])
    packed = pack(shapes, logs, np.ones(logs.shape, bool))
    grid: dict[str, tuple[int, ...]] = {"batch": (1, 4), "context": (1, 16)}
    table = RatioTable(shape={"heads": 1.0}, grid=grid, errors={}, packed=packed)
    found = table.at(rows(heads=[8, 8, 5], batch=[2, 4, 4], context=[4, 1, 16]))
    assert np.log(found.ratio) == pytest.approx([0.3, 0.4, 0.6])
    assert found.measured.tolist() == [False, True, False]


SHAPE, GRID = {"n": 1.0}, {"m": (1, 2)}
PACKED = pack(np.array([[8.0]]), np.zeros((1, 2)), np.ones((1, 2), bool))


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"packed": "AAAA"}, "no archive of numbers"),
        ({"packed": PACKED[: len(PACKED) // 2]}, "no archive of numbers"),
        ({"grid": {"m": (1, 2, 3)}}, "other sizes than 1, 3"),
        ({"shape": {"n": 1.0, "k": 1.0}}, "other sizes"),
        ({"grid": {"m": (2, 1)}}, "'grid' of 'm' does not ascend"),
        ({"grid": {}}, "name a column at least"),
        (
            {"packed": pack(np.full((2, 1), 8.0), np.zeros((2, 2)), np.ones((2, 2), bool))},
            "a shape twice",
        ),
        (
            {"errors": {"points": dict.fromkeys(("points", "shapes"), 1)
            | dict.fromkeys(("median_percent", "p90_percent", "largest_percent"), 1.0)}},
            "'errors' has no 'shapes'",
        ),
    ],
)  # fmt: skip
def test_a_broken_table_is_refused(changed, told):
    whole: dict[str, Any] = {"shape": SHAPE, "grid": GRID, "errors": {}, "packed": PACKED}
    assert RatioTable(**whole) == RatioTable(**whole)
    with pytest.raises(ValidationError, match=told):
        RatioTable(**whole | changed)
