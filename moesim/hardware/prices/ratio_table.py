"""Measured over fitted times of many shapes, and what they say of the shapes between.

A table has a line for each ``shape``, of which a run asks for few (a product's columns and depth),
and on it the ratios over a ``grid`` of what changes from step to step (its rows). A ratio is
interpolated, in its logarithm over those of the columns: along the grid linearly, between shapes by
linear radial functions of the nearest ones, which may be other ones where a column of the grid is
``beyond`` a value. Beyond both it is that of the edge, so that the formula carries on from there.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from functools import cached_property, reduce
from io import BytesIO
from itertools import product
from typing import Annotated, NamedTuple, Self
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.params import Params
from moesim.hardware.prices.arrays import Floats
from moesim.hardware.prices.left_out import Count, HeldOut

STEP = 0.01
"""What a number of a table counts, of a ratio's logarithm."""
SHAPES = "shapes"
"""The errors of shapes that a table has not."""
PARTS = ("shapes", "steps", "measured")
"""The arrays of a packed table."""
WIDTH = 120
"""Characters of a line of packed numbers."""
NEIGHBOURS = 24
SAME = 1e-9
"""Distance below which a shape is a measured one."""
MOST_KEPT = 4096
"""Shapes whose ratios are kept at once."""
LARGEST = 127
"""Of these numbers; a ratio beyond is cut and counts as not measured."""
Mask = NDArray[np.bool_]
Axis = Annotated[tuple[Count, ...], Field(strict=False, min_length=1)]
Scale = Annotated[float, Field(gt=0, le=100)]


class Found(NamedTuple):
    """Ratios [n]; whether each was measured itself, and whether it lies within the table."""

    ratio: Floats
    measured: Mask
    within: Mask


class Beyond(Params):
    """Other scales of a shape's columns where a column of the grid is above a value."""

    column: str
    above: Count
    shape: dict[str, Scale]


class Part(NamedTuple):
    """Places of a grid, a mask [*grid], at which the columns of a shape have these ``scales``."""

    places: Mask
    scales: Floats


def parts_of(
    shape: Mapping[str, float], grid: Mapping[str, Sequence[float] | Floats], beyond: Beyond | None
) -> list[Part]:
    """The parts of a grid, ``beyond``'s last."""
    sizes, scales = tuple(map(len, grid.values())), np.array(list(shape.values()))
    if beyond is None:
        return [Part(np.ones(sizes, bool), scales)]
    axes = np.meshgrid(*grid.values(), indexing="ij")
    far = axes[list(grid).index(beyond.column)] > beyond.above
    other = np.array([beyond.shape.get(name, scale) for name, scale in shape.items()])
    return [Part(~far, scales), Part(far, other)]


class RatioTable(Params):
    """One kernel's ratios, as ``pack`` makes them of lines."""

    shape: dict[str, Scale] = Field(description="Columns of a shape; a scale of each logarithm.")
    beyond: Beyond | None = Field(None, description="Where a shape's columns have other scales.")
    grid: dict[str, Axis] = Field(description="Columns along a line, with their ascending values.")
    errors: dict[str, HeldOut] = Field(description="By what was left out, one half of it.")
    packed: str = Field(description="Base64 of a NumPy archive: see ``pack``.")

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for name, values in self.grid.items():
            if list(values) != sorted(set(values)):
                raise ValueError(f"'grid' of '{name}' does not ascend")
        if not self.shape or not self.grid:
            raise ValueError("'shape' and 'grid' name a column at least")
        if self.beyond and not {self.beyond.column} <= {*self.grid}:
            raise ValueError("'beyond' names no column of the grid")
        if self.errors and SHAPES not in self.errors:
            raise ValueError(f"'errors' has no '{SHAPES}'")
        assert self.known, "reads what is packed"
        return self

    @cached_property
    def known(self) -> Lines:
        """The lines; ValueError where they are not of this table."""
        try:
            with np.load(BytesIO(b64decode(self.packed)), allow_pickle=False) as archive:
                shapes, steps, measured = (archive[name] for name in PARTS)
        except (OSError, ValueError, KeyError, EOFError, BadZipFile, zlib.error) as error:
            raise ValueError(f"'packed' is no archive of numbers: {error}") from None
        sizes = (len(shapes), *(len(values) for values in self.grid.values()))
        whole = shapes.shape == (sizes[0], len(self.shape)) and (shapes > 0).all()
        if not sizes[0] or not whole or steps.shape != sizes or measured.shape != sizes:
            raise ValueError(f"'packed' is of other sizes than {', '.join(map(str, sizes))}")
        codes = np.cumsum(steps, axis=-1, dtype=np.int8)
        if len(np.unique(shapes, axis=0)) < len(shapes):
            raise ValueError("'packed' has a shape twice")
        return Lines(shapes.astype(np.float64), codes, measured.astype(bool), self)

    def at(self, columns: Mapping[str, Floats]) -> Found:
        """The ratios of operations; ``columns`` of the shape and of the grid, alike in shape."""
        flat = {name: np.ravel(columns[name]) for name in (*self.shape, *self.grid)}
        as_asked = np.shape(columns[next(iter(self.grid))])
        ratio, *marks = (np.reshape(values, as_asked) for values in self.known.at(flat))
        return Found(np.asarray(ratio, np.float64), *(np.asarray(mark, bool) for mark in marks))


class Lines:
    """Shapes [g, columns], logarithms of ratios in ``STEP`` [g, *grid], and which were measured.

    Compares by identity, so that tables compare by their fields.
    """

    def __init__(
        self, shapes: Floats, codes: NDArray[np.int8], measured: Mask, table: RatioTable
    ) -> None:
        self.shapes, self.codes, self.measured = shapes, codes, measured
        self._columns = (tuple(table.shape), tuple(table.grid))
        self._scales = np.array(list(table.shape.values()))
        self._scaled = np.log(shapes) * self._scales
        self._parts = parts_of(table.shape, table.grid, table.beyond)
        self._edges = self._scaled.min(0), self._scaled.max(0)
        self._axes = [np.log(np.asarray(axis, np.float64)) for axis in table.grid.values()]
        self._kept: dict[bytes, tuple[Floats, Mask]] = {}

    def at(self, columns: Mapping[str, Floats]) -> Found:
        """See ``RatioTable``; each of ``columns`` [n]."""
        names, along = self._columns
        shape = np.log(np.stack([columns[name] for name in names], axis=-1)) * self._scales
        grid = [np.log(np.maximum(columns[name], SAME)) for name in along]
        if len(shape) and (shape == shape[0]).all():
            return self._of_one(shape[0], grid)
        shapes, which = np.unique(shape, axis=0, return_inverse=True)
        found = Found(np.ones(len(shape)), *np.zeros((2, len(shape)), bool))
        for number, one in enumerate(shapes):
            mine = which.ravel() == number
            parts = self._of_one(one, [each[mine] for each in grid])
            for whole, part in zip(found, parts, strict=True):
                whole[mine] = part
        return found

    def _of_one(self, shape: Floats, grid: list[Floats]) -> Found:
        """The ratios of one shape, linearly along the grid."""
        near = np.clip(shape, *self._edges)
        line, seen = self._line(near)
        log, measured = np.zeros(len(grid[0])), np.ones(len(grid[0]), bool)
        within = np.full(len(log), np.abs(near - shape).max() < SAME)
        places = [_place(axis, values) for axis, values in zip(self._axes, grid, strict=True)]
        for place in places:
            within = within & place.within
        last = np.array(line.shape) - 1
        corners = product(*(((at, 1 - part), (at + 1, part)) for at, part, _ in places))
        for corner in corners:
            at = tuple(np.minimum(place, end) for (place, _), end in zip(corner, last, strict=True))
            share = reduce(np.multiply, (part for _, part in corner))
            log += share * line[at]
            measured &= (share == 0) | ((share == 1) & seen[at])
        return Found(np.exp(log), measured & within, within)

    def _line(self, shape: Floats) -> tuple[Floats, Mask]:
        """The ratios of a shape over the grid, and which of them were measured."""
        if (found := self._kept.get(shape.tobytes())) is None:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            found = self._kept[shape.tobytes()] = self._between(shape)
        return found

    def _between(self, shape: Floats) -> tuple[Floats, Mask]:
        distance = np.linalg.norm(self._scaled - shape, axis=-1)
        if distance[nearest := int(distance.argmin())] < SAME:
            return self.codes[nearest] * STEP, self.measured[nearest]
        line = np.empty(self.codes.shape[1:])
        for places, scales in self._parts:
            moved, known = scales / self._scales, self.codes[:, places].astype(np.float64)
            wanted = (shape * moved)[None]
            line[places] = interpolated(self._scaled * moved, known, wanted)[0] * STEP
        return line, np.zeros(line.shape, bool)


def pack(shapes: Floats, logs: Floats, measured: Mask) -> str:
    """Shapes [g, columns], logarithms of ratios [g, *grid] and which were measured, as
    ``RatioTable`` has them: in ``STEP``, each but the first of the last axis less the one before.
    """
    exact = np.round(logs / STEP)
    codes = np.clip(exact, -LARGEST, LARGEST).astype(np.int8)
    steps = np.diff(codes, axis=-1, prepend=np.int8(0))
    arrays = (shapes.astype(np.int64), steps, measured & (codes == exact))
    file = BytesIO()
    np.savez_compressed(file, **dict(zip(PARTS, arrays, strict=True)))
    text = b64encode(file.getvalue()).decode()
    return "".join(f"{text[at : at + WIDTH]}\n" for at in range(0, len(text), WIDTH))


class Place(NamedTuple):
    """The place before each value of an axis, how far it is on the way to the next one, and whether
    it lies between the ends; each [n].
    """

    low: NDArray[np.intp]
    part: Floats
    within: Mask


def _place(axis: Floats, values: Floats) -> Place:
    low = np.clip(np.searchsorted(axis, values + SAME, side="right") - 1, 0, max(len(axis) - 2, 0))
    within = (values > axis[0] - SAME) & (values < axis[-1] + SAME)
    if len(axis) == 1:
        return Place(low, np.zeros(len(values)), within)
    part = np.clip((values - axis[low]) / (axis[low + 1] - axis[low]), 0.0, 1.0)
    near = np.round(part)
    return Place(low, np.where(np.abs(part - near) < SAME, near, part), within)


def interpolated(points: Floats, values: Floats, wanted: Floats) -> Floats:
    """Values [u, ...] at ``wanted`` [u, d] from those [g, ...] at ``points`` [g, d]: a constant and
    linear radial functions of the nearest ``NEIGHBOURS``.
    """
    number = min(NEIGHBOURS, len(points))
    distance = np.linalg.norm(wanted[:, None] - points, axis=-1)
    near = np.argsort(distance, axis=-1, kind="stable")[:, :number]
    chosen, system = points[near], np.ones((len(wanted), number + 1, number + 1))
    system[:, :number, :number] = np.linalg.norm(chosen[:, :, None] - chosen[:, None], axis=-1)
    system[:, number, number] = 0.0
    right = np.ones((len(wanted), number + 1, 1))
    right[:, :number, 0] = np.take_along_axis(distance, near, axis=-1)
    weights = np.linalg.solve(system, right)[:, :number, 0]
    found = np.einsum("ug,ugc->uc", weights, values.reshape(len(values), -1)[near])
    return np.asarray(found.reshape(len(wanted), *values.shape[1:]), np.float64)
