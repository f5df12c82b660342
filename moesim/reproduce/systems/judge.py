"""Whether a system's laws hold, and how far its published numbers are off."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from math import isclose
from typing import NamedTuple

from moesim.config.errors import InputError, Problem, nearest
from moesim.reproduce.systems.record import Given, Law
from moesim.reproduce.systems.run import Found

AGREES, MISSES, NOT_JUDGED = "agrees", "misses", "not judged"


class Judged(NamedTuple):
    """A law, the numbers that it is about, and whether it holds."""

    law: Law
    numbers: tuple[float, ...]
    holds: bool


class Compared(NamedTuple):
    """A published number, what is simulated, and how they agree."""

    given: Given
    simulated: float
    verdict: str


def number(found: Found, point: str, metric: str) -> float:
    """``metric`` of ``point``; an InputError where the run has no such number."""
    numbers = found.numbers[point]
    value = numbers.get(metric)
    if isinstance(value, int | float):
        return value
    if metric in numbers and numbers.get("status") != "ok":
        raise InputError([Problem(found.name, point, f"{numbers['status']}: {numbers['reason']}")])
    what = f"a run has no number '{metric}'; {nearest(metric, sorted(numbers))}"
    raise InputError([Problem(found.name, point, what)])


def laws(found: Found) -> list[Judged]:
    """Every law of the system on its numbers."""
    return [_judged(law, found) for law in found.system.laws]


def _judged(law: Law, found: Found) -> Judged:
    terms = tuple(number(found, point, metric) for point in law.at for metric in law.of)
    return Judged(law, terms, _holds(law, terms))


def _holds(law: Law, terms: tuple[float, ...]) -> bool:
    def same(one: float, other: float) -> bool:
        return isclose(one, other, rel_tol=law.within, abs_tol=0)

    match law.are:
        case "equal":
            return all(same(terms[0], other) for other in terms[1:])
        case "rising":
            return all(one <= other or same(one, other) for one, other in pairwise(terms))
        case "falling":
            return all(one >= other or same(one, other) for one, other in pairwise(terms))
        case "ratios":
            wanted = [ratio * terms[0] for ratio in law.values]
            return all(same(one, other) for one, other in zip(terms, wanted, strict=True))
        case "at_most":
            return all(one <= law.values[0] or same(one, law.values[0]) for one in terms)
        case "at_least":
            return all(one >= law.values[0] or same(one, law.values[0]) for one in terms)


def given(found: Found) -> list[Compared]:
    """Every published number of the system beside the simulated one."""
    return [_compared(one, found) for one in found.system.given]


def _compared(one: Given, found: Found) -> Compared:
    simulated = number(found, one.point, one.of)
    if one.over is not None:
        simulated /= number(found, one.over, one.of)
    return Compared(one, simulated, _verdict(one, simulated))


def _verdict(one: Given, simulated: float) -> str:
    if one.judged == "no":
        return NOT_JUDGED
    ratio = simulated / one.published
    if one.judged == "factor":
        return AGREES if 1 / one.factor <= ratio <= one.factor else MISSES
    return AGREES if (simulated - 1) * (one.published - 1) > 0 else MISSES


def tally(found: Found) -> Mapping[str, int]:
    """How many laws hold and are broken, and how many published numbers agree and miss."""
    held = [one.holds for one in laws(found)]
    verdicts = [one.verdict for one in given(found)]
    return {
        "laws": len(held),
        "broken": held.count(False),
        "given": len(verdicts),
        AGREES: verdicts.count(AGREES),
        MISSES: verdicts.count(MISSES),
    }
