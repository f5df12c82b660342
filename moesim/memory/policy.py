"""What a cache policy is: an order over the experts that could make room."""

from __future__ import annotations

from functools import lru_cache
from typing import Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from moesim.config.errors import InputError, Problem
from moesim.config.params import Params, unread_fields
from moesim.memory.policy_functions import check_functions
from moesim.memory.policy_reads import check_reads, reads_of, rows_of

(
    LAST_USE, INSERTED, FREQUENCY, NEXT_USE, USAGE, LAST_PASS, THIS_PASS, THIS_LAYER, PINNED,
    ARRIVING, WANTED, ROWS,
) = range(12)  # fmt: skip
"""Rows of a cache's state int64[ROWS + memory, experts]: activation of the last use, activation of
the last load, number of activations, next (step, id) as one number, choices in the first part of
the trace, and forward pass of the last use; in column 0 the pass, and layer of the pool, that is
being decided; for which layer of which pass a prefetch has pinned it (one more than their number in
execution order, else 0), and whether its copy has not ended; and which variant its activation
wants, 0 where there is one. The rows of a policy's own memory follow.
"""

NEVER = 1 << 62
"""The next use of an expert that is not needed again."""

WEIGHT_UNIT = 1 << 24
"""Gate weights come as whole multiples of 1 / WEIGHT_UNIT, the least step of fp16: sums are exact.
"""


class CachePolicy(Params):
    """The cache counts, the policy orders.

    A policy gives ``key(expert, state, draw, position, candidates)``: the candidate with the least
    key is evicted, of equals the lowest id. ``state`` is int64[ROWS + memory, experts], ``draw`` a
    random number in [0, 1) of this activation, ``position`` the candidate's rank by id among
    ``candidates`` of them. It is plain arithmetic that numba compiles, so that both engines run the
    one definition. Under ``scope: global`` the experts of layer i follow those of layer i - 1.

    A policy that remembers more has ``memory`` rows of its own, fills them in ``start``, and writes
    them in ``before_activation`` and ``after_activation``, which are compiled like the key.
    """

    scope: Literal["layer", "global"] = Field(
        default="layer",
        description="Slots of each MoE layer apart, or one pool for all MoE layers of a GPU.",
    )

    looks_ahead: ClassVar[bool] = False
    """Whether the key reads NEXT_USE, which needs the whole run's batches beforehand."""
    draws: ClassVar[bool] = False
    """Whether the key reads ``draw``."""
    lists: ClassVar[bool] = False
    """Whether it keeps lists of what is resident, which a prefetch would go past."""
    weighs: ClassVar[bool] = False
    """Whether ``before_activation`` reads ``weight``, which needs a trace with gate weights."""
    restarts: ClassVar[bool] = False
    """Whether it is told by ``start_request`` when a request begins alone."""
    memory: ClassVar[int] = 0
    """Rows of state of its own, zero at first."""

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        """Raise an InputError where a function of the policy does not take what it is given, or
        reads what the policy does not declare, and where a field reaches nothing.
        """
        super().__pydantic_init_subclass__(**kwargs)
        if unread := unread_fields(cls):
            what = "is a field that reaches nothing: compiled functions read 'state' alone; put it"
            what += " into a row of your own in start(self, state, ...), or write ClassVar"
            where = f"{cls.__qualname__}.{unread[0]}"
            raise InputError([Problem(cls.__module__, where, what)])
        concrete = "kind" in cls.model_fields
        check_functions(cls, has_key=not concrete or cls.key is not CachePolicy.key)
        if concrete:
            check_reads(cls, rows=ROWS, next_use=NEXT_USE)

    def learning_part(self) -> float:
        """Share of the trace, from its start, whose choices USAGE counts."""
        return 0.0

    def shared_buffers(self) -> int | None:
        """How many buffers all layers share in turn, emptied after each step; None: slots."""
        return None

    def start(
        self, state: NDArray[np.int64], slots: int, resident: NDArray[np.bool_], layers: int
    ) -> None:
        """Fill the policy's own rows before the first activation.

        ``slots`` of the pool, ``resident`` bool[experts] preloaded, ``layers`` that share it.
        """

    def take_turns(self, state: NDArray[np.int64], turns: int) -> None:
        """See, after ``start``, that each layer has so many steps, one behind the other, which
        THIS_LAYER counts: those of GPUs that share the pool. To be given by a policy that reads it.
        """

    def start_request(self, state: NDArray[np.int64], this_pass: int) -> None:
        """See that forward pass ``this_pass`` begins, and that none of its requests was in the one
        before.
        """

    @staticmethod
    def key(expert: Any, state: Any, draw: Any, position: Any, candidates: Any) -> Any:
        """The order: of the candidates the one with the least key, an int64, is evicted."""
        raise NotImplementedError

    @staticmethod
    def before_activation(
        expert: Any, hit: Any, step: Any, layer: Any, weight: Any, state: Any
    ) -> None:
        """See the activation of ``expert`` before its victim is chosen and before state counts it.

        ``step`` counts forward passes, ``layer`` the layers of the pool; ``weight`` is the sum of
        the expert's gate weights in this step, in units of 1 / WEIGHT_UNIT.
        """

    @staticmethod
    def after_activation(expert: Any, hit: Any, victim: Any, now: Any, state: Any) -> None:
        """See how activation ``now`` went, after state counted it; ``victim`` is -1 where none
        went.
        """


@lru_cache
def reads_usage(policy: type[CachePolicy]) -> bool:
    """Whether a function of ``policy`` may read USAGE, which takes a look at the trace."""
    rows = reads_of(policy).rows
    told = set[int | None]((None,) if rows is None else rows)
    for function in (policy.start, policy.take_turns, policy.start_request):
        told |= rows_of(function, 1)  # behind ``self``
    return not told.isdisjoint((USAGE, None))
