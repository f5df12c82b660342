"""What nobody measured is no choice."""

import pandas as pd
import pytest

from moesim.sweep.guessed import GUESSED, in_the_middle, middle_of


@pytest.mark.parametrize(
    ("values", "expected"),
    [(["50 %", "25 %", "94 %"], "50 %"), (["5 %", "10 %", "9 %"], "9 %"), ([0.5, 0.5], "0.5"),
     ([None], "")],
)  # fmt: skip
def test_the_middle_is_by_number(values: list[object], expected: str) -> None:
    assert middle_of(pd.Series(values, dtype="object")) == expected


def test_points_off_the_middle_are_told() -> None:
    (axis,) = GUESSED
    table = pd.DataFrame({axis: ["25 %", "50 %", "94 %", "50 %"]})
    assert list(in_the_middle(table)) == [False, True, False, True]
    assert in_the_middle(table.rename(columns={axis: "model"})).all()
