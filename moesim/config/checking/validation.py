"""From a document to a model, or to one problem for each mistake, each with its place."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from moesim.config.checking.sentences import sentence
from moesim.config.checking.shape import Shape, locate
from moesim.config.document import Document
from moesim.config.errors import InputError, Problem, in_order, meant, nearest

Model = TypeVar("Model", bound=BaseModel)
UNKNOWN_KEY = "is not a known key"
OF_A_KEY = "[key]"
"""Ends pydantic's place of a key that is wrong itself; the key is the step before it."""
DEEPEST, MOST_HOMES = 5, 2
"""Keys of a path to a key that is meant, and such paths: more of them say nothing."""


def validate(document: Document, model: type[Model]) -> Model:
    """``document`` as a ``model``; all mistakes, sorted by line, as one InputError."""
    instance, problems = examine(document, model)
    if instance is None or problems:
        raise InputError(in_order(problems))
    return instance


def examine(document: Document, model: type[Model]) -> tuple[Model | None, list[Problem]]:
    """Like ``validate``, but returns the problems; the model is None where it could not be made."""
    problems = list(document.problems)
    try:
        instance = model.model_validate_json(json.dumps(document.data))
    except ValidationError as error:
        details = [one for one in error.errors(include_url=False) if not _is_long_enough(one)]
        details = _without_misspelt(details, model)
        found = (_problem(document, model, detail) for detail in details)
        unreadable = {problem.place for problem in problems}
        return None, problems + [problem for problem in found if not _is_at(problem, unreadable)]
    return instance, problems


def _is_long_enough(error: ErrorDetails) -> bool:
    """Whether a list is called short only because pydantic does not count its wrong entries."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _without_misspelt(details: list[ErrorDetails], model: type[BaseModel]) -> list[ErrorDetails]:
    """``details`` without keys that are missing because an unknown one beside them stands for them:
    one mistake, and the unknown key's problem names what is meant.
    """
    strangers = (locate(model, one["loc"]) for one in details if one["type"] == "extra_forbidden")
    misspelt = {
        (*path[:-1], meant(str(path[-1]), parent.fields)) for path, parent in strangers if parent
    }
    return [
        one
        for one in details
        if one["type"] != "missing" or locate(model, one["loc"])[0] not in misspelt
    ]


def _is_at(problem: Problem, places: set[tuple[int, int]]) -> bool:
    return problem.place in places and problem.place[0] > 0


def _problem(document: Document, model: type[BaseModel], error: ErrorDetails) -> Problem:
    path, parent = locate(model, [step for step in error["loc"] if step != OF_A_KEY])
    shape = parent.child(path[-1]) if parent and path else Shape(model)
    match error["type"]:
        case "extra_forbidden":
            known = nearest(str(path[-1]), parent.fields if parent else ())
            homes = _homes(Shape(model), path)
            elsewhere = f" here, but {homes} is" if homes else ""
            what = f"{UNKNOWN_KEY}{elsewhere}; {known}"
            return document.key_mark(path).problem(path, what)
        case "missing":
            return document.problem(path, _missing(shape))
        case "union_tag_invalid" | "union_tag_not_found":
            return _unknown_kind(document, (*path, "kind"), shape)
    return document.problem(path, sentence(error, shape))


def _homes(top: Shape, path: tuple[Any, ...]) -> str:
    """Where a key stands that is unknown at ``path``: at the top, or in one of what stands there,
    else deeper, in any kind; nothing where no such place is, or many are.
    """
    word, here = str(path[-1]), ".".join(map(str, path))
    children = {name: top.child(name) for name in top.fields}
    homes = [word] if word in children else []
    homes += [
        f"{name}.{word}" for name, child in children.items() if child and word in child.fields
    ]
    if not homes:
        deeper = list(dict.fromkeys(_deeper(top, word)))
        homes = deeper if here not in deeper and len(deeper) <= MOST_HOMES else []
    return " or ".join(home for home in homes if home != here)


def _deeper(shape: Shape, word: str, depth: int = DEEPEST) -> Iterator[str]:
    """The paths below ``shape`` that end with ``word``, in any kind."""
    keys = shape.keys()
    for key in keys:
        if key == word:
            yield key
        elif depth > 1:
            for child in shape.children(key):
                yield from (f"{key}.{path}" for path in _deeper(child, word, depth - 1))


def _missing(shape: Shape | None) -> str:
    purpose = shape.description if shape else ""
    return f"is missing; write it: {purpose}" if purpose else "is missing; write it"


def _unknown_kind(document: Document, path: tuple[Any, ...], shape: Shape | None) -> Problem:
    kinds = shape.kinds if shape else {}
    if document.has(path) and document.get(path) is not None:
        kind = str(document.get(path))
        why = shape.registry.why_missing(kind) if shape and shape.registry else ""
        what = f"'{kind}' is not known; {nearest(kind, kinds)}{why}"
        return document.problem(path, what)
    return document.problem(path, f"is missing; {nearest('', kinds)}")
