"""The trace of an experiment that names none: one rule for runs, fits, advice and command lines."""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

from moesim.config.errors import InputError
from moesim.model import ModelSpec
from moesim.model.chosen import SEPARATOR
from moesim.trace.cards import STAND_IN, trace_card


class DefaultTrace(NamedTuple):
    """A trace by name, and ``why`` it is not the recording of the model, where there is one."""

    name: str
    why: str = ""


@lru_cache
def default_trace(model: ModelSpec, phase: str) -> DefaultTrace:
    """The shipped recording of ``model``, if it has tokens of ``phase`` and as many experts a token
    as the model; else a stand-in with as many, scaled from that recording, or from the nearest.

    An InputError for a model that none can be drawn for.
    """
    from moesim.trace.synthesis.stand_in import RECORDED, nearest_trace

    name = model.name.partition(SEPARATOR)[0]  # other formats of weights route alike
    if (why := _why_not(name, model, phase)) == "":
        return DefaultTrace(name)
    nearest = nearest_trace(model)  # also where it is not taken: it refuses what cannot be drawn
    return DefaultTrace(f"{STAND_IN}{name if name in RECORDED else nearest}", why or "")


def _why_not(name: str, model: ModelSpec, phase: str) -> str | None:
    """Why the recording of ``model`` does not serve, "" where it does; None where there is none."""
    from moesim.trace import Phase, read_trace

    if (card := trace_card(name)) is None:
        return None
    trace = read_trace(card)
    try:
        trace.check_fits(model)
    except InputError:
        return None
    if trace.metadata.model != name:
        return None
    needed = {Phase.PREFILL, Phase.DECODE} if phase == "all" else {Phase[phase.upper()]}
    if not needed <= set(trace.phase.tolist()):
        return f"the recording of {name} has no tokens of phase '{phase}'"
    if trace.top_k < model.top_k:
        return f"the recording of {name} has {trace.top_k} of {model.top_k} experts a token"
    return ""
