"""Who makes the runs of a case that is decided, priced and counted in compiled code at once."""

from __future__ import annotations

from moesim.engine.case import Case
from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.quick.any_rows import AnyRows
from moesim.engine.replay.quick.handled import FewerLoaded, FewerRows, HandledRows, is_handled
from moesim.engine.replay.quick.made import Deciding
from moesim.engine.replay.quick.one_launch import ALL, FEWER
from moesim.engine.replay.quick.one_row import OneRow
from moesim.engine.replay.quick.program import choices_of_row, decides_alone, loads_from_host
from moesim.engine.replay.quick.resident import Resident
from moesim.engine.replay.quick.some_rows import SomeRows
from moesim.engine.replay.quick.spread import SpreadRows
from moesim.engine.replay.quick.stored import StoredRows, is_stored

OF_ONE_ROW = ((loads_from_host, OneRow), (is_handled, HandledRows), (is_stored, StoredRows))
"""Who makes those that have one row."""
Makes = type[OneRow] | type[SomeRows] | type[Resident]


def maker_of(case: Case, log: DecisionLog | None) -> Makes | type[Deciding] | None:
    """What makes the runs of ``case``; None where nothing does at once."""
    if case.variants is not None or not decides_alone(case):
        return None
    chosen = choices_of_row(case)
    if chosen == ALL:
        return next((make for takes, make in OF_ONE_ROW if takes(case)), None)
    if chosen == FEWER and is_handled(case):
        return FewerLoaded if FewerLoaded.loads_all(case) else FewerRows
    if not loads_from_host(case) or case.policy.scope != "layer":
        return None
    alone: tuple[Makes, ...] = (SomeRows, Resident) if log is None else ()
    makes: tuple[Makes, ...] = (SpreadRows, AnyRows, *alone)
    other = None if case.policy.restarts else Deciding
    return next((make for make in makes if make.takes(case)), other)


def is_quick(case: Case) -> bool:
    """Whether ``case`` loads all that it misses from the host, and is decided at once."""
    return loads_from_host(case) and maker_of(case, None) is not None
