"""Where an operation's time stands in a forward pass, what it is charged to, what it depends on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, NamedTuple

from moesim.hardware.prices.arrays import Ints
from moesim.model.drafting import Drafter
from moesim.model.spec import LayerSpec

CHARGES = ("attention", "gate", "dispatch_combine", "experts", "host", "waiting_for_weights",
"waiting_for_gpus", "waiting_for_cpu")  # fmt: skip
"""What a nanosecond of a GPU is charged to; operations may add categories of their own. The rest is
idle.
"""
COUNT_BYTES = 4
"""Of a count of rows that GPUs tell one another."""
WAITING_FOR_STORAGE = "waiting_for_storage"
"""What follows ``CHARGES`` where experts are read from storage."""
PREDICTION = "prediction"
"""What predicting experts is charged to, where it takes time."""
REBALANCING = "rebalancing"
"""Waiting for experts that get other places."""
RESERVED = frozenset({
    "barrier", "cpu_wait", "duration", "end", "idle", "itl", "stall", "start", "time", "tpot",
})  # fmt: skip
"""Names of other times in the tables of results, which no category can have."""


class Stage(IntEnum):
    """The stages of a layer in order (docs/semantics.md), and the end of a pass.

    ``PERMUTE`` makes rows ready for dispatch: with the gate where nothing waits for counts, else
    beside their exchange, or after it where the GPUs agree on a capacity. ``BESIDE`` runs beside
    that exchange, ``AFTER`` after combine.
    """

    BEFORE_GATE = 0
    GATE = 1
    PERMUTE = 2
    BESIDE = 3
    AFTER = 4
    HEAD = 5


class Setting(NamedTuple):
    """What of a run decides which operations it has; ``group`` GPUs share attention,
    and layers are split over ``stages`` GPUs; copies are from ``pinned`` memory; a ``drafter``
    works before decode steps. ``prediction_ns``: what predicting experts takes behind the gate of a
    layer. ``logit_wait_ns``: what the host's wait for logits takes that it copies; None where it
    copies none. ``input_copies``: copies that bring a pass its inputs.
    """

    group: int
    uneven: bool
    masks: bool
    decides_on_device: bool
    stages: int = 1
    pinned: bool = True
    drafter: Drafter | None = None
    prediction_ns: int = 0
    logit_wait_ns: int | None = None
    input_copies: int = 0


class Drafted(NamedTuple):
    """What making drafts depends on, int64[n] each, of n passes and GPUs in turn.

    The first draft of a pass runs over its tokens, a further one over one of each request. Of a
    GPU's gate ``tokens`` and ``requests``; of its group, ``group_...``, and of all GPUs,
    ``every_...``. ``sums``: by window of what drafts the group's context tokens, cached tokens and
    what of a layer is ``served``.
    """

    tokens: Ints
    group_tokens: Ints
    every_token: Ints
    requests: Ints
    group_requests: Ints
    every_request: Ints
    sums: tuple[Ints, ...]


@dataclass(frozen=True, eq=False)
class Shapes:
    """What prices depend on, int64[n] each, of n passes and GPUs in turn.

    Of a GPU: ``tokens`` of its gate, and ``most_tokens``, the pass's fullest; ``output_tokens``
    whose logits are made, and those whose a host that reads logits would ``read``; what
    ``drafting`` depends on. Of its group: ``group_tokens``,
    ``context_tokens`` and ``kv_tokens`` as attention has them, ``served``: the part of these three
    that tokens have which decode in mixed passes, how many tokens are padding, and, where prices
    depend on it, the longest context of those that decode; and ``sources``:
    context, cache and projected tokens of cross attention. Known with the routing alone: ``rows``
    that it permutes, and ``capacity``. ``row_bytes`` of a hidden vector; logical ``experts``.
    """

    setting: Setting
    row_bytes: int
    experts: int
    tokens: Ints
    most_tokens: Ints
    output_tokens: Ints
    group_tokens: Ints
    context_tokens: Ints
    kv_tokens: Ints
    served: tuple[Ints, ...] = ()
    sources: tuple[Ints, ...] = ()
    drafting: Drafted | None = None
    read: Ints | None = None
    rows: Ints | None = None
    capacity: Ints | None = None


def _always(_setting: Setting, _layer: LayerSpec) -> bool:
    return True


@dataclass(frozen=True)
class Charge:
    """One place of an operation in a pass.

    ``of`` gives what its price is asked for; ``when`` says in which layers it runs (of ``HEAD``:
    the last one). ``category``: what its time is charged to, one of ``CHARGES`` or its own,
    which is then a result. ``name`` of its spans, "" where those of its stage and category have
    one. ``launches``: kernels that the host launches for it, beyond those of the software profile.
    ``by_routing``: whether ``of`` reads ``rows`` or ``capacity``. ``on_host``: it runs in layers of
    the host, and no others do. ``first``: before the others of its stage. ``reduced``: behind the
    all-reduce of attention, or that itself.
    """

    stage: Stage
    category: str
    of: Callable[[LayerSpec, Shapes], tuple[Any, ...]] = field(compare=False)
    name: str = ""
    when: Callable[[Setting, LayerSpec], bool] = field(default=_always, compare=False)
    launches: int = 0
    by_routing: bool = False
    on_host: bool = False
    first: bool = False
    reduced: bool = False

    def __post_init__(self) -> None:
        """ValueError for a category whose column would have no name, or another's."""
        if not self.category.isidentifier():
            what = "is no name of a column of results; write letters, digits and _"
            raise ValueError(f"category: '{self.category}' {what}")
        if self.category in RESERVED:
            what = f"is another time in results; the others taken are {', '.join(sorted(RESERVED))}"
            raise ValueError(f"category: '{self.category}' {what}")
