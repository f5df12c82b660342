"""What a choice of variants is: how much a token needs an expert, and which variant that asks."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from fractions import Fraction
from math import floor
from typing import Any, ClassVar, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, model_validator

from moesim.config.params import Params
from moesim.config.registry import answering, wrong_answer
from moesim.config.units import Percent
from moesim.runtime.compiled import njit, types
from moesim.trace.routing import NO_EXPERT

Ints = NDArray[np.int64]
SCORE_UNIT = 1 << 24
"""Scores are whole multiples of 1 / SCORE_UNIT, so that both engines compare the same numbers."""
OURS = "moesim."
KEY = "experts.choose"
VARIANTS = ("high", "middle", "low")
"""The names that variants may have, the best first."""


class Seen(NamedTuple):
    """What scores are of: the choices of tokens, ``ids`` [tokens, MoE layers, k] with NO_EXPERT
    where there is none, and their gate ``weights`` int64, in units of 1 / WEIGHT_UNIT (0 where
    the trace has none); and ``usage`` int64[MoE layers, experts], choices of each expert in the
    first ``learning_part`` of the trace.
    """

    ids: NDArray[np.uint16]
    weights: Ints
    usage: Ints


@njit(types.void(types.int64[:, :, ::1], types.int64[::1], types.uint8[:, :, ::1]), cache=True)
def _want(scores: Any, limits: Any, wanted: Any) -> None:
    """Fill in which variants choices of such ``scores`` want, by the ``limits`` of these."""
    places = scores.shape[1] * scores.shape[2]
    for token in range(len(scores)):
        own, wants = scores[token].reshape(places), wanted[token].reshape(places)
        for place in range(places):
            wants[place] = 0
        for limit in limits:
            for place in range(places):
                wants[place] += own[place] > limit


class VariantChoice(Params):
    """A rule gives each choice of a token a score, 0 for what it needs most; the expert's score in
    a forward pass is the least of all tokens that chose it (docs/variants.md).
    """

    weighs: ClassVar[bool] = False
    """Whether scores are of gate weights, which a trace then has to have."""

    @property
    def worse(self) -> bool:
        """Whether a resident variant that is worse than wanted serves too, and nothing is
        loaded.
        """
        return False

    @property
    def substitutes(self) -> bool:
        """Whether the rows of an expert that is left out go to the best that the step computes."""
        return False

    def learning_part(self) -> float:
        """Share of the trace, from its start, that ``Seen.usage`` counts; 0: none."""
        return 0.0

    def scores(self, seen: Seen) -> Ints:
        """int64[tokens, MoE layers, k] in units of 1 / SCORE_UNIT; of no meaning where there is no
        expert.
        """
        raise NotImplementedError

    def limits(self, names: Sequence[str]) -> tuple[int, ...]:
        """The highest score that wants each of the variants ``names``, the best first; ascending.
        Scores beyond the last want none.
        """
        raise NotImplementedError

    def wanted(self, seen: Seen, limits: Ints) -> NDArray[np.uint8]:
        """Which variant each choice wants, uint8[tokens, MoE layers, k]: how many of the ``limits``
        int64[variants] its score is beyond; of no meaning where there is no expert.
        """
        scores = scores_of(self, seen)
        found = np.empty(scores.shape, np.uint8)
        _want(scores, limits, found)
        return found

    def loaded(self, variants: int) -> tuple[int, ...]:
        """Which of so many ``variants`` is loaded where none that serves is resident, by the wanted
        one, and last where none is wanted; ``variants``: none, the expert is skipped.
        """
        raise NotImplementedError


def scores_of(choice: VariantChoice, seen: Seen) -> Ints:
    """The scores that ``choice`` gives, by which variants are wanted; an InputError where they are
    none. One that others wrote has what it looks at to itself.
    """
    ours = type(choice).__module__.startswith(OURS)
    given = seen if ours else deepcopy(seen)
    with answering(KEY, choice):
        scores = choice.scores(given)
    if fault := fault_of_scores(scores, seen):
        raise wrong_answer(KEY, choice, fault)
    return np.ascontiguousarray(scores)


def fault_of_scores(scores: object, seen: Seen) -> str:
    """What is wrong with ``scores`` of the choices in ``seen``; "" where nothing is."""
    if not isinstance(scores, np.ndarray) or scores.dtype != np.int64:
        of = scores.dtype if isinstance(scores, np.ndarray) else type(scores).__name__
        return f"gives scores as {of}, not as an array of int64"
    if scores.shape != seen.ids.shape:
        return f"gives scores of shape {scores.shape}, not {seen.ids.shape}"
    inside = (scores >= 0) & (scores <= SCORE_UNIT) | (seen.ids == NO_EXPERT)
    return "" if inside.all() else f"gives a score outside 0..{SCORE_UNIT}"


def check_rule(choice: VariantChoice, names: Sequence[str]) -> None:
    """InputError where ``choice`` says of variants ``names`` what no run can be of."""
    with answering(KEY, choice):
        fault = fault_of_rule(choice, names)
    if fault:
        raise wrong_answer(KEY, choice, fault)


def fault_of_rule(choice: VariantChoice, names: Sequence[str]) -> str:
    """What is wrong with the limits and loads of ``choice``; "" where nothing is."""
    limits, loaded, count = choice.limits(names), choice.loaded(len(names)), len(names)
    if not all(isinstance(one, int) for one in (*limits, *loaded)):
        return "gives limits or what is loaded not as whole numbers"
    if len(limits) != count or [*limits] != sorted(limits):
        return f"gives limits {limits}, not {count} that ascend"
    if len(loaded) != count + 1 or not all(0 <= one <= count for one in loaded):
        return f"loads {loaded}, not {count + 1} of 0..{count}"
    part = choice.learning_part()
    return "" if 0 <= part <= 1 else f"learns from {part} of the trace"


class ByLimits(VariantChoice):
    """A rule with a limit for each variant."""

    high: Percent = Field(default=0.6, description="Up to here the high variant is wanted.")
    middle: Percent | None = Field(
        default=None, description="From there up to here the middle one, where there is one."
    )
    low: Percent = Field(default=1.0, description="From there up to here the low one.")
    beyond: Literal["skip", "low", "substitute"] = Field(
        default="skip",
        description="What is done beyond, where no variant is resident: the expert is skipped, its "
        "low variant loaded, or its tokens go to the expert of the pass with most gate weight.",
    )
    on_worse: Literal["load", "use"] = Field(
        default="load",
        description="What is done where only a worse variant than the wanted one is resident.",
    )

    @model_validator(mode="after")
    def _ascending(self) -> ByLimits:
        limits = [one for one in (self.high, self.middle, self.low) if one is not None]
        if limits != sorted(limits):
            what = "are to ascend: each is where its variant ends and the next one begins"
            raise ValueError(f"the limits of high, middle and low {what}")
        return self

    @property
    def worse(self) -> bool:
        """See ``VariantChoice``."""
        return self.on_worse == "use"

    @property
    def substitutes(self) -> bool:
        """See ``VariantChoice``."""
        return self.beyond == "substitute"

    def limits(self, names: Sequence[str]) -> tuple[int, ...]:
        """See ``VariantChoice``."""
        given: list[float] = [getattr(self, name) for name in names]
        return tuple(floor(Fraction(str(one)) * SCORE_UNIT) for one in given)

    def loaded(self, variants: int) -> tuple[int, ...]:
        """See ``VariantChoice``."""
        return (*range(variants), variants - 1 if self.beyond == "low" else variants)


def shares(part: Any, whole: Any) -> Ints:
    """``part`` of ``whole`` in units of 1 / SCORE_UNIT, rounded down; 0 of nothing."""
    found: Ints = part * SCORE_UNIT // np.maximum(whole, 1)
    return found
