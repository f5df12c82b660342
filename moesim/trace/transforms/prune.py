"""Experts that a workload can do without (arXiv 2206.00277; REAP-like one-shot pruning)."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from math import ceil
from typing import Literal, Self

import numpy as np
from pydantic import Field, model_validator

from moesim.config.units import Percent
from moesim.trace.routing import NO_EXPERT
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices, Floats, Mask


class Prune(Transform):
    """Only some experts of every layer are kept, those that the trace's first part used most.

    ``keep`` alone drops the rest at once. With ``windows``, the first part (``until``) is looked at
    window by window, and after each an expert goes whose share of the score is below ``beta`` of an
    even one among the living; where ``keep`` is given too, at the end only the best stay.
    """

    kind: Literal["prune"] = "prune"
    keep: Percent | None = Field(
        default=None, gt=0, description="Of a layer's experts, rounded up to whole ones."
    )
    score: Literal["gate_weight", "tokens"] = Field(
        default="gate_weight", description="What is summed up for each expert, or counted."
    )
    learn: Percent = Field(
        default=0.25, gt=0, description="First part of the tokens, by which 'keep' alone chooses."
    )
    then: Literal["renormalise", "next", "drop"] = Field(
        default="renormalise",
        description="A dropped expert's weight goes to the token's other choices, its choice to the"
        " next one that is recorded, or is lost.",
    )
    k: int | None = Field(
        default=None,
        ge=1,
        description="Choices that a token makes of those recorded; by default all of them, and then"
        " 'next' finds none.",
    )
    windows: int | None = Field(default=None, ge=1, description="Windows of the part 'until'.")
    beta: Percent = Field(default=0.1, description="Of an even share among the living.")
    until: Percent = Field(default=0.5, gt=0, description="Part of the tokens with windows.")
    minimum: int = Field(default=1, ge=1, description="Experts that windows leave at least.")

    @model_validator(mode="after")
    def _says_how_many(self) -> Self:
        if self.keep is None and self.windows is None:
            raise ValueError("says neither 'keep' nor 'windows': give the share to keep")
        return self

    def apply(self, choices: Choices) -> Choices:
        """See ``Transform``."""
        living, learnt = self._living(choices)
        layers = np.arange(living.shape[0])[None, :, None]
        alive = living[layers, np.minimum(choices.ids, choices.experts - 1)] & choices.chosen
        k = self.k or choices.ids.shape[2]
        notes = choices.notes
        if self.then == "next":
            kept = _first(choices, alive, k)
            if k >= choices.ids.shape[2]:
                what = f"the trace records no choices beyond the {k} made: lost (give k)"
                notes = (*notes, f"prune: next: {what}")
        else:
            kept = alive & (choices.ranks() < k)
        left = replace(choices.keep(kept), living=living, learnt=learnt, notes=notes)
        if self.then == "renormalise" and choices.weights is not None:
            made = np.where(choices.chosen & (choices.ranks() < k), choices.weights, 0.0)
            return replace(left, weights=_scaled(left.weighed(self.kind), made.sum(axis=2)))
        return left

    def _living(self, choices: Choices) -> tuple[Mask, int]:
        """The experts that stay, bool[L, E], and how many tokens were learnt from."""
        tokens = len(choices.ids)
        part = self.until if self.windows else self.learn
        learnt = min(tokens, ceil(Fraction(str(part)) * tokens))
        living = choices.living.copy()
        if self.windows:
            edges = np.linspace(0, learnt, min(self.windows, learnt) + 1).astype(np.int64)
            for first, last in pairwise(edges.tolist()):
                self._drop(living, self._scores(choices, first, last))
        if self.keep is not None:
            scores = self._scores(choices, 0, learnt)
            share = Fraction(str(self.keep))
            most = [max(1, ceil(share * int(number))) for number in choices.living.sum(axis=1)]
            best = np.argsort(np.where(living, -scores, np.inf), axis=1, kind="stable")
            ranks = np.empty_like(best)
            np.put_along_axis(ranks, best, np.arange(best.shape[1])[None], axis=1)
            living &= ranks < np.array(most)[:, None]
        return living, learnt

    def _scores(self, choices: Choices, first: int, last: int) -> Floats:
        """What each expert has in tokens first:last, float64[L, E]."""
        ids = choices.ids[first:last]
        scores = np.zeros(choices.living.shape)
        by_weight = self.score == "gate_weight"
        values = choices.weighed(f"{self.kind} by gate_weight")[first:last] if by_weight else None
        for layer in range(ids.shape[1]):
            known = ids[:, layer] != NO_EXPERT
            of_layer = None if values is None else values[:, layer][known]
            found = np.bincount(ids[:, layer][known], of_layer, minlength=choices.experts)
            scores[layer] = found
        return scores

    def _drop(self, living: Mask, scores: Floats) -> None:
        """Mark what is below ``beta`` of an even share among ``living`` as dead, worst first."""
        for alive, of_layer in zip(living, scores, strict=True):
            total, number = of_layer[alive].sum(), int(alive.sum())
            if total == 0:
                continue
            low = np.flatnonzero(alive & (of_layer / total < self.beta / number))
            worst = low[np.argsort(of_layer[low], kind="stable")]
            alive[worst[: max(0, number - self.minimum)]] = False


def _first(choices: Choices, alive: Mask, k: int) -> Mask:
    """The first ``k`` of a token's choices that are ``alive``, by weight."""
    order = np.argsort(
        np.where(alive, choices.ranks(), choices.ids.shape[2]), axis=2, kind="stable"
    )
    places = np.empty_like(order)
    np.put_along_axis(places, order, np.arange(order.shape[2])[None, None], axis=2)
    return np.asarray(alive & (places < k))


def _scaled(weights: Floats, totals: Floats) -> Floats:
    """``weights`` of each token and layer with the sum ``totals``; none where they are 0."""
    sums = weights.sum(axis=2)
    factor = np.where(sums > 0, totals / np.where(sums > 0, sums, 1.0), 1.0)
    return np.asarray(np.where(sums == totals, 1.0, factor)[..., None] * weights)
