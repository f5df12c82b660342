"""A trace to look at: by name or file, or the one that a run of an experiment or a model takes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.names import known_name, plain_name
from moesim.experiment.loading.default_trace import default_trace
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.traces import default_trace_of, trace_of
from moesim.experiment.loading.warnings import drawn, unnamed_traces
from moesim.model import load_model, model_names, named
from moesim.model.chosen import split_format
from moesim.trace.cards import card_names, is_drawn, scaled_from, trace_card

if TYPE_CHECKING:
    from moesim.trace import RoutingTrace

PHASE = "decode"


class LookedAt(NamedTuple):
    """A trace, and lines that say why it is this one, where a file or a name does not."""

    trace: RoutingTrace
    told: tuple[str, ...] = ()


def look_at(name: str) -> LookedAt:
    """The trace ``name``, shipped or a file; else that of an experiment's file, by its routing, or
    what a run of the model ``name`` takes that decodes and names no trace.

    InputError where it is none of these, or cannot be read.
    """
    from moesim.trace import read_trace

    if is_drawn(name):
        one = load_experiment(Path(name), alone=True).experiment
        lines = unnamed_traces([one])
        if one.experts.variants is not None:
            lines.append(
                "note: experts.variants: a trace has no formats; slots are of whole experts"
            )
        return LookedAt(trace_of(one), tuple(lines))
    if trace_card(name) is not None:
        return LookedAt(read_trace(name), tuple(_other_taken(name)))
    if _is_model(name):
        model = load_model(name)
        found = default_trace(model, PHASE)
        told = (drawn(found.name, model, found.why),) if scaled_from(found.name) else ()
        return LookedAt(default_trace_of(model, PHASE), told)
    if not Path(name).exists() and Path(name).suffix != ".parquet":
        known = nearest(plain_name(name), {*card_names(), *model_names()})
        raise InputError([Problem(name, "", f"is no trace, experiment or model; {known}")])
    return LookedAt(read_trace(name))


def _is_model(name: str) -> bool:
    """Whether ``name`` is meant as a model: a card, in any formats, or what models are kept in."""
    if known_name(split_format(named(name).model)[0], model_names()) is not None:
        return True
    path = Path(name)
    return path.suffix in (".json", ".gguf") or (path / "config.json").is_file()


def _other_taken(name: str) -> list[str]:
    """A line where a run of the model ``name`` takes other choices than those of its recording."""
    if (card := known_name(name, model_names())) is None:
        return []
    found = default_trace(load_model(card), PHASE)
    if scaled_from(found.name) is None:
        return []
    what = f"a run of {card} that names no trace takes '{found.name}', as {found.why}"
    return [f"note: trace: {what}; look at that by an experiment's file"]
