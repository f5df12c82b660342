"""The rows of a table that name an operation of a run (``asked``): what a run is charged for it."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import numpy as np

from moesim.calibrate.prices.arguments import Asking, Row, shape_of
from moesim.calibrate.prices.asked import ASKED, EXPERIMENT, MACHINE, MODEL
from moesim.calibrate.prices.operations import Alike
from moesim.experiment.building.built import Built
from moesim.experiment.running.price_ranges import machine_of
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.cost_model import CostModel
from moesim.hardware.cost_model import Prices as Method
from moesim.hardware.measurements.columns import SHAPES
from moesim.hardware.price_errors import Machine, Spread, spread_of
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.parts import Part, provenance_of
from moesim.hardware.prices.provenance import Source
from moesim.hardware.profile import HardwareProfile
from moesim.model.spec import ModelSpec


class One(NamedTuple):
    """A price in whole nanoseconds, and ``by_source`` float64[5] what it rests on; the range, NaN
    where it is not known.
    """

    price_ns: int
    by_source: Floats
    low_ns: float
    high_ns: float

    @property
    def source(self) -> int:
        """The ``Source`` of most of it; of no time the datasheet."""
        return int(np.argmax(self.by_source)) if self.price_ns else Source.DATASHEET


def of_machine(
    profile: HardwareProfile,
    method: Method = "auto",
    model: ModelSpec | None = None,
    machine: Machine | None = None,
) -> Asking:
    """Operations on one GPU of a machine, of a whole ``model`` where one is asked about;
    ``machine``: by whose names prices are off, by default the profile's.
    """
    costs = CostModel(profile, Alike("").model if model is None else model, method)
    names = machine or Machine(profile.name, profile.name)
    return Asking(costs, names, MACHINE if model is None else MODEL)


def of_experiment(experiment: Experiment, built: Built, method: Method = "auto") -> Asking:
    """Operations as the run of an ``experiment`` has them."""
    costs = cast("CostModel", built.case.prices)
    if method != "auto":
        costs = costs.by(method)
    case, kept = built.case, built.case.variants
    variants = {} if kept is None else dict(zip(kept.names, kept.layers, strict=True))
    return Asking(costs, machine_of(experiment, built), EXPERIMENT, case.drafter, variants)


def is_of_run(op: object, asking: Asking) -> bool:
    """Whether ``op`` names an operation of a run, and not a row of a measurement table: of names
    that are both, where a model is asked about.
    """
    return op in ASKED and (op not in SHAPES or asking.knows != MACHINE)


def prices_of(asking: Asking, kind: str, shapes: Sequence[Sequence[Any]]) -> list[One]:
    """The prices of an operation of several ``shapes`` (``shape_of``) that are ``alike``."""
    shape = [_joined(values) for values in zip(*shapes, strict=True)]
    price = np.broadcast_to(asking.costs.price(kind, *shape), len(shapes))
    sources = _sources(asking.costs, kind, price, shape)
    return [
        One(int(one), by_source, *_range(asking, kind, by_source))
        for one, by_source in zip(price, sources, strict=True)
    ]


def alike(asking: Asking, kind: str, shape: Sequence[Any], number: int) -> tuple[Hashable, ...]:
    """What is one of all shapes of a ``kind`` that ``prices_of`` takes at once: what is no array of
    one number, of an operation whose parts say what they rest on; else the ``number`` of the row.
    """
    if not asking.costs.operations[kind].by_part:
        return kind, number
    return kind, *(None if _is_one(value) else _known(value) for value in shape)


def _is_one(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.shape == (1,)


def _known(value: Any) -> Hashable:
    return value if isinstance(value, int | str) else id(value)


def _joined(values: Sequence[Any]) -> Any:
    return np.concatenate(values) if _is_one(values[0]) else values[0]


def _sources(costs: CostModel, kind: str, price: Ints, shape: Sequence[Any]) -> Iterator[Floats]:
    """Of each price what it rests on; parts of an operation that has them are made once."""
    if not costs.operations[kind].by_part:
        return iter([costs.provenance(kind, price, *shape)])
    parts = costs.operations[kind].parts(*shape)
    times, sources = (
        np.array([np.broadcast_to(part[field], len(price)) for part in parts]) for field in (0, 1)
    )
    every = (zip(times[:, [at]], sources[:, [at]], strict=True) for at in range(len(price)))
    own = ([Part(time, source) for time, source in one] for one in every)
    return (provenance_of(price[[at]].astype(np.float64), one) for at, one in enumerate(own))


def parts_of(asking: Asking, row: Row) -> list[Part]:
    """The parts of that price."""
    parts: list[Part] = asking.costs.operations[str(row["op"])].parts(*shape_of(asking, row))
    return parts


def _range(asking: Asking, kind: str, by_source: Floats) -> Iterator[float]:
    """Between which the real time lies as a run has it: what each source is off by, all at once."""
    spreads = [
        (float(by_source[source]), _spread(asking, kind, source))
        for source in Source
        if by_source[source]
    ]
    for side in ("low", "high"):
        yield float(np.rint(sum(ns * (getattr(one, side) or np.nan) for ns, one in spreads)))


def _spread(asking: Asking, kind: str, source: Source) -> Spread:
    """Of prices of an operation that rest on ``source``; a model's fits are looked up once."""
    key = kind, source
    if key not in asking.spreads:
        operation = asking.costs.operations[kind]
        asking.spreads[key] = spread_of(operation, source, asking.machine)
    return asking.spreads[key]
