"""Words of bits, for compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np

from moesim.runtime.compiled import inlined

_ONE, _TWO, _FOUR = np.uint64(1), np.uint64(2), np.uint64(4)
_PAIRS, _QUADS = np.uint64(0x5555555555555555), np.uint64(0x3333333333333333)
_BYTES, _LAST = np.uint64(0x0F0F0F0F0F0F0F0F), np.uint64(0x7F)
_BY_8, _BY_16, _BY_32 = np.uint64(8), np.uint64(16), np.uint64(32)


@inlined
def ones_of(bits: Any) -> Any:
    """How many ``bits`` of a word, a uint64, are set, as another; loops of it become vector
    instructions.
    """
    bits -= (bits >> _ONE) & _PAIRS
    bits = (bits & _QUADS) + ((bits >> _TWO) & _QUADS)
    bits = (bits + (bits >> _FOUR)) & _BYTES
    bits += bits >> _BY_8
    bits += bits >> _BY_16
    return (bits + (bits >> _BY_32)) & _LAST
