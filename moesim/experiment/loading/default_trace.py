"""The trace of an experiment that names none: one rule for runs, fits, advice and command lines."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, NamedTuple

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.model import ModelSpec
from moesim.model.chosen import SEPARATOR
from moesim.trace.cards import STAND_IN, trace_card

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace


class DefaultTrace(NamedTuple):
    """A trace by name, and ``why`` it is not the recording of the model, where there is one."""

    name: str
    why: str = ""


@lru_cache
def default_trace(model: ModelSpec, phase: str, at_once: int = 1) -> DefaultTrace:
    """The shipped recording of ``model``, if it has tokens of ``phase``, as many experts a token as
    the model and as many requests as run ``at_once``; else a stand-in that has, scaled from that
    recording, or from the nearest.

    An InputError for a model that none can be drawn for.
    """
    from moesim.trace.synthesis.stand_in import RECORDED, nearest_trace

    name = model.name.partition(SEPARATOR)[0]  # other formats of weights route alike
    if (why := _why_not(name, model, phase, at_once)) == "":
        return DefaultTrace(name)
    nearest = nearest_trace(model)  # also where it is not taken: it refuses what cannot be drawn
    return DefaultTrace(f"{STAND_IN}{name if name in RECORDED else nearest}", why or "")


def _why_not(name: str, model: ModelSpec, phase: str, at_once: int) -> str | None:
    """Why the recording of ``model`` does not serve, "" where it does; None where there is none."""
    from moesim.trace import read_trace

    if (card := trace_card(name)) is None:
        return None
    trace = read_trace(card)
    try:
        trace.check_fits(model)
    except InputError:
        return None
    if trace.metadata.model != name:
        return None
    lacking = _lacking(trace, phase, model.top_k, at_once)
    return f"the recording of {name} has {lacking}" if lacking else ""


def _lacking(trace: RoutingTrace, phase: str, top_k: int, at_once: int) -> str:
    """What a recording of a model has less of than is asked; "" where it is nothing."""
    from moesim.trace import Phase

    needed = {Phase.PREFILL, Phase.DECODE} if phase == "all" else {Phase[phase.upper()]}
    if not needed <= set(trace.phase.tolist()):
        return f"no tokens of phase '{phase}'"
    if trace.top_k < top_k:
        return f"{trace.top_k} of {top_k} experts a token"
    recorded = len(trace.request_offsets()) - 1
    few = f"{counted(recorded, 'request')}, and {at_once} run at once"
    return few if recorded < at_once else ""
