"""How many experts a GPU keeps: ``8 slots/layer``, ``12 GiB``, ``25 %``, ``auto`` or ``all``; and
how much of a KV cache: ``2588 blocks``, ``12 GiB``, ``85 %`` or ``auto``.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from moesim.config.amounts.dimensions import (
    BYTES,
    format_bytes,
    format_percent,
    parse_bytes,
    parse_percent,
)
from moesim.config.amounts.quantity import QuantityError, split

SLOTS, ONE_SLOT = "slots/layer", "slot/layer"
_RULE = "write '8 slots/layer', '12 GiB', '25 %', 'auto' or 'all'"
_MOST_SLOTS = 1 << 31


@dataclass(frozen=True)
class ExpertCapacity:
    """The room for experts on one GPU.

    ``amount``: slots for each MoE layer (int), bytes over all layers (int), a share of the GPU's
    own experts (float), or 1: ``all`` of them, resident from the start, or as many as the rest of
    the GPU's memory holds (``auto``); 0: ``none``, of host memory alone.
    """

    kind: Literal["slots", "bytes", "fraction", "auto", "all", "none"]
    amount: int | float

    def __str__(self) -> str:
        match self.kind:
            case "slots":
                return f"{self.amount} {SLOTS}"
            case "bytes":
                return format_bytes(int(self.amount))
            case "fraction":
                return format_percent(self.amount)
        return self.kind


def parse_capacity(value: Any) -> ExpertCapacity:
    """The capacity in ``value``; a QuantityError says which rule it breaks."""
    if isinstance(value, ExpertCapacity):
        return value
    if value in ("all", "auto"):
        return ExpertCapacity(value, 1)
    amount, unit = _split(value)
    if not unit:
        raise QuantityError(f"'{value}' has no unit; {_RULE}")
    if unit in (SLOTS, ONE_SLOT):
        return _slots(str(value), amount.numerator, whole=amount.denominator == 1)
    if amount <= 0 or (unit == "B" and amount < 1):
        raise QuantityError(f"'{value}' leaves no room for an expert; write more than zero")
    if unit == "%":
        return ExpertCapacity("fraction", parse_percent(value))
    if unit not in BYTES.units and unit not in BYTES.bits:
        raise QuantityError(f"'{value}' has the unknown unit '{unit}'; {_RULE}")
    return ExpertCapacity("bytes", parse_bytes(value))


def _split(value: Any) -> tuple[Fraction, str]:
    try:
        return split(value, "a capacity", "8 slots/layer")
    except QuantityError:
        shown = f"'{value}'" if isinstance(value, str) else value
        what = "is empty" if value is None else f"{shown} is not a capacity"
        raise QuantityError(f"{what}; {_RULE}") from None


def _slots(text: str, count: int, *, whole: bool) -> ExpertCapacity:
    if not whole or not 1 <= count <= _MOST_SLOTS:
        what = "slots are a whole number of experts, 1 or more; write '8 slots/layer'"
        raise QuantityError(f"'{text}' is not possible: {what}")
    return ExpertCapacity("slots", count)


BLOCKS, ONE_BLOCK = "blocks", "block"
_KV_RULE = "write 'auto', '2588 blocks', '12 GiB' or '90 %'"


@dataclass(frozen=True)
class KvCapacity:
    """The room for keys and values on one GPU: what the engine's share of the memory leaves
    (``auto``), a share ``amount`` of what all else leaves, or ``amount`` blocks or bytes.
    """

    kind: Literal["auto", "fraction", "blocks", "bytes"]
    amount: int | float = 0

    @property
    def is_left(self) -> bool:
        """Whether it is what all else leaves, or a share of it."""
        return self.kind in ("auto", "fraction")

    def __str__(self) -> str:
        if self.kind == "bytes":
            return format_bytes(int(self.amount))
        if self.kind == "fraction":
            return format_percent(self.amount)
        return f"{self.amount} {BLOCKS}" if self.kind == "blocks" else self.kind


def parse_kv_capacity(value: Any) -> KvCapacity:
    """The capacity in ``value``; a QuantityError says which rule it breaks."""
    if isinstance(value, KvCapacity):
        return value
    if value == "auto":
        return KvCapacity("auto")
    try:
        amount, unit = split(value, "room for keys and values", "2588 blocks")
    except QuantityError:
        raise QuantityError(f"'{value}' is no room for keys and values; {_KV_RULE}") from None
    if unit in (BLOCKS, ONE_BLOCK):
        if amount.denominator != 1 or not 1 <= amount <= _MOST_SLOTS:
            raise QuantityError(f"'{value}': blocks are a whole number, 1 or more; {_KV_RULE}")
        return KvCapacity("blocks", amount.numerator)
    if unit == "%" and amount > 0:
        return KvCapacity("fraction", parse_percent(value))
    if unit not in BYTES.units or amount <= 0:
        raise QuantityError(f"'{value}' is no room for keys and values; {_KV_RULE}")
    return KvCapacity("bytes", parse_bytes(value))
