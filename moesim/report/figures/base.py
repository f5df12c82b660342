"""What a figure is: a table prepared from a result folder, and its drawing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from moesim.config.errors import InputError, Problem
from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

CAPACITY = "experts.capacity"
OVER_CAPACITY = "a sweep over experts.capacity with a point that ran to its end"


class Chart(NamedTuple):
    """How a browser draws the table: a Vega-Lite ``mark``, and how the columns end that stand
    across, up ("": the last one) and by ``colour``. ``fold``: which columns (a pattern) are a
    ``series`` each, whose numbers are the ``value`` in ``unit``.
    """

    mark: str
    x: str
    y: str
    colour: str = ""
    fold: str = ""
    unit: str = ""


class Figure(Params, ABC):
    """A figure of one result folder, found by its ``kind`` in this folder or by entry point.

    Its fields are what an experiment or the command line can set. ``draw`` sees only the table,
    which is written beside the picture: whoever has the table can draw the figure again, or another
    one. 'moesim check' imports figures, so pandas and matplotlib are imported where they are used.
    """

    kind: ClassVar[str]
    needs: ClassVar[str]
    """The result that the figure is made from, as a sentence's object."""

    chart: ClassVar[Chart | None] = None
    """The same in a browser, if it has one."""

    @property
    def stem(self) -> str:
        """The name of its files without the ending."""
        return self.kind

    @classmethod
    def is_default(cls) -> bool:
        """Whether it can be drawn without a word about it: no field must be given."""
        return not any(field.is_required() for field in cls.model_fields.values())

    def obstacle(self, axes: Collection[str]) -> str:
        """Why a sweep over the paths ``axes`` (none: a single run) lacks what it needs; "" where
        nothing is known to be in the way.
        """
        del axes
        return ""

    @abstractmethod
    def prepare(self, folder: Path) -> pd.DataFrame:
        """The figure's table from a run's or a sweep's ``folder``.

        Raises an InputError that names ``needs`` where the folder does not have it.
        """

    @abstractmethod
    def draw(self, table: pd.DataFrame, axes: Axes) -> None:
        """Draw ``table`` on ``axes``: titles, units and labels included."""

    def size(self, table: pd.DataFrame) -> tuple[float, float]:
        """Width and height in inches of the drawing area of ``table``."""
        del table
        return (5.6, 3.8)

    def unsuitable(self, folder: Path, why: str) -> InputError:
        """The error that ``folder`` does not have what this figure needs."""
        return InputError([Problem(str(folder), self.kind, f"{why}; it needs {self.needs}")])


def table_of(figure: Figure, folder: Path) -> pd.DataFrame:
    """What ``figure`` prepares from ``folder``; an InputError where it raises, or gives no
    table.
    """
    import pandas as pd

    with answering("figures", figure):
        table: object = figure.prepare(folder)
    if not isinstance(table, pd.DataFrame):
        raise wrong_answer("figures", figure, f"gives {type(table).__name__}, not a DataFrame")
    return table


def over(axis: str, axes: Collection[str]) -> str:
    """The obstacle of a figure over ``axis`` in a sweep over ``axes``."""
    if axis in axes:
        return ""
    return f"the sweep's axes are {', '.join(axes)}" if axes else "there is no sweep"


def axis_of(name: str, axes: Collection[str]) -> str | None:
    """The axis of ``axes`` with the path ``name``, or the only one whose last word that is (the one
    before ``kind``).
    """
    if name in axes:
        return name
    found = [axis for axis in axes if axis.removesuffix(".kind").rpartition(".")[2] == name]
    return found[0] if len(found) == 1 else None
