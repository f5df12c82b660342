"""What every gating keeps: nothing appears, nothing is lost unnoticed."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from moesim.gating.base import Gating, fault_of_routed

Ints = NDArray[np.int64]


def conserves_choices(gating: Gating, counts: Ints, tokens: Ints, top_k: int) -> None:
    """Kept and dropped choices are the choices; what is sent holds what is kept; only a gating that
    says so drops any.

    ``counts`` int64[passes, layers, senders, experts]; ``tokens`` int64[passes, senders].
    """
    routed, name = gating.route(counts, tokens, top_k), type(gating).__name__
    fault = fault_of_routed(routed, counts)
    assert not fault, f"{name} {fault}"
    assert (routed.kept >= 0).all(), f"{name}: keeps fewer than no choices"
    assert (routed.kept <= counts).all(), f"{name}: keeps choices that were not made"
    kept = routed.kept.sum(axis=(2, 3))
    assert (kept + routed.dropped == counts.sum(axis=(2, 3))).all(), f"{name}: kept + dropped"
    assert gating.drops or not routed.dropped.any(), f"{name} drops choices and does not say so"
    assert (routed.sent >= routed.kept).all(), f"{name}: keeps more than it sends"
    assert (routed.rows == routed.sent.sum(axis=2)).all(), f"{name}: rows are not what is sent"


def leaves_its_inputs(gating: Gating, counts: Ints, tokens: Ints, top_k: int) -> None:
    """``route`` writes to neither of its arguments."""
    before = counts.copy(), tokens.copy()
    gating.route(counts, tokens, top_k)
    assert np.array_equal(counts, before[0]), f"{type(gating).__name__} changes the counts"
    assert np.array_equal(tokens, before[1]), f"{type(gating).__name__} changes the tokens"


def routes_each_pass_alone(gating: Gating, counts: Ints, tokens: Ints, top_k: int) -> None:
    """A pass is routed as if there were no other (passes are decided in chunks)."""
    whole = gating.route(counts, tokens, top_k)
    for number in range(len(counts)):
        one = slice(number, number + 1)
        alone = gating.route(counts[one], tokens[one], top_k)
        for name, values in vars(alone).items():
            same = np.array_equal(values, getattr(whole, name)[one])
            assert same, f"{type(gating).__name__}: '{name}' of pass {number} depends on others"


def says_what_it_does(gating: Gating, counts: Ints, tokens: Ints, top_k: int) -> None:
    """``uneven``, ``agrees`` and ``invokes_all`` are true of the rows."""
    routed, name = gating.route(counts, tokens, top_k), type(gating).__name__
    without = gating.route(np.zeros_like(counts), tokens, top_k)
    if not gating.invokes_all:
        idle = routed.kept.sum(axis=2) == 0
        assert not routed.rows[idle].any(), f"{name} computes experts that nobody chose"
    if gating.uneven:
        assert not routed.capacity.any(), f"{name} is uneven and has a capacity"
        return
    even = (routed.sent == routed.capacity[:, :, None, None]).all()
    assert even, f"{name} is not 'uneven', but sends other rows than its capacity"
    if not gating.agrees:
        same = np.array_equal(routed.capacity, without.capacity)
        assert same, f"{name}: the capacity depends on the counts"
