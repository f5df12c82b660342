"""Words of bits, for compiled code."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import types
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import lower_builtin

__all__ = ["ones_of"]


def ones_of(bits: Any) -> Any:
    """How many ``bits`` of a word, a uint64, are set, as another: one instruction."""
    return np.uint64(int(bits).bit_count())


@infer_global(ones_of)  # type: ignore[no-untyped-call,unused-ignore]
class _Ones(AbstractTemplate):  # type: ignore[misc,unused-ignore]
    def generic(self, args: Any, _named: Any) -> Any:
        known = args == (types.uint64,)
        return signature(types.uint64, *args) if known else None  # type: ignore[no-untyped-call,unused-ignore]


@lower_builtin(ones_of, types.uint64)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _count(_context: Any, builder: Any, _signed: Any, given: Any) -> Any:
    return builder.ctpop(given[0])
