"""What every gating keeps: nothing appears, nothing is lost unnoticed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.gating.base import Gating

Ints = NDArray[np.int64]


def conserves_choices(gating: Gating, counts: Ints, tokens: Ints) -> None:
    """Kept and dropped choices are the choices; what is sent holds what is kept.

    ``counts`` int64[passes, layers, senders, experts]; ``tokens`` int64[passes, senders].
    """
    routed, name = gating.route(counts, tokens), type(gating).__name__
    assert routed.rows.shape == (*counts.shape[:2], counts.shape[3]), f"{name}: shape of rows"
    assert routed.kept.shape == routed.sent.shape == counts.shape, f"{name}: shape of kept, sent"
    assert (routed.kept >= 0).all(), f"{name}: keeps fewer than no choices"
    assert (routed.kept <= counts).all(), f"{name}: keeps choices that were not made"
    kept = routed.kept.sum(axis=(2, 3))
    assert (kept + routed.dropped == counts.sum(axis=(2, 3))).all(), f"{name}: kept + dropped"
    assert (routed.sent >= routed.kept).all(), f"{name}: keeps more than it sends"
    assert (routed.rows == routed.sent.sum(axis=2)).all(), f"{name}: rows are not what is sent"


def leaves_its_inputs(gating: Gating, counts: Ints, tokens: Ints) -> None:
    """``route`` writes to neither of its arguments."""
    before = counts.copy(), tokens.copy()
    gating.route(counts, tokens)
    assert np.array_equal(counts, before[0]), f"{type(gating).__name__} changes the counts"
    assert np.array_equal(tokens, before[1]), f"{type(gating).__name__} changes the tokens"


def routes_each_pass_alone(gating: Gating, counts: Ints, tokens: Ints) -> None:
    """A pass is routed as if there were no other (passes are decided in chunks)."""
    whole = gating.route(counts, tokens)
    for number in range(len(counts)):
        one = slice(number, number + 1)
        alone = gating.route(counts[one], tokens[one])
        for name, values in vars(alone).items():
            same = np.array_equal(values, getattr(whole, name)[one])
            assert same, f"{type(gating).__name__}: '{name}' of pass {number} depends on others"


def says_what_it_does(gating: Gating, counts: Ints, tokens: Ints) -> None:
    """``uneven``, ``masks`` and ``invokes_all`` are true of the rows."""
    routed, name = gating.route(counts, tokens), type(gating).__name__
    without = gating.route(np.zeros_like(counts), tokens)
    if not gating.uneven:
        same = np.array_equal(routed.sent, without.sent)
        assert same, f"{name} is not 'uneven', but what it sends depends on the counts"
    if not gating.invokes_all:
        idle = routed.kept.sum(axis=2) == 0
        assert not routed.rows[idle].any(), f"{name} computes experts that nobody chose"
    if gating.masks:
        same = np.array_equal(routed.capacity, without.capacity)
        assert same, f"{name}: the masks' capacity depends on the counts"
    else:
        assert not routed.capacity.any(), f"{name} has a capacity without masks"
