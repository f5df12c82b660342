"""One priced operation of a forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from moesim.hardware.basis import Source, by_source
from moesim.hardware.roofline import Floats, Roofline

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec


class Operation:
    """The price of the operation ``kind``, found by that name.

    A subclass has ``price``: the shapes of ``CostModel``'s method of that name to nanoseconds, not
    yet rounded. Where it does not rest on the datasheet alone, its ``rests_on`` says so.
    ``serial``: experts run one by one; ``batched``: in one batched product. ``gpus_per_node``: GPUs
    that share a NUMA node's cores. ``nodes``: machines that all GPUs are spread over evenly.
    """

    kind: ClassVar[str]

    def __init__(
        self,
        hardware: HardwareProfile,
        model: ModelSpec,
        *,
        serial: bool = False,
        batched: bool = False,
        gpus_per_node: int = 1,
        nodes: int = 1,
    ) -> None:
        self.hardware, self.model, self.gpu = hardware, model, Roofline(hardware)
        self.serial, self.batched, self.gpus_per_node = serial, batched, gpus_per_node
        self.nodes = nodes

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """Nanoseconds by source float64[5] (see ``Source``) of the prices of ``shape``."""
        return by_source(price_ns, Source.DATASHEET)
