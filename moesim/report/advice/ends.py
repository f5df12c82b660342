"""What of an advice depends on what the host reaches, which nobody measured."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from moesim.sweep.advise.advice import Advice, End, Gain
from moesim.sweep.advise.choices import Choice

APART = 1.01
"""How many times as fast is faster."""
SHARE = "the host's share of its DRAM peak"
MEASURE = "measure it first: moesim calibrate host"


def ended(ends: Sequence[float] | None) -> str:
    """Behind a ratio its ends over the host's range, where these differ."""
    if ends is None or ends[1] < APART * ends[0]:
        return ""
    return " ({:.2f} to {:.2f})".format(*ends)


def choice_depends(advice: Advice) -> Iterator[str]:
    """That another choice is the best where the host reaches less or more."""
    best = advice.best.choice
    others = []
    for end in advice.ends:
        first = max(_offered(advice, end), key=lambda one: end.speeds[one] or 0.0, default=best)
        if (end.speeds[first] or 0.0) > APART * (end.speeds.get(best) or 0.0):
            others.append(f"{first.words} at {_at(end)}")
    if others:
        yield f"The best choice depends on {SHARE}: {', '.join(others)}; {MEASURE}."


def _offered(advice: Advice, end: End) -> list[Choice]:
    """The choices at ``end`` that could be the answer: of an engine's own, where the best is."""
    own, native = advice.best.choice.miss in advice.native, advice.native
    return [one for one in end.speeds if not one.pending and (not own or one.miss in native)]


def upgrade_depends(advice: Advice) -> str | None:
    """Which upgrade of the best choice helps most where the host reaches less and more, where that
    is not the same one.
    """
    first = _most([one for one in advice.gains if one.scored.choice == advice.best.choice])
    if first is None:
        return None
    others = []
    for end in advice.ends:
        most, same = _most(end.gains), [o for o in end.gains if o.upgrade == first.upgrade]
        before = (same[0].scored.throughput if same else None) or 0.0
        if most is not None and (most.scored.throughput or 0.0) > APART * before:
            others.append(f"{most.upgrade.title}, x {most.ratio:.2f}, at {_at(end)}")
    if not others:
        return None
    here = f"{first.upgrade.title}, x {first.ratio:.2f}{ended(advice.gain_ends(first))}"
    return f"depends on {SHARE}: here {here}; {'; '.join(others)}; {MEASURE}"


def _most(gains: list[Gain] | tuple[Gain, ...]) -> Gain | None:
    ran = [one for one in gains if one.ratio]
    return max(ran, key=lambda one: one.scored.throughput or 0.0, default=None)


def _at(end: End) -> str:
    return f"{100 * end.share:.0f} %"
