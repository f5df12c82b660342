"""Who makes the runs of a case that is decided, priced and counted in compiled code at once."""

from __future__ import annotations

from collections.abc import Callable

from moesim.engine.case import Case
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.any_rows import AnyRows
from moesim.engine.replay.quick.handled import FewerLoaded, FewerRows, HandledRows, is_handled
from moesim.engine.replay.quick.left import LeftRows, is_left
from moesim.engine.replay.quick.made import Deciding
from moesim.engine.replay.quick.one_launch import ALL, FEWER
from moesim.engine.replay.quick.one_row import OneRow
from moesim.engine.replay.quick.program import choices_of_row, decides_alone, loads_from_host
from moesim.engine.replay.quick.resident import Resident
from moesim.engine.replay.quick.some_rows import SomeRows
from moesim.engine.replay.quick.spread import SpreadRows
from moesim.engine.replay.quick.stored import StoredRows, is_stored

OF_ONE_ROW: dict[int, tuple[tuple[Callable[[Case], bool], type[OneRow]], ...]] = {
    ALL: (
        (loads_from_host, OneRow), (is_left, LeftRows), (is_handled, HandledRows),
        (is_stored, StoredRows),
    ),
    FEWER: ((is_left, LeftRows), (FewerLoaded.loads_all, FewerLoaded), (is_handled, FewerRows)),
}  # fmt: skip
"""Who makes those that have one row, by what rows choose."""
Makes = type[OneRow] | type[SomeRows] | type[Resident]


def maker_of(case: Case, log: DecisionLog | None) -> Makes | type[Deciding] | None:
    """What makes the runs of ``case``; None where nothing does at once."""
    if case.variants is not None or not decides_alone(case):
        return None
    chosen = choices_of_row(case)
    of_row = next((make for takes, make in OF_ONE_ROW.get(chosen, ()) if takes(case)), None)
    if of_row is not None or chosen == ALL:
        return of_row
    if not loads_from_host(case) or case.policy.scope != "layer":
        return None
    alone: tuple[Makes, ...] = (SomeRows, Resident) if log is None else ()
    makes: tuple[Makes, ...] = (SpreadRows, AnyRows, *alone)
    other = None if case.policy.restarts else Deciding
    return next((make for make in makes if make.takes(case)), other)


def is_quick(case: Case) -> bool:
    """Whether ``case`` loads all that it misses from the host, and is decided at once."""
    return loads_from_host(case) and maker_of(case, None) is not None
