"""llama-bench: an option's values are a list, and each combination of all lists is a run.

The rules are those of tools/llama-bench (llama.cpp, MIT; from memory). Values are divided by
commas, or the option is given again; numbers may be ranges (``0-48``, ``0-48+8``, ``512-4096*2``).
What llama-server divides by commas has other signs here: ``;`` between the patterns of a run's
``-ot``, ``/`` between GPUs of ``-dev`` and ``-ts``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace

from moesim.experiment.engine_commands.points import MOST_POINTS, each
from moesim.experiment.engine_commands.words import Effect, Given, Line, Takes

PROGRAM = re.compile(r"(.*[/\\])?llama-bench(\.exe)?")
_COMMAS = {"-ot": ";", "-dev": "/"}
"""What stands for a comma of llama-server's, within a value."""
_RANGE = re.compile(r"([0-9]{1,9})-([0-9]{1,9})(?:([+*])([0-9]{1,9}))?")


def runs(line: Line) -> list[Line]:
    """A line, as llama-server has it, of each run that one of llama-bench asks for."""
    names = dict.fromkeys(one.option.name for one in line.given if _has_lists(one))
    return each(line, {name: list(_values(line.all(name))) for name in names})


def _has_lists(given: Given) -> bool:
    row = given.option
    return row.effect is Effect.READ and row.takes in (Takes.VALUE, Takes.SWITCH)


def _values(found: Sequence[Given]) -> Iterator[Given]:
    """Each value of an option, which is in ``found`` as often as it is given."""
    for given in found:
        for part in given.value.split(","):
            for value in _numbers(part):
                own = _COMMAS.get(given.option.name)
                yield replace(given, value=value.replace(own, ",") if own else value)


def _numbers(text: str) -> Iterator[str]:
    """The numbers of a range; else the text."""
    if (found := _RANGE.fullmatch(text)) is None or int(found[1]) > int(found[2]):
        yield text
        return
    number, last, step = int(found[1]), int(found[2]), int(found[4] or 1)
    for _ in range(MOST_POINTS + 1):
        if number > last:
            return
        yield str(number)
        number = number * step if found[3] == "*" else number + step
