"""Each different launch is asked for once, and its uses are counted."""

from __future__ import annotations

import numpy as np

from moesim.engine.replay.callback import ASK, Callback
from moesim.engine.replay.prefetch.arrays import Patterns
from moesim.engine.replay.prefetch.prices import price_of

PRICES = {(0, 4, 2): 70, (0, 4): 50, (1, 4, 2): 90}
"""Of a kind of layer, then rows; more than half of the places of the table are taken at last."""


def test_a_price_is_asked_for_once_by_kind_and_rows() -> None:
    table, rows = np.zeros(4, np.int64), np.zeros(8, np.int64)
    price, uses = np.zeros(3, np.int64), np.zeros(3, np.int64)
    known = Patterns(
        table, np.zeros(4, np.int64), rows, price, uses, np.zeros(1, np.int64), rows.copy()
    )
    told: list[tuple[int, ...]] = []

    def priced(length: int) -> int:
        told.append(tuple(known.asked[:length].tolist()))
        return PRICES[told[-1]]

    ask = Callback(priced, ASK)
    order = [(0, 4, 2), (0, 4), (0, 4, 2), (1, 4, 2), (0, 4), (0, 4, 2)]
    found = []
    for pattern in order:
        known.asked[: len(pattern)] = pattern
        found.append(price_of(ask, known, len(pattern)))
    ask.check()
    assert found == [70, 50, 70, 90, 50, 70]
    assert told == [(0, 4, 2), (0, 4), (1, 4, 2)]
    assert known.uses.tolist() == [3, 2, 1]
    assert known.rows.tolist() == [0, 4, 2, 0, 4, 1, 4, 2]
