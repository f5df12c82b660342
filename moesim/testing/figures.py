"""What every figure keeps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from moesim.config.errors import InputError
from moesim.report.figures.base import Figure


def draws_its_table(figure: Figure, folder: Path) -> pd.DataFrame:
    """``prepare`` makes the same rows each time, and ``draw`` puts them on the axes with a title
    and labels, from that table alone and without changing it. Returns the table.
    """
    from moesim.report.drawing.sheet import drawn

    table, name = figure.prepare(folder), type(figure).__name__
    assert len(table), f"{name}: an empty table of {folder}"
    pd.testing.assert_frame_equal(table, figure.prepare(folder), obj=f"{name}: prepared twice")
    before = table.copy(deep=True)
    with drawn(figure, table) as sheet:
        axes = sheet.axes[0]
        assert axes.get_title(loc="left") or axes.get_title(), f"{name} has no title"
        assert axes.get_xlabel() or axes.get_xticklabels(), f"{name} does not say what is across"
        for part in axes.child_axes or [axes]:
            assert part.get_ylabel() or part.get_yticklabels(), f"{name} does not say what is up"
    pd.testing.assert_frame_equal(table, before, obj=f"{name}: the table after it was drawn")
    return table


def refuses_what_lacks_its_data(figure: Figure, folder: Path) -> None:
    """Of a folder without what it ``needs`` it makes an InputError that names that."""
    name, said = type(figure).__name__, ""
    try:
        figure.prepare(folder)
    except InputError as error:
        said = str(error)
    assert said, f"{name} makes a table of {folder}, which lacks {figure.needs}"
    assert figure.needs in said, f"{name}: '{said}' does not say what it needs"
