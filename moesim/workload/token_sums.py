"""Sums over the tokens of passes, compiled."""

from __future__ import annotations

from typing import Any

from moesim.runtime.compiled import njit, types
from moesim.workload.served import PassPhase

TOKENS, CONTEXT, KV, DECODING, DECODING_CONTEXT, DECODING_KV, LONGEST, CACHED = range(8)
SUMS = 8
FEW = 10_000
"""Tokens that take less time in Python than compiled code to load."""
DECODE, ENCODE = int(PassPhase.DECODE), int(PassPhase.ENCODE)
ANY = 1 << 62
"""The window of a token that sees all keys."""
REQUEST, GPU, HELD = range(3)
"""Of a request that has a cache: the pass of its last token so far + 1, its GPU, and the tokens."""

_FLAT, _TABLE = types.int64[::1], types.int64[:, ::1]


@njit(types.void(_TABLE, _TABLE, *[types.int64] * 4), inner=True, _nrt=False)
def _hold(changes: Any, held: Any, request: int, step: int, gpu: int, tokens: int) -> None:
    """From ``step`` on a ``request`` holds so many ``tokens`` on ``gpu``, and no others."""
    if held[REQUEST, request] > 0:
        changes[step, held[GPU, request]] -= held[HELD, request]
    changes[step, gpu] += tokens
    held[REQUEST, request], held[GPU, request], held[HELD, request] = step + 1, gpu, tokens


@njit(types.void(_TABLE, _TABLE), inner=True, _nrt=False)
def _run_up(changes: Any, held: Any) -> None:
    """All requests that hold something end; ``changes`` become what is held in each pass."""
    for of in range(held.shape[1]):
        if held[REQUEST, of] > 0:
            changes[held[REQUEST, of], held[GPU, of]] -= held[HELD, of]
    for step in range(1, len(changes)):
        for g in range(changes.shape[1]):
            changes[step, g] += changes[step - 1, g]


@njit(
    types.void(
        _FLAT, _FLAT, _FLAT, types.uint8[::1], _FLAT, types.boolean[::1], types.int64,
        types.int64[:, :, ::1], _TABLE,
    ),
    cache=True,
    _nrt=False,
)  # fmt: skip
def sum_tokens(
    offsets: Any, gpu: Any, request: Any, phase: Any, position: Any, mixed: Any, window: int,
    sums: Any, held: Any,
) -> None:  # fmt: skip
    """Add up what ``AttentionSums`` has, over the tokens of passes: ``gpu``, ``request``, ``phase``
    and ``position`` of each. ``mixed`` bool[passes]; a token sees ``window`` keys at most; ``sums``
    int64[SUMS, passes + 1, gpus] and ``held`` int64[3, requests] begin as 0. All tokens of a
    request in a pass have its GPU and are of one phase.
    """
    passes = len(offsets) - 1
    for step in range(passes):
        begin, last = offsets[step], offsets[step + 1]
        while begin < last:
            of, end = request[begin], begin + 1
            while end < last and request[end] == of:
                end += 1
            tokens, context, longest = end - begin, 0, 0
            for token in range(begin, end):
                seen = min(position[token] + 1, window)
                context, longest = context + seen, max(longest, seen)
            reach, g, kind = position[end - 1] + 1, gpu[begin], phase[begin]
            if kind == ENCODE:
                context = tokens * tokens
            read = tokens if kind == ENCODE else reach
            if kind == DECODE:
                read = min(reach, window + tokens - 1)
                sums[LONGEST, step, g] = max(sums[LONGEST, step, g], longest)
            sums[TOKENS, step, g] += tokens
            sums[CONTEXT, step, g] += context
            sums[KV, step, g] += read
            if mixed[step] and kind == DECODE:
                sums[DECODING, step, g] += tokens
                sums[DECODING_CONTEXT, step, g] += context
                sums[DECODING_KV, step, g] += read
            _hold(sums[CACHED], held, of, step, g, 0 if kind == ENCODE else min(reach, window))
            begin = end
    _run_up(sums[CACHED], held)


@njit(types.void(_FLAT, types.boolean[::1], _FLAT), cache=True, _nrt=False)
def count_tokens(offsets: Any, counted: Any, counts: Any) -> None:
    """Fill in how many tokens of each pass are ``counted``."""
    for step in range(len(counts)):
        number = 0
        for token in range(offsets[step], offsets[step + 1]):
            number += counted[token]
        counts[step] = number


@njit(
    types.void(
        types.int64, _FLAT, _FLAT, _FLAT, types.boolean[::1], types.boolean[::1], *[_FLAT] * 4
    ),
    cache=True,
    _nrt=False,
)  # fmt: skip
def see_tokens(
    step: int, offsets: Any, request: Any, rows: Any, counted: Any, kept: Any,
    first: Any, last: Any, tokens: Any, row: Any,
) -> None:  # fmt: skip
    """Let ``lives.Lives`` (``first``, ``last``, ``tokens``, ``row``) have seen passes from ``step``
    on, of whose tokens those that are ``counted`` are looked at, and those ``kept`` are tokens.
    """
    for number in range(len(offsets) - 1):
        token, end = offsets[number] - offsets[0], offsets[number + 1] - offsets[0]
        while token < end:
            of, seen, given, furthest = request[token], 0, 0, -1
            while token < end and request[token] == of:
                if counted[token]:
                    seen, given = seen + 1, given + kept[token]
                    furthest = max(furthest, rows[token])
                token += 1
            if seen > 0:
                first[of], last[of] = min(first[of], step + number), max(last[of], step + number)
                row[of], tokens[of] = max(row[of], furthest), tokens[of] + given
