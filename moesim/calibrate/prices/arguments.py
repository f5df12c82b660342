"""What an operation of a run is asked for, made of the columns of a table's row (``asked``)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any

import numpy as np
import pandas as pd

from moesim.calibrate.prices.asked import ASKED, EXPERIMENT, MACHINE, MADE_OF, MODEL, Asked
from moesim.config.errors import InputError, nearest
from moesim.hardware.cost_model import CostModel
from moesim.hardware.measurements.validate import LARGEST_COUNT
from moesim.hardware.price_errors import Machine, Spread
from moesim.hardware.prices.arrays import Ints
from moesim.hardware.prices.provenance import Source
from moesim.model.drafting import Drafter, Joining
from moesim.model.spec import LayerSpec

Row = Mapping[str, Any]
TRUE = {"true": True, "1": True, "1.0": True, "false": False, "0": False, "0.0": False}
WAYS = ("h2d", "d2h", "p2p")
AT_LEAST_ONE = frozenset({"gpus", "copies", "stages", "reads", "experts"})
NAME_A_MODEL = "name one by --model, or an experiment instead of the profile"
TOGETHER = ("served_tokens", "served_context_tokens", "served_kv_tokens")
"""Columns that say one thing in three numbers."""
NO_PART = {
    "moe": "routed experts",
    "moe.shared": "a shared expert",
    "dense": "a dense network",
    "cross_attention": "cross attention",
}
"""What a layer lacks that has not got the part of ``Asked``."""


@dataclass(frozen=True)
class Asking:
    """Whose operations are asked about: their ``costs``, the ``machine`` whose names their errors
    have, and who ``knows`` what else decides a price (``asked``). Of an experiment its ``drafter``,
    and the MoE layers in each of the ``variants`` of their experts. ``spreads`` that are known.
    """

    costs: CostModel
    machine: Machine
    knows: str = MACHINE
    drafter: Drafter | None = None
    variants: Mapping[str, Sequence[LayerSpec]] = field(default_factory=dict)
    spreads: dict[tuple[str, Source], Spread] = field(default_factory=dict)


def shape_of(asking: Asking, row: Row) -> list[Any]:
    """What the operation of the ``row`` is asked for, as its ``parts`` take it."""
    kind = str(row["op"])
    asked = ASKED[kind]
    _check_known(asking, kind, asked)
    given = {name: value for name, value in row.items() if _is_given(value)}
    more = _given_of(asked, given)
    shape = list[Any]()
    for name in (*asked.arguments, *more):
        made = _made(asking, asked, name, given)
        shape += made if name.startswith("*") else [made]
    return shape


def _check_known(asking: Asking, kind: str, asked: Asked) -> None:
    """An InputError where it takes a model or an experiment, and there is none."""
    if asked.knows == EXPERIMENT and asking.drafter is None:
        what = f"'{kind}' is of an experiment that drafts (workload.speculative, a model or mtp)"
        raise InputError(f"{what}; give its file instead of the profile")
    if asked.knows == MODEL and asking.knows == MACHINE:
        raise InputError(f"'{kind}' is of a model; {NAME_A_MODEL}")


def _given_of(asked: Asked, given: Row) -> tuple[str, ...]:
    """Of what may be left out what is ``given``: all up to the last."""
    number = max((i + 1 for i, name in enumerate(asked.more) if name in given), default=0)
    if missing := [name for name in asked.more[:number] if name not in given]:
        last, which = asked.more[number - 1], ", ".join(f"'{name}'" for name in missing)
        raise InputError(f"has '{last}' and no {which}; give both, or neither")
    lacking = [name for name in TOGETHER if name not in asked.more[:number]]
    if number and 0 < len(lacking) < len(TOGETHER):
        which = ", ".join(f"'{name}'" for name in lacking)
        raise InputError(f"has '{asked.more[number - 1]}' and no {which}; give all, or none")
    return asked.more[:number]


def _made(asking: Asking, asked: Asked, name: str, given: Row) -> Any:
    """The argument ``name`` of what is ``given``; several where it begins with a star."""
    ways = MADE_OF.get(name, ((name,),))
    columns = next((way for way in ways if all(one in given for one in way)), None)
    if columns is None:
        missing = next(one for one in ways[0] if one not in given)
        other = "".join(f", nor {_quoted(way)}" for way in ways[1:])
        raise InputError(f"has no '{missing}'{other}; '{given['op']}' is asked by it")
    if name == "layer":
        return _layer(asking, asked.part, given)
    if (maker := MAKERS.get(name)) is not None:
        return maker(asking, given)
    number = _number(name, given[name])
    return number if name in SCALARS else np.array([number], np.int64)


def _quoted(names: Iterable[str]) -> str:
    return " and ".join(f"'{name}'" for name in names)


def _is_given(value: Any) -> bool:
    """Whether a cell of a table holds something."""
    if isinstance(value, (list, tuple, np.ndarray)):
        return len(value) > 0
    return bool(pd.notna(value))


def _number(name: str, value: Any) -> int:
    """A whole number; an InputError where ``value`` is none, or too large or small a one."""
    least = 1 if name in AT_LEAST_ONE else 0
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = np.nan
    if not (number >= least and number == np.floor(number) and number < LARGEST_COUNT):
        rule = f"whole number from {least} to below {LARGEST_COUNT:,}"
        raise InputError(f"'{name}' is {value}, no {rule}")
    return int(number)


def _numbers(name: str, value: Any) -> Ints:
    """A list of whole numbers, also of one alone or as text."""
    values = value.replace(",", " ").strip("[] ").split() if isinstance(value, str) else value
    return np.array([_number(name, one) for one in np.ravel(values)], np.int64)


def _flag(name: str) -> Callable[[Asking, Row], bool]:
    def made(_asking: Asking, given: Row) -> bool:
        if (found := TRUE.get(str(given[name]).lower())) is None:
            raise InputError(f"'{name}' is {given[name]}; write true or false")
        return found

    return made


def _direction(_asking: Asking, given: Row) -> str:
    if (way := str(given["direction"])) not in WAYS:
        raise InputError(f"'direction' is '{way}'; {nearest(way, WAYS)}")
    return way


def _layer(asking: Asking, part: str, given: Row) -> LayerSpec:
    """The layer that is asked about, by default the first with the ``part``."""
    model, layers = asking.costs.model, _in_variant(asking, given)
    those = [place for place, layer in enumerate(layers) if _has(layer, part)]
    what = f"of {model.name} has {NO_PART.get(part, '')}"
    if not those:
        raise InputError(f"no layer {what}; leave '{given['op']}' out")
    number = _number("layer", given.get("layer", those[0]))
    if number >= len(layers):
        raise InputError(f"'layer' is {number}; {model.name} has those from 0 to {len(layers) - 1}")
    if number not in those:
        raise InputError(
            f"'layer' is {number}, and only {_ranges(those)} {what}; write one of them"
        )
    return layers[number]


def _in_variant(asking: Asking, given: Row) -> Sequence[LayerSpec]:
    """The model's layers, their experts in the variant that is asked about."""
    layers = list(asking.costs.model.layers)
    if "variant" not in given:
        return layers
    if (name := str(given["variant"])) not in asking.variants:
        raise InputError(f"'variant' is '{name}'; {nearest(name, asking.variants)}")
    for layer in asking.variants[name]:
        layers[layer.index] = layer
    return layers


def _has(layer: LayerSpec, part: str) -> bool:
    try:
        return not part or attrgetter(part)(layer) is not None
    except AttributeError:  # of a part that it has not got
        return False


def _ranges(numbers: list[int]) -> str:
    if len(numbers) == 1:
        return f"layer {numbers[0]}"
    if numbers == list(range(numbers[0], numbers[-1] + 1)):
        return f"each from {numbers[0]} to {numbers[-1]}"
    return f"some, as {numbers[0]} and {numbers[1]},"


def _rows(asking: Asking, given: Row) -> Ints:
    """Of each expert of a launch; choices of tokens are spread evenly over all experts."""
    if "rows" in given:
        return _numbers("rows", given["rows"])
    moe = _layer(asking, "moe", given).moe
    assert moe is not None, "it has routed experts"
    total = _number("tokens", given["tokens"]) * moe.top_k
    reached = max(min(total, moe.experts), 1)
    return total // reached + (np.arange(reached) < total % reached)


def _sent(_asking: Asking, given: Row) -> Ints:
    """Bytes int64[1, G, G] from GPU to GPU."""
    if "sent" not in given:
        gpus, size = (_number(name, given[name]) for name in ("gpus", "bytes"))
        return np.full((1, gpus, gpus), size // gpus, np.int64)
    numbers = _numbers("sent", given["sent"])
    gpus = round(len(numbers) ** 0.5)
    if gpus * gpus != len(numbers):
        what = f"'sent' has {len(numbers)} numbers, which are no square"
        raise InputError(f"{what}; give one from each GPU to each")
    return numbers.reshape(1, gpus, gpus)


def _sums(asking: Asking, given: Row) -> tuple[Ints, ...]:
    numbers = _numbers("sums", given["sums"])
    windows = len(asking.drafter.windows) if asking.drafter else 1
    if len(numbers) % windows or len(numbers) // windows < len(("context", "cached")):
        rule = f"context and cached tokens for each of {windows} windows of the drafter"
        raise InputError(f"'sums' has {len(numbers)} numbers; give {rule}")
    return tuple(np.array([one], np.int64) for one in numbers)


def _joining(_asking: Asking, given: Row) -> Joining:
    return Joining(*(_number(name, given[name]) for name in ("elements", "bytes")))


SCALARS = frozenset({"gpus", "copies", "stages", "wait_ns", "reads"})
"""Columns that operations take as one number."""
MAKERS: Mapping[str, Callable[[Asking, Row], Any]] = {
    "starts": lambda _asking, _given: np.zeros(1, np.int64),
    "drafter": lambda asking, _given: asking.drafter,
    "joining": _joining,
    "rows": _rows,
    "sent": _sent,
    "*sums": _sums,
    "direction": _direction,
    **{name: _flag(name) for name in ("pinned", "mapped", "queued")},
}
"""Of arguments that are no whole number, how each is made."""
