"""Schedules that are made again where they are asked for after they were forgotten."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields

from moesim.workload.schedule import Schedule


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


def _of_whole(name: str) -> property:
    """The member ``name`` of what is made again where it is asked for."""
    return property(lambda self: getattr(self._whole, name))


for _member in fields(Schedule):  # whatever a schedule comes to have
    setattr(Remade, _member.name, _of_whole(_member.name))


def forget(schedule: Schedule) -> None:
    """What plays now needs no ``schedule`` that was planned before it."""
    if isinstance(schedule, Remade):
        schedule.forget()
