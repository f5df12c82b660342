"""Prices of dispatch and combine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.pricing.prices import Kept, PriceCache
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.replay.activation_index import Finder
from moesim.engine.replay.exchanges import busiest_rows, find_exchanges
from moesim.memory.activations import steps_of

Routed = tuple[NDArray[np.uint16], Ints, Ints, Ints, NDArray[np.bool_], Ints, int]
"""What ``exchanges`` takes."""


class Collectives:
    """Prices the exchanges of a case, run of passes by run of passes."""

    def __init__(self, case: Case, finder: Finder, provenance: Provenance) -> None:
        self.case, self.finder, self.provenance = case, finder, provenance
        self.row_bytes = case.row_bytes(case.model)
        self.by_busiest = not case.gathers and getattr(case.prices, "by_busiest_gpu", False)
        self.gpu_of_expert = finder.gpu_of_home[finder.home]
        self.alike = self.by_busiest and self.row_bytes[0] == self.row_bytes[1]
        columns = 1 if self.by_busiest else case.gpus if case.gathers else case.gpus**2
        self.known = PriceCache(columns, 1 if self.alike else 2)

    def prices(self, first: int, last: int, busiest: Ints | None = None) -> tuple[Ints, Ints]:
        """Dispatch and combine int64[MoE layers, passes] of passes first:last; ``busiest``: the
        most rows that one GPU sends or gets, likewise, where that is known.
        """
        shape = (self.finder.layers, last - first)
        if self.case.gpus == 1 or (self.case.gathers and not self.case.gathers_tokens):
            none = np.zeros(shape, np.int64)
            return none, none
        active = self.finder.routing.active(first, last)
        if self.case.gathers:
            return self._gathered(first, last, active)
        if self.case.once:
            sent = self.finder.routing.sent_once(first, last)
            return self._of_shapes(_busiest(sent) if self.by_busiest else sent)
        if self.by_busiest and busiest is not None:
            return self._of_shapes(busiest[..., None])
        routed = (*self.finder.placed(first, last), active, self.gpu_of_expert, self.case.gpus)
        place = np.empty(shape, np.int64)
        if not self.by_busiest:
            return self._of_all(routed, place)
        busiest_rows(*routed, place)
        return self._of_shapes(place[..., None])

    def settle(self) -> None:
        """Count what the prices rest on: of dispatch and of combine."""
        _, shapes, total = self.known.settled()
        if not len(shapes):
            return
        dispatch, combine = (2 * total, None) if total.ndim == 1 else total
        there, back = self._sent_by(shapes)
        self.provenance.add("all_to_all", dispatch, there)
        if combine is not None:
            self.provenance.add("all_to_all", combine, back)

    def _of_shapes(self, shapes: Ints) -> tuple[Ints, Ints]:
        """The same of exchanges of ``shapes`` int64[MoE layers, passes, ...]."""
        layers, passes = shapes.shape[:2]
        known = self.known.prices(shapes.reshape(layers * passes, -1), self._both)
        there, back = (known, known) if self.alike else known
        return there.reshape(layers, passes), back.reshape(layers, passes)

    def _of_all(self, routed: Routed, place: Ints) -> tuple[Ints, Ints]:
        """The same of different exchanges; ``place`` is filled in with which it is."""

        def find(kept: Kept, begin: int) -> int:
            return int(find_exchanges(*routed, kept, begin, place))

        self.known.add(find, place.size, self._both)
        dispatch, combine = self.known.of(place)
        return dispatch, combine

    def _gathered(self, first: int, last: int, active: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Where every GPU sends its tokens to all others, and gets them back."""
        offsets, gpus = self.case.schedule.offsets[first : last + 1], self.case.gpus
        of_pass = steps_of(offsets)
        cells = of_pass * gpus + self.case.schedule.gpu[offsets[0] : offsets[-1]]
        tokens = np.bincount(cells, minlength=(last - first) * gpus).reshape(-1, gpus)
        by_layer = np.where(active.T[:, :, None], tokens, 0).reshape(-1, gpus)
        both = self.known.prices(by_layer, self._both)
        dispatch, combine = both.reshape(2, self.finder.layers, last - first)
        return dispatch, combine

    def _both(self, shapes: Ints, _first: Ints) -> Ints:
        """Prices of exchanges of ``shapes``, and where they differ of those back, [n] or [2, n]."""
        there, back = self._sent_by(shapes)
        dispatch = self.case.prices.all_to_all_ns(there)
        if self.alike:
            return dispatch
        return np.stack((dispatch, self.case.prices.all_to_all_ns(back)))

    def _sent_by(self, shapes: Ints) -> tuple[Ints, Ints]:
        """The bytes int64[n, gpus, gpus] of exchanges, and of those back."""
        rows, (there, back) = self._rows_by(shapes), self.row_bytes
        return rows * there, rows.transpose(0, 2, 1) * back

    def _rows_by(self, shapes: Ints) -> Ints:
        """The rows int64[n, gpus, gpus] of exchanges: all rows, those that one GPU sends to
        another, or those that each sends to all others.
        """
        gpus = self.case.gpus
        if self.case.gathers:
            return shapes[:, :, None] * (1 - np.eye(gpus, dtype=np.int64))
        if not self.by_busiest:
            return shapes.reshape(-1, gpus, gpus)
        rows = np.zeros((len(shapes), gpus, gpus), np.int64)
        rows[:, 0, 1] = shapes[:, 0]
        return rows


def _busiest(sent: Ints) -> Ints:
    """The most rows that one GPU sends or gets, int64[MoE layers, passes, 1], of those ``sent``
    int64[MoE layers, passes, gpus, gpus].
    """
    ways = sent.sum(axis=-1), sent.sum(axis=-2)
    most: Ints = np.maximum(*ways).max(axis=-1, keepdims=True)
    return most
