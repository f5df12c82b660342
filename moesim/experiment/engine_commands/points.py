"""What a line means, and one experiment of a line that asks for several runs: its points."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, product
from math import prod
from typing import Any

from pydantic import BaseModel

from moesim.config.errors import InputError, Problem
from moesim.experiment.engine_commands.words import Given, Line
from moesim.experiment.schema.axes import SWEEP
from moesim.experiment.schema.experiment import Experiment

CONTEXT = "workload.context"
MOST_POINTS = 1000


@dataclass(frozen=True)
class ReadCommand:
    """What a line of ``engine`` means: the keys of an ``experiment``, as in a file.

    Without ``hardware``, which no line names. ``context_tokens``: what the line allows a request,
    None where it does not say. ``notes`` begin with ``warning:``
    where something that changes time or memory is not modelled, or was not understood.
    """

    engine: str
    experiment: dict[str, Any]
    context_tokens: int | None
    notes: tuple[str, ...]

    @property
    def served(self) -> bool:
        """Whether its requests come and go as a scheduler decides."""
        batching = self.experiment.get("workload", {}).get("batching", {})
        return bool(batching.get("kind") == "continuous")


def swept(points: Sequence[ReadCommand]) -> ReadCommand:
    """The first of ``points``, with what they differ in as the axes of a sweep: crossed where the
    points are all combinations, else one whose paths change together.
    """
    first, found = points[0], [dict(_values(one)) for one in points]
    if len(points) == 1:
        return first
    _open(found)
    every = list(dict.fromkeys(chain.from_iterable(found)))
    values = {path: [one.get(path, _default(path)) for one in found] for path in every}
    values = {path: column for path, column in values.items() if len(_unlike(column)) > 1}
    notes = tuple(dict.fromkeys(chain.from_iterable(one.notes for one in points)))
    if not values:
        return replace(first, notes=notes)
    rows = _unlike(list(map(list, zip(*values.values(), strict=True))))
    axes: dict[str, list[Any]] = {path: _unlike(column) for path, column in values.items()}
    if prod(map(len, axes.values())) != len(rows):
        axes = {", ".join(values): rows}
    told = f"note: sweep: {len(rows)} points, one a run; 'moesim sweep' runs all, 'run' the first"
    return replace(first, experiment={**first.experiment, SWEEP: axes}, notes=(*notes, told))


def each(line: Line, values: Mapping[str, Sequence[Given]]) -> list[Line]:
    """``line`` with each combination of the ``values`` of some options, by their names."""
    rest = [one for one in line.given if one.option.name not in values]
    if (count := prod(map(len, values.values()))) > MOST_POINTS:
        what = f"{count} combinations of its lists; write at most {MOST_POINTS}"
        raise InputError([Problem("the command line", "", what)])
    return [replace(line, given=[*chosen, *rest]) for chosen in product(*values.values())]


def listed(line: Line, names: Collection[str], between: str) -> list[Line]:
    """``line`` with each combination of values of the options ``names``, which are lists."""
    given = [one for one in map(line.last, names) if one is not None and one.value]
    lists = {one.option.name: one.value.split(between) for one in given}
    return each(line, {
        one.option.name: [replace(one, value=text) for text in lists[one.option.name]]
        for one in given
    })  # fmt: skip


def _values(point: ReadCommand) -> Iterator[tuple[str, Any]]:
    """The keys of a point by their paths; a component is one value."""
    yield from _leaves(point.experiment, ())
    if point.context_tokens is not None and not point.served:
        yield CONTEXT, point.context_tokens


def _leaves(keys: Mapping[str, Any], above: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for key, value in keys.items():
        if isinstance(value, Mapping) and "kind" not in value:
            yield from _leaves(value, (*above, key))
        else:
            yield ".".join((*above, key)), value


def _open(found: Sequence[dict[str, Any]]) -> None:
    """Make parameters of components of one kind, which all points have, keys of their own."""
    for path in [path for path, value in found[0].items() if isinstance(value, Mapping)]:
        values = [one.get(path, {}) for one in found]
        if len(_unlike([(value.get("kind"), value.keys()) for value in values])) == 1:
            for one in found:
                one |= {f"{path}.{key}": value for key, value in one.pop(path).items()}


def _default(path: str) -> Any:
    """What an experiment has at ``path`` where it does not say."""
    key, *steps = path.split(".")
    value = Experiment.model_fields[key].get_default(call_default_factory=True)
    for step in steps:
        value = getattr(value, step, None)
    return value.model_dump(mode="json") if isinstance(value, BaseModel) else value


def _unlike(values: Sequence[Any]) -> list[Any]:
    """``values``, each once, in their order."""
    return [value for place, value in enumerate(values) if value not in values[:place]]
