"""What an experiment is once it is built: what the engine plays, and its memory."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from moesim.config.counted import counted
from moesim.config.files.inputs import Inputs
from moesim.engine.case import Case
from moesim.engine.outcome import Outcome
from moesim.experiment.building.footprints import footprint_of
from moesim.experiment.loading.quality import QualityTable
from moesim.hardware import HardwareProfile
from moesim.memory.footprint.footprint import Footprint, Residence, expert_bytes
from moesim.trace.transforming import LostByToken


@dataclass(frozen=True, eq=False)
class Built:
    """A case, the machine, and the bytes of every pass."""

    case: Case
    hardware: HardwareProfile
    footprint: Footprint
    residences: tuple[Residence, ...]
    inputs: Inputs
    routing: dict[str, Any] = field(default_factory=dict)
    """What the experiment's ``routing`` loses, or lost when the trace was transformed, and what is
    recorded of that of requests that are served, for the summary."""
    quality: QualityTable | None = None
    lost_by_token: LostByToken | None = None
    """Of the trace's tokens, what the experiment's ``routing`` loses."""
    most_bytes: int | None = None
    """What may be taken of a GPU, where that is less than it has for the run."""

    @property
    def limit_bytes(self) -> int:
        """What a GPU has for the run: its memory less the driver's context."""
        return limit_of(self.hardware) if self.most_bytes is None else self.most_bytes

    @property
    def slots_per_layer(self) -> list[int]:
        """By GPU with MoE layers, what each of these has that has some; where they differ the mean,
        rounded down.
        """
        return [_mean(slots) for slots in self._slots if slots]

    @property
    def slots_by_layer(self) -> list[list[int]] | None:
        """By GPU and MoE layer, where layers differ; else None."""
        differ = any(len(set(slots)) > 1 for slots in self._slots)
        return self._slots if differ else None

    @property
    def stages(self) -> list[dict[str, int | None]]:
        """By stage its first and last layer, the most bytes of its GPU, and the slots of each of
        its MoE layers as in ``slots_per_layer``, None without one.
        """
        peaks = self.footprint.total.max(axis=0).tolist()
        rows = zip(self.case.stages, peaks, self._slots, strict=True)
        return [
            {
                "first_layer": share.layers[0],
                "last_layer": share.layers[1],
                "peak_memory_bytes": peak,
                "slots_per_layer": _mean(slots) if slots else None,
            }
            for share, peak, slots in rows
        ]

    @property
    def _slots(self) -> list[list[int]]:
        """By GPU and MoE layer that it holds; none in layers that the host keeps."""
        offloaded = np.array([layer.link_bytes > 0 for layer in self.case.model.moe_layers], bool)
        slots = np.where(offloaded, 0, self.case.slots)
        return [slots[share.gpu, share.moe].tolist() for share in self.case.shares]

    @property
    def out_of_memory(self) -> str | None:
        """What does not fit, or None."""
        host = self.hardware.host_memory_bytes
        return self.footprint.overflow(self.limit_bytes, host, self._told) or self._near_overflow

    def _told(self, step: int) -> str:
        """A step, and the requests in it, where these are known before the run."""
        schedule = self.case.schedule
        if self.case.scheduler is not None or step >= schedule.passes:
            return str(step)
        rows = schedule.rows[slice(*schedule.offsets[step : step + 2])]
        position, request = self.case.trace.position[rows], self.case.trace.request_id[rows]
        longest = int(position.argmax())
        live = counted(len(np.unique(request)), "request")
        at = f"request {request[longest]} at its token {position[longest] + 1:,}"
        return f"{step:,} of {schedule.passes:,} ({live}, {at})"

    @property
    def near_memory_bytes(self) -> int:
        """Experts in the near-memory device, which holds all of layers that a GPU does not."""
        every = zip(self.case.shares, self.residences, strict=True)
        near = self.case.miss.near_memory
        return sum(one.offloaded_bytes(share.model) for share, one in every) if near else 0

    @property
    def _near_overflow(self) -> str | None:
        device = self.hardware.near_memory
        if device is None or not self.near_memory_bytes:
            return None
        (one,), sizes = self.residences, expert_bytes(self.case.model)
        there = [slots < one.local for slots in one.slots]
        experts = np.repeat(sizes, np.multiply(one.local, there))
        return device.overflow(experts, self.hardware.near_units)

    def played(self, outcome: Outcome) -> Built:
        """With the passes that there were, where a scheduler said so only during the run."""
        if self.case.scheduler is None:
            return self
        case = replace(self.case, schedule=outcome.schedule)
        footprint = footprint_of(case, self.residences, self.footprint)
        return replace(self, case=case, footprint=footprint)


def _mean(slots: list[int]) -> int:
    """Of the layers that have some; 0 where none has."""
    some = [number for number in slots if number]
    return sum(some) // len(some) if some else 0


def limit_of(hardware: HardwareProfile) -> int:
    """Bytes of a GPU less those of the driver's context."""
    return hardware.memory_bytes - hardware.context_bytes
