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
        table,
        np.zeros((2, 4), np.int64),
        np.zeros(4, np.int64),
        rows,
        price,
        uses,
        np.zeros(1, np.int64),
        rows.copy(),
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
        found.append(price_of(ask, known, len(pattern), single_row=False))
    ask.check()
    assert found == [70, 50, 70, 90, 50, 70]
    assert told == [(0, 4, 2), (0, 4), (1, 4, 2)]
    assert known.uses.tolist() == [3, 2, 1]
    assert known.rows.tolist() == [0, 4, 2, 0, 4, 1, 4, 2]


def test_launches_of_a_row_an_expert_are_known_by_how_many_there_are() -> None:
    table, (rows, starts) = np.zeros(8, np.int64), np.zeros((2, 8), np.int64)
    price, uses = np.zeros((2, 4), np.int64)
    ones = np.zeros((2, 4), np.int64)
    known = Patterns(table, ones, starts, rows, price, uses, np.zeros(1, np.int64), rows.copy())
    prices = {(0, 1, 1): 70, (1, 1, 1): 90, (0, 1): 50}

    def priced(length: int) -> int:
        return prices[tuple(known.asked[:length].tolist())]

    ask = Callback(priced, ASK)
    found = []
    for pattern in [(0, 1, 1), (0, 1), (0, 1, 1), (1, 1, 1), (0, 1)]:
        known.asked[: len(pattern)] = pattern
        found.append(price_of(ask, known, len(pattern), single_row=True))
    ask.check()
    assert found == [70, 50, 70, 90, 50]
    assert known.uses.tolist() == [2, 2, 1, 0]
    known.asked[:2] = 0, 1
    assert price_of(ask, known, 2, single_row=False) == 50
