"""The requests of a trace that have work in the chosen phase."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.trace.routing import Phase, RoutingTrace

PhaseChoice = Literal["decode", "prefill", "all", "encode"]
_CHOSEN: dict[str, tuple[Phase, ...]] = {
    "decode": (Phase.DECODE,),
    "prefill": (Phase.PREFILL,),
    "all": (Phase.ENCODE, Phase.PREFILL, Phase.DECODE),
    "encode": (Phase.ENCODE,),
}


@dataclass(frozen=True, eq=False)
class Requests:
    """Tokens of the chosen phase, in file order.

    ``rows`` int64[n] rows of the trace; ``request`` int64[n] number of the request among those that
    have any such token (0, 1, ... in file order); ``decode_index`` int64[n] ordinal of a decode
    token within its request, -1 for prompt and encoder tokens; ``decode_tokens`` int64[count].
    Where drafts are verified (``speculation.py``) rows come as often as steps have them:
    ``decode_index`` is the ordinal of the step, ``decode_tokens`` the number of steps, and ``kept``
    bool[n] says which rows a step keeps; None: all. ``routed`` int64[n]: the rows whose routing
    they have; None: their own.
    """

    rows: NDArray[np.int64]
    request: NDArray[np.int64]
    decode_index: NDArray[np.int64]
    decode_tokens: NDArray[np.int64]
    kept: NDArray[np.bool_] | None = None
    routed: NDArray[np.int64] | None = None

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.decode_tokens)

    @classmethod
    def of(cls, trace: RoutingTrace, phase: PhaseChoice, first: int | None = None) -> Requests:
        """The requests of ``trace`` with a token in ``phase``, the ``first`` of them only.

        Raises InputError where the trace has no token in that phase.
        """
        rows = np.flatnonzero(np.isin(trace.phase, _CHOSEN[phase]))
        if not len(rows):
            present = sorted({Phase(p).name.lower() for p in np.unique(trace.phase)})
            what = f"the trace has no token in phase '{phase}'; it has {', '.join(present)}"
            raise InputError([Problem("", "workload.phase", what)])
        changes = np.diff(trace.request_id[rows]) != 0
        request = np.concatenate(([0], np.cumsum(changes, dtype=np.int64)))
        if first is not None:
            rows, request = rows[request < first], request[request < first]
        decode = trace.phase[rows] == Phase.DECODE
        decode_tokens = np.bincount(request[decode], minlength=request[-1] + 1)
        before = np.cumsum(decode) - 1
        first_decode = (np.cumsum(decode_tokens) - decode_tokens)[request]
        return cls(rows, request, np.where(decode, before - first_decode, -1), decode_tokens)
