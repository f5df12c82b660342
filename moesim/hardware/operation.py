"""One priced operation of a forward pass."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from moesim.config.errors import InputError, Problem
from moesim.hardware.charge import Charge
from moesim.hardware.prices.arrays import Floats, Ints
from moesim.hardware.prices.parts import Part, provenance_of, together
from moesim.hardware.prices.provenance import Source, by_source
from moesim.hardware.roofline import Roofline

if TYPE_CHECKING:
    from moesim.hardware.prices.calibrated import Fit
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec


def known_fits(fits: Iterable[Fit | None]) -> tuple[Fit, ...]:
    """Those that there are, each once."""
    return tuple({id(fit): fit for fit in fits if fit is not None}.values())


class TileTable(NamedTuple):
    """Rows of a tile and row tiles of a group by a launch's rows or, with ``by_average``, by its
    rows over its experts, rounded up; each [n].
    """

    rows: Ints
    group: Ints
    by_average: bool


class Operation:
    """The price of the operation ``kind``, found by that name.

    A subclass has ``parts``: the shapes of ``CostModel``'s method of that name to the parts of each
    price. Their sum is the price, and what explains it. Where it does not rest on the datasheet
    alone, ``sources`` says so, or ``by_part`` where parts differ.
    ``serial``: experts run one by one; ``batched``: in one batched product. ``gpus_per_node``: GPUs
    that share a NUMA node's cores. ``nodes``: machines that all GPUs are spread over evenly.
    ``measured``: whether a fit's formula is corrected by what was measured.
    """

    kind: ClassVar[str]
    rounds_up: ClassVar[bool] = False
    """Whether a price is rounded up to whole nanoseconds, not to the nearest."""
    charges: ClassVar[tuple[Charge, ...]] = ()
    """Its places in a pass. Prices of an operation with places go element by element; the others
    are asked for where experts, copies and exchanges are made."""
    category: ClassVar[str] = ""
    """What time is charged to that no place says."""
    by_part: ClassVar[bool] = False
    """Whether each part of a price says what it rests on, and their sum is the price."""
    machine_part: ClassVar[str] = "gpu"
    """Whose numbers a price without a fit rests on; "" where an experiment states it."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        """Refuse a method by its earlier name, which nothing would ask: an InputError."""
        super().__init_subclass__(**kwargs)
        if "rests_on" in vars(cls):
            path, what = f"{cls.__qualname__}.rests_on", "is called 'provenance' now; rename it"
            raise InputError([Problem(cls.__module__, path, what)])

    def __init__(
        self,
        hardware: HardwareProfile,
        model: ModelSpec,
        *,
        serial: bool = False,
        batched: bool = False,
        gpus_per_node: int = 1,
        nodes: int = 1,
        measured: bool = True,
    ) -> None:
        self.hardware, self.model, self.gpu = hardware, model, Roofline(hardware)
        self.serial, self.batched, self.gpus_per_node = serial, batched, gpus_per_node
        self.nodes, self.measured = nodes, measured

    @property
    def fits(self) -> tuple[Fit, ...]:
        """The fits that may price it in this model, which say how wrong they were."""
        return ()

    def parts(self, *shape: Any) -> list[Part]:
        """The parts of the prices of ``shape``."""
        raise NotImplementedError

    def price(self, *shape: Any) -> Floats:
        """Nanoseconds of ``shape``, not yet rounded: the sum of the parts."""
        return together(self.parts(*shape))

    def sources(self, *_shape: Any) -> Source | Ints:
        """What the prices of ``shape`` rest on: one ``Source``, or one each."""
        return Source.DATASHEET

    def provenance(self, price_ns: Floats, *shape: Any) -> Floats:
        """Nanoseconds by source float64[5] (see ``Source``) of the prices of ``shape``."""
        if self.by_part:
            return provenance_of(price_ns, self.parts(*shape))
        return by_source(price_ns, self.sources(*shape))
