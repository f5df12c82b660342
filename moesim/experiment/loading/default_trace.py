"""The trace of an experiment that names none."""

from __future__ import annotations

from functools import lru_cache

from moesim.config.errors import InputError
from moesim.model import ModelSpec
from moesim.model.chosen import SEPARATOR
from moesim.trace.cards import STAND_IN, trace_card


@lru_cache
def default_trace(model: ModelSpec, phase: str) -> str:
    """The shipped trace of ``model``, if it has tokens of ``phase``; else a stand-in scaled from
    the nearest. An InputError for a model that none can be drawn for.
    """
    from moesim.trace.synthesis.stand_in import nearest_trace

    name = model.name.partition(SEPARATOR)[0]  # other formats of weights route alike
    if _is_recorded(name, model, phase):
        return name
    return f"{STAND_IN}{nearest_trace(model)}"


def _is_recorded(name: str, model: ModelSpec, phase: str) -> bool:
    from moesim.trace import Phase, read_trace

    if (card := trace_card(name)) is None:
        return False
    trace = read_trace(card)
    needed = {Phase.PREFILL, Phase.DECODE} if phase == "all" else {Phase[phase.upper()]}
    try:
        trace.check_fits(model)
    except InputError:
        return False
    return trace.metadata.model == name and needed <= set(trace.phase.tolist())
