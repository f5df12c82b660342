"""Schedules that take no memory until they are asked for again."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import numpy as np

from moesim.workload.growing import Growing
from moesim.workload.remade import Remade, forget
from moesim.workload.schedule import Schedule


def _schedule() -> Schedule:
    tokens = np.arange(3)
    return Schedule(np.array([0, 1, 3]), tokens, tokens * 0, tokens, np.zeros(2, np.uint8))


def test_a_forgotten_schedule_is_made_again_when_it_is_asked_for():
    times = []

    def again():
        times.append(1)
        return _schedule()

    one = Remade(_schedule(), again)
    assert (one.passes, times) == (2, [])
    forget(one)
    assert (one.rows.tolist(), one.offsets.tolist(), times) == ([0, 1, 2], [0, 1, 3], [1])
    assert one.first(1).rows.tolist() == [0]
    forget(_schedule())  # of others nothing is forgotten


def test_it_has_all_that_a_schedule_has():
    one = _schedule()
    every: dict[str, Any] = {field.name: np.full(2, n) for n, field in enumerate(fields(Schedule))}
    made = Remade(one, lambda: replace(one, **every))
    forget(made)
    assert {name: getattr(made, name)[0] for name in every} == {
        name: value[0] for name, value in every.items()
    }


def test_what_is_never_written_is_0_and_stays_what_it_was():
    values = Growing(zeros=True)
    values.more(3)
    values.more(2)[:] = 7
    values.cut(4)
    values.more(100)[1:] = 0
    assert values.values[:6].tolist() == [0, 0, 0, 7, 0, 0]
