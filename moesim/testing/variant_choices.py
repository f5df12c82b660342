"""What every choice between variants keeps."""

from __future__ import annotations

import numpy as np

from moesim.memory.choices.base import (
    VARIANTS,
    Seen,
    VariantChoice,
    fault_of_rule,
    fault_of_scores,
)
from moesim.trace.routing import NO_EXPERT

NAMES = {2: VARIANTS[::2], 3: VARIANTS}


def scores_are_of_choices(choice: VariantChoice, seen: Seen) -> None:
    """A score from 0 to SCORE_UNIT for each choice, the same for the same token whatever else is
    there, and of gate weights only where it says so; what it is given stays as it is. What is
    wanted follows from scores and limits.
    """
    name, used = type(choice).__name__, seen.ids != NO_EXPERT
    given = Seen(seen.ids.copy(), seen.weights.copy(), seen.usage.copy())
    scores = choice.scores(seen)
    fault = fault_of_scores(scores, seen)
    assert not fault, f"{name} {fault}"
    limits = np.array(choice.limits(NAMES[2]), np.int64)
    beyond = (scores[..., None] > limits).sum(axis=3)
    wanted = choice.wanted(seen, limits)
    assert np.array_equal(wanted[used], beyond[used]), f"{name} wants other than its limits say"
    kept = (np.array_equal(getattr(given, part), getattr(seen, part)) for part in Seen._fields)
    assert all(kept), f"{name} writes what it reads"
    for token in range(len(seen.ids)):
        one = slice(token, token + 1)
        alone = choice.scores(Seen(seen.ids[one], seen.weights[one], seen.usage))
        assert np.array_equal(alone[used[one]], scores[one][used[one]]), f"{name}: not by token"
    if not choice.weighs:
        blind = choice.scores(seen._replace(weights=np.zeros_like(seen.weights)))
        same = np.array_equal(blind[used], scores[used])
        assert same, f"{name} reads gate weights without 'weighs = True'"


def limits_ascend(choice: VariantChoice, variants: int) -> None:
    """One for each of so many variants, and a variant, or none, to load for each that is wanted:
    what is wanted at all is wanted at least as good as what is loaded is never skipped unasked.
    """
    fault = fault_of_rule(choice, NAMES[variants])
    assert not fault, f"{type(choice).__name__} {fault}"
