"""The parts of every expert."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction

from moesim.experiment.schema.variants import PartOfExperts

Shares = tuple[Fraction, ...]


def rows_of(parts: Mapping[str, PartOfExperts]) -> Shares:
    """The share of neurons of each of ``parts``; one may have the rest. Raises ValueError where
    they are more than all, or not to be told apart.
    """
    written = [None if one.rows is None else Fraction(str(one.rows)) for one in parts.values()]
    rest = 1 - sum((one for one in written if one is not None), start=Fraction(0))
    if rest < 0:
        raise ValueError("the rows of the parts are more than 100 % together")
    if written.count(None) > 1:
        raise ValueError("only one part has the rest of the rows; write those of the others")
    if None in written and rest == 0:
        raise ValueError("the other parts leave no rows to the one that has the rest")
    return tuple(rest if one is None else one for one in written)


def checked(parts: Mapping[str, PartOfExperts]) -> Mapping[str, PartOfExperts]:
    """``parts``, whose rows are at most all, and of which something is left to be copied."""
    rows_of(parts)
    if not parts:
        raise ValueError("names no part; leave it out")
    if all(Fraction(str(one.resident)) + Fraction(str(one.reuse)) == 1 for one in parts.values()):
        what = "all of an expert is resident, and nothing is left for slots"
        raise ValueError(f"{what}; write capacity: all and no 'resident'")
    return parts
