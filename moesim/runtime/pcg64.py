"""numpy's PCG64 in compiled code, for who looks at few draws of a stream: each is found from where
the stream is, without those before it.

The state is a number below 2^128, here its two words. A step is times MULTIPLIER, plus a number of
the stream's own (O'Neill 2014: PCG XSL RR 128/64).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import types
from numba.core import cgutils as untyped
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin
from numpy.typing import NDArray

from moesim.runtime.compiled import built_in

cgutils: Any = untyped

__all__ = [
    "UNIT", "draw_all", "draw_at", "jumps_of", "moved_by", "moved_times", "state_of", "steps_of",
]  # fmt: skip

MULTIPLIER = 0x2360ED051FC65DA44385DF649FCCF645
WORD, ALL, HALF = 1 << 64, (1 << 128) - 1, (1 << 32) - 1
UNIT = 2.0**-53
"""What a draw is a multiple of."""
Words = NDArray[np.uint64]


def state_of(generator: np.random.PCG64) -> Words:
    """Where ``generator`` is and what it adds, uint64[4]."""
    state: Any = generator.state["state"]
    return np.array([*divmod(state["state"], WORD), *divmod(state["inc"], WORD)], np.uint64)


@lru_cache
def steps_of(most: int) -> Words:
    """What takes any stream 0, 1, ... up to ``most`` steps further, uint64[most + 1, 4]: MULTIPLIER
    to that power, and the sum of those before it.
    """
    steps = [(1, 0)]
    for _ in range(most):
        times, plus = steps[-1]
        steps.append((times * MULTIPLIER & ALL, (plus + times) & ALL))
    words = [(*divmod(times, WORD), *divmod(plus, WORD)) for times, plus in steps]
    found = np.array(words, np.uint64)
    found.flags.writeable = False
    return found


def moved(high: Any, low: Any, *jump: Any) -> Any:
    """The words of a state after a jump, of four words."""
    state, times, plus = ((int(a) * WORD) | int(b) for a, b in ((high, low), jump[:2], jump[2:]))
    return tuple(map(np.uint64, divmod((state * times + plus) & ALL, WORD)))


@infer_global(moved)  # type: ignore[no-untyped-call,unused-ignore]
class _Moved(AbstractTemplate):  # type: ignore[misc,unused-ignore]
    def generic(self, args: Any, _named: Any) -> Any:
        known = args == (types.uint64,) * 6
        pair = types.UniTuple(types.uint64, 2)  # type: ignore[no-untyped-call,unused-ignore]
        return signature(pair, *args) if known else None  # type: ignore[no-untyped-call,unused-ignore]


@lower_builtin(moved, *[types.uint64] * 6)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _move(context: Any, builder: Any, signed: Any, given: Any) -> Any:
    wide, word = ir.IntType(128), ir.IntType(64)
    half = ir.Constant(wide, 64)
    state, times, plus = (
        builder.or_(builder.shl(builder.zext(high, wide), half), builder.zext(low, wide))
        for high, low in zip(given[::2], given[1::2], strict=True)
    )
    found = builder.add(builder.mul(state, times), plus)
    words = [builder.trunc(builder.lshr(found, half), word), builder.trunc(found, word)]
    return context.make_tuple(builder, signed.return_type, words)


@built_in
def jumps_of(state: Any, steps: Any) -> Any:
    """What takes the stream of this ``state`` further, as ``steps`` do any."""
    jumps, none = np.empty(steps.shape, np.uint64), np.uint64(0)
    for i in range(len(steps)):
        jumps[i, 0], jumps[i, 1] = steps[i, 0], steps[i, 1]
        jumps[i, 2], jumps[i, 3] = moved(state[2], state[3], steps[i, 2], steps[i, 3], none, none)
    return jumps


@built_in
def moved_by(high: Any, low: Any, jumps: Any, steps: int) -> Any:
    """The words of a state so many ``steps`` later."""
    return moved(high, low, jumps[steps, 0], jumps[steps, 1], jumps[steps, 2], jumps[steps, 3])


@built_in
def moved_times(high: Any, low: Any, jumps: Any, steps: int, times: int) -> Any:
    """The words of a state so many ``times`` as many ``steps`` later."""
    none, jump = np.uint64(0), jumps[steps]
    more, plus = (jump[0], jump[1]), (jump[2], jump[3])
    while times > 0:
        if times & 1 > 0:
            high, low = moved(high, low, *more, *plus)
        plus = moved(*plus, *more, *plus)  # twice as far
        more = moved(*more, *more, none, none)
        times >>= 1
    return high, low


@built_in
def draw_at(high: Any, low: Any, jumps: Any, at: int) -> Any:
    """What a stream in this state draws next, or so many draws later: 2^53 times a number that is
    uniform from 0 up to 1.
    """
    return _drawn(*moved_by(high, low, jumps, np.uint64(at) + np.uint64(1)))


@built_in
def _drawn(high: Any, low: Any) -> Any:
    """What is drawn of a state: 53 of its 128 bits, folded and turned."""
    folded, turn = high ^ low, high >> np.uint64(58)
    back = (np.uint64(64) - turn) & np.uint64(63)
    return np.int64(((folded >> turn) | (folded << back)) >> np.uint64(11))


@built_in
def draw_all(high: Any, low: Any, jumps: Any, barred: Any, draws: Any) -> None:
    """Fill in ``draws`` int64[n], what a stream in this state draws next, joined with ``barred``
    int64[n]; ``jumps`` uint64[4, n] take it there. In vectors, which multiply halves of words.
    """
    half, none = np.uint64(32), np.uint64(HALF)
    low_0, low_1, high_0, high_1 = low & none, low >> half, high & none, high >> half
    for i in range(len(draws)):
        times_0, times_1 = jumps[1, i] & none, jumps[1, i] >> half
        far_0, far_1 = jumps[0, i] & none, jumps[0, i] >> half
        one, two, three = low_0 * times_0, low_0 * times_1, low_1 * times_0
        middle = (one >> half) + (two & none) + (three & none)
        below = ((one & none) | (middle << half)) + jumps[3, i]
        above = low_1 * times_1 + (two >> half) + (three >> half) + (middle >> half)
        above += low_0 * far_0 + ((low_0 * far_1 + low_1 * far_0) << half)
        above += high_0 * times_0 + ((high_0 * times_1 + high_1 * times_0) << half)
        above += jumps[2, i] + np.uint64(below < jumps[3, i])
        draws[i] = _drawn(above, below) | barred[i]
