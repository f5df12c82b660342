"""One priced operation of a forward pass."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from moesim.hardware.roofline import Roofline

if TYPE_CHECKING:
    from moesim.hardware.profile import HardwareProfile
    from moesim.model.spec import ModelSpec


class Operation:
    """The price of the operation ``kind``, found by that name.

    A subclass has ``price``: the shapes of ``CostModel``'s method of that name to nanoseconds, not
    yet rounded.

    Another way to price it is another class of that kind, which says so in ``source``
    (``datasheet``, ``fitted``, ``measured``).
    """

    kind: ClassVar[str]
    source: str = "datasheet"

    def __init__(self, hardware: HardwareProfile, model: ModelSpec) -> None:
        self.hardware, self.model, self.gpu = hardware, model, Roofline(hardware)
