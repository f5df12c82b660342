"""An expert that a near-memory device computes."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.config.errors import InputError
from moesim.hardware.described.near_memory import NO_NEAR_MEMORY, NearMemory
from moesim.hardware.operation import Operation
from moesim.hardware.prices.arrays import NS, Floats
from moesim.hardware.prices.parts import Amount, Detail, Part
from moesim.model.spec import FfnSpec, LayerSpec


class NearExpert(Operation):
    """A start, and the longer of reading the weights and computing the rows, as MoNDE prices its
    device (arXiv 2405.18832). Of several units that an expert lies on each has a stripe of every
    matrix: all rows are broadcast to each of them, and a sum for each row gathered from it
    (PIM-Opt, arXiv 2404.07164).
    """

    kind: ClassVar[str] = "near_expert"
    category: ClassVar[str] = "waiting_for_cpu"
    machine_part: ClassVar[str] = "near_memory"

    def parts(self, layer: LayerSpec, rows: ArrayLike) -> list[Part]:
        """A routed expert of ``layer`` with ``rows`` rows; without rows its weights are read."""
        assert layer.moe is not None, "a dense layer has no routed experts"
        device, count = self._device(), np.asarray(rows, np.float64)
        start = Part(np.full(count.shape, device.start.value), name="start")
        parts = [start, self._longest(device, layer.moe.expert, count)]
        if device.broadcast is not None and device.gather is not None and device.number > 1:
            row = self.model.hidden_size * self.model.activation_bytes
            size = count * (self._units(device) * row)
            parts.append(_sent("broadcast", size, device.broadcast.value))
            parts.append(_sent("gather", size, device.gather.value))
        return parts

    def _device(self) -> NearMemory:
        if self.hardware.near_memory is None:
            raise InputError(NO_NEAR_MEMORY)
        return self.hardware.near_memory

    def _units(self, device: NearMemory) -> int:
        """Those that an expert lies on."""
        return self.hardware.near_units or device.number

    def _longest(self, device: NearMemory, expert: FfnSpec, count: Floats) -> Part:
        """The longer of reading a stripe of ``expert`` and of its products with ``count`` rows."""
        units = self._units(device)
        size = np.full(count.shape, expert.bytes / units)
        operations = count * (2.0 * expert.matrix_elements / units)
        peak = device.peak(expert.dtype)
        read, computed = size * NS / device.bandwidth.value, operations * NS / peak

        def both() -> Detail:
            reads = Amount("reads", read, size, "B", device.bandwidth.value)
            return Detail((reads, Amount("products", computed, operations, "FLOP", peak)))

        return Part(np.maximum(read, computed), name="reads and products", of=both)


def _sent(name: str, size: Floats, rate: float) -> Part:
    amount = Amount(name, size * NS / rate, size, "B", rate)
    return Part(amount.time_ns, name=name, of=lambda: Detail((amount,)))
