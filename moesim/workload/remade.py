"""Schedules that are made again where they are asked for after they were forgotten."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from moesim.workload.schedule import Ints, Schedule
from moesim.workload.served import Served


class Remade(Schedule):
    """``made``, which ``again`` makes once more: a plan of many tokens need not be in memory while
    others are played.
    """

    def __init__(self, made: Schedule, again: Callable[[], Schedule]) -> None:
        self._made: Schedule | None = made
        self._again = again

    @property
    def _whole(self) -> Schedule:
        if self._made is None:
            self._made = self._again()
        return self._made

    def forget(self) -> None:
        """Take no memory until something is asked for."""
        self._made = None

    @property
    def offsets(self) -> Ints:  # noqa: D102
        return self._whole.offsets

    @property
    def rows(self) -> Ints:  # noqa: D102
        return self._whole.rows

    @property
    def gpu(self) -> Ints:  # noqa: D102
        return self._whole.gpu

    @property
    def request(self) -> Ints:  # noqa: D102
        return self._whole.request

    @property
    def phase(self) -> NDArray[np.uint8]:  # noqa: D102
        return self._whole.phase

    @property
    def not_before_ns(self) -> Ints | None:  # noqa: D102
        return self._whole.not_before_ns

    @property
    def host_ns(self) -> Ints | None:  # noqa: D102
        return self._whole.host_ns

    @property
    def kept(self) -> NDArray[np.bool_] | None:  # noqa: D102
        return self._whole.kept

    @property
    def served(self) -> Served | None:  # noqa: D102
        return self._whole.served

    @property
    def routed(self) -> Ints | None:  # noqa: D102
        return self._whole.routed

    @property
    def given(self) -> Ints | None:  # noqa: D102
        return self._whole.given


def forget(schedule: Schedule) -> None:
    """What plays now needs no ``schedule`` that was planned before it."""
    if isinstance(schedule, Remade):
        schedule.forget()
