"""Prices of dispatch and combine: few exchanges of rows differ, and each is priced once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.engine.case import Case, Ints
from moesim.engine.provenance import Provenance
from moesim.engine.remembered import Remembered
from moesim.engine.replay.exchanges import busiest_rows, different_exchanges
from moesim.engine.replay.found import Finder

Routed = tuple[NDArray[np.uint16], Ints, Ints, Ints, NDArray[np.bool_], Ints, int]
"""What ``exchanges`` takes."""


class Collectives:
    """Prices the exchanges of a case, run of passes by run of passes."""

    def __init__(self, case: Case, finder: Finder, provenance: Provenance) -> None:
        self.case, self.finder, self.provenance = case, finder, provenance
        self.by_busiest: bool = getattr(case.prices, "by_busiest_gpu", False)
        self.gpu_of_expert = finder.gpu_of_home[finder.home]
        self.draws = np.random.default_rng(0).integers(1 << 62, size=case.gpus**2)
        self.known = Remembered()

    def prices(self, first: int, last: int) -> tuple[Ints, Ints]:
        """Dispatch and combine int64[MoE layers, passes] of passes first:last."""
        shape = (self.finder.layers, last - first)
        if self.case.gpus == 1 or (self.case.gathers and not self.case.gathers_tokens):
            none = np.zeros(shape, np.int64)
            return none, none
        active = self.finder.routing.active(first, last)
        if self.case.gathers:
            return self._gathered(first, last, active)
        routed = (*self.finder.tokens(first, last), active, self.gpu_of_expert, self.case.gpus)
        place = np.empty(shape, np.int64)
        return self._of_busiest(routed, place) if self.by_busiest else self._of_all(routed, place)

    def settle(self) -> None:
        """Count what the prices by the busiest GPU rest on: of dispatch and of combine."""
        if len(self.known.price):
            sent = self._sent(self._alone(self.known.numbers))
            self.provenance.add("all_to_all", 2 * self.known.times * self.known.price, sent)

    def _of_busiest(self, routed: Routed, most: Ints) -> tuple[Ints, Ints]:
        """Where dispatch and combine go by the busiest GPU, and so cost the same; ``most`` as
        ``prices`` gives them, filled in with its rows.
        """
        busiest_rows(*routed, most)
        rows = most.ravel()

        def ask(new: Ints) -> Ints:
            return self.case.prices.all_to_all_ns(self._sent(self._alone(rows[new])))

        prices = self.known.prices(rows, ask).reshape(most.shape)
        return prices, prices

    def _of_all(self, routed: Routed, place: Ints) -> tuple[Ints, Ints]:
        """The same of different exchanges; ``place`` is filled in with which it is."""
        gpus = self.case.gpus
        rows = np.empty((place.size, gpus * gpus), np.int64)
        number = different_exchanges(*routed, self.draws, rows, place)
        sent = self._sent(rows[:number].reshape(number, gpus, gpus))
        dispatch, combine = self._both(sent, np.bincount(place.ravel(), minlength=number))
        return dispatch[place], combine[place]

    def _gathered(self, first: int, last: int, active: NDArray[np.bool_]) -> tuple[Ints, Ints]:
        """Where every GPU sends its tokens to all others, and gets them back."""
        offsets, gpus = self.case.schedule.offsets[first : last + 1], self.case.gpus
        of_pass = np.repeat(np.arange(last - first), np.diff(offsets))
        cells = of_pass * gpus + self.case.schedule.gpu[offsets[0] : offsets[-1]]
        tokens = np.bincount(cells, minlength=(last - first) * gpus).reshape(-1, gpus)
        by_layer = np.where(active.T[:, :, None], tokens, 0).reshape(-1, gpus)
        rows, place, times = np.unique(by_layer, axis=0, return_inverse=True, return_counts=True)
        place = place.ravel()
        sent = self._sent(rows[:, :, None] * (1 - np.eye(gpus, dtype=np.int64)))
        dispatch, combine = self._both(sent, times)
        shape = (self.finder.layers, last - first)
        return dispatch[place].reshape(shape), combine[place].reshape(shape)

    def _both(self, sent: Ints, times: Ints) -> list[Ints]:
        """Prices int64[n] of exchanges ``sent`` int64[n, gpus, gpus], and of those back."""
        both = []
        for one in (sent, sent.transpose(0, 2, 1)):
            price = self.case.prices.all_to_all_ns(one)
            self.provenance.add("all_to_all", price * times, one)
            both.append(price)
        return both

    def _alone(self, rows: Ints) -> Ints:
        """Exchanges int64[n, gpus, gpus] in which one GPU sends ``rows`` to another."""
        alone = np.zeros((len(rows), self.case.gpus, self.case.gpus), np.int64)
        alone[:, 0, 1] = rows
        return alone

    def _sent(self, rows: Ints) -> Ints:
        """The bytes of ``rows``."""
        return rows * (self.case.model.hidden_size * self.case.model.activation_bytes)
