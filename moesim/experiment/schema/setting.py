"""Setting one value of an experiment document, as ``--set`` and sweep axes do."""

from __future__ import annotations

from typing import Any

from moesim.config.checking.shape import Shape, WrittenAs, shape_at
from moesim.config.checking.words import component, with_default_kind
from moesim.config.document import Document, Mark, Steps
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.choice import choice_in, is_choice


def with_setting(document: Document, path: Steps, value: Any, mark: Mark) -> Document:
    """``document`` with ``value`` at ``path``.

    A mapping that is made on the way to a component's parameter gets the default kind; a new
    ``kind`` drops the parameters of the old kind that the new one does not have; a word where a
    component stands is its kind, without any.
    """
    document = _with_default_kinds(_with_base(document, path), path, mark)
    spelled = component(shape_at(Experiment, path), value)
    if path[-1] == "kind":
        document = _without_old_parameters(document, path[:-1], spelled)
    document = document.with_value(path, spelled, mark)
    keys_alone = spelled is not value and not isinstance(value, str)
    return with_default_kind(document, path, spelled["kind"]) if keys_alone else document


def _with_base(document: Document, path: Steps) -> Document:
    """Where ``path`` leads into a thing that is written as a name, the name as its ``base``; a text
    that stands for its keys as these.
    """
    for length in range(1, len(path)):
        here, shape = path[:length], shape_at(Experiment, path[:length])
        name = document.get(here)
        written = shape and any(isinstance(entry, WrittenAs) for entry in shape.metadata)
        if written and isinstance(name, str) and is_choice(name):
            keys = choice_in(name).data
            document = document.with_value(here, keys, document.value_mark(here))
        elif written and isinstance(name, str | int):
            document = document.with_value(here, {"base": name}, document.value_mark(here))
    return document


def _with_default_kinds(document: Document, path: Steps, mark: Mark) -> Document:
    shape = Shape(Experiment)
    for length, step in enumerate(path[:-1], 1):
        found = next(shape.children(step), None)
        if found is None:
            return document
        shape, here = found, path[:length]
        if shape.kinds and document.get(here) is None and path[length] != "kind":
            document = document.with_value(here, {}, mark)
            document = with_default_kind(document, here, _default_kind(shape))
    return document


def _default_kind(shape: Shape) -> Any:
    default = shape.field.get_default(call_default_factory=True) if shape.field else None
    return getattr(default, "kind", None)


def _without_old_parameters(document: Document, path: Steps, kind: Any) -> Document:
    shape = shape_at(Experiment, path)
    chosen = shape.kinds.get(kind) if shape and isinstance(kind, str) else None
    parameters = document.get(path)
    if chosen is None or not isinstance(parameters, dict):
        return document
    known = Shape(chosen).fields
    for key in [key for key in parameters if key not in known]:
        document = document.without((*path, key))
    return document
