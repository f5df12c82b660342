"""Vectors and matrices in a parameter file: a row of numbers is one text, ``0.5 0 -1.25``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated

import numpy as np
from numpy.typing import NDArray
from pydantic import AfterValidator, Field

from moesim.trace.routing import NO_EXPERT

Floats = NDArray[np.float64]


def numbers(text: str) -> Floats:
    """The numbers of one row; ValueError if it holds anything else."""
    try:
        row = np.array([float(word) for word in text.split()])
    except ValueError:
        row = np.array([np.nan])
    if not len(row) or not np.isfinite(row).all():
        raise ValueError(f"'{text[:40]}' is not a row of numbers; write it as in '0.5 0 -1.25'")
    return row


def _checked(text: str) -> str:
    numbers(text)
    return text


MOST_NUMBER = 10.0
"""Exponents and spreads beyond it leave the range of floating point."""

Row = Annotated[str, AfterValidator(_checked)]
"""Numbers separated by spaces."""

Rows = tuple[Row, ...]
Matrices = tuple[Rows, ...]
Experts = Annotated[int, Field(ge=1, le=NO_EXPERT - 1)]
PerLayer = Annotated[tuple[Annotated[float, Field(ge=0, le=MOST_NUMBER)], ...], Field(min_length=1)]
"""One number for all layers, or one a layer."""


def matrix(rows: Sequence[str]) -> Floats:
    """[rows, numbers of a row]; all rows are equally long."""
    return np.stack([numbers(row) for row in rows])


def fixed(values: Floats, decimals: int) -> str:
    """A row as text, each number rounded to ``decimals`` places."""
    return " ".join(np.format_float_positional(v + 0.0, trim="-") for v in values.round(decimals))


def significant(values: Floats, digits: int) -> str:
    """A row as text, each number rounded to ``digits`` significant ones."""
    return " ".join(f"{value:.{digits}g}" for value in values)


def per_layer(values: Sequence[float], layers: int) -> Floats:
    """[layers]: a number for each layer."""
    return np.broadcast_to(np.asarray(values, dtype=np.float64), (layers,)).copy()
