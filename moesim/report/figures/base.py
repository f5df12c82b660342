"""What a figure is: a table prepared from a result folder, and its drawing."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from moesim.config.errors import InputError, Problem

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes


class Figure(ABC):
    """A figure of one result folder, found by its ``kind`` in this folder or by entry point.

    ``draw`` sees only the table, which is written beside the picture: whoever has the table can
    draw the figure again, or another one.
    """

    kind: ClassVar[str]
    needs: ClassVar[str]
    """The result that the figure is made from, as a sentence's object."""

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
