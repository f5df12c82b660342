"""A device of memory that computes: experts lie in it, and rows go to them."""

from __future__ import annotations

from typing import Self

import numpy as np
from pydantic import Field, model_validator

from moesim.config.errors import InputError
from moesim.config.params import Params
from moesim.hardware.described.datasheet import Count, Latency, Memory, Peak, Rate
from moesim.hardware.described.precision import SAME_UNITS, UNITS
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.described.unit_groups import Ints, UnitGroups


class NearRates(Params):
    """Operations a second of a unit, by the format that it multiplies in."""

    fp32: Sourced[Peak] | None = None
    fp16: Sourced[Peak] | None = None
    bf16: Sourced[Peak] | None = None
    fp8: Sourced[Peak] | None = None
    fp4: Sourced[Peak] | None = None
    int8: Sourced[Peak] | None = None


class NearMemory(Params):
    """One device beside a GPU: MoNDE's (arXiv 2405.18832) is one unit, UPMEM's are thousands, each
    of which reaches its own memory alone, so that an expert is striped over all of them, or over
    a group of them.
    """

    memory: Sourced[Memory] = Field(description="Of the whole device.")
    bandwidth: Sourced[Rate] = Field(description="What a unit reads of its memory.")
    rate: NearRates = Field(description="What a unit computes, as in {bf16: 2.05 TFLOP/s}.")
    start: Sourced[Latency] = Field(description="Of an expert, before its first byte.")
    units: Sourced[Count] | None = Field(None, description="Units that compute; None: one.")
    unit_memory: Sourced[Memory] | None = Field(
        None, description="What one unit reaches; None: its part of the memory."
    )
    broadcast: Sourced[Rate] | None = Field(
        None, description="All units together: rows on their way to each of them."
    )
    gather: Sourced[Rate] | None = Field(
        None, description="All units together: partial sums on their way back."
    )

    @model_validator(mode="after")
    def _reaches_its_units(self) -> Self:
        if self.number > 1 and (self.broadcast is None or self.gather is None):
            what = "units: an expert is striped over them; write broadcast and gather, the rates"
            raise ValueError(f"{what} at which rows reach all units and their sums come back")
        return self

    @property
    def number(self) -> int:
        """Units that it has."""
        return self.units.value if self.units else 1

    @property
    def bytes_per_second(self) -> int:
        """What all units read together."""
        return int(self.bandwidth.value * self.number)

    def peak(self, dtype: str) -> float:
        """Operations a second of a unit with ``dtype`` weights: in that format itself, or in what
        it is widened to; InputError where the device has neither.
        """
        other = SAME_UNITS.get(dtype, dtype)
        names = dict.fromkeys((dtype, other, *UNITS.get(dtype, ())))
        rates = {name: getattr(self.rate, name, None) for name in names}
        found = next((rate for rate in rates.values() if rate is not None), None)
        if found is None:
            what = f"this device has no rate for experts in {dtype}; write one of"
            raise InputError(f"hardware.near_memory.rate: {what} {', '.join(rates)}")
        return float(found.value)

    def groups(self, units_per_expert: int | None, row_bytes: int) -> UnitGroups | None:
        """The groups of ``units_per_expert``, which get rows of ``row_bytes``; None where all units
        are one.
        """
        units = units_per_expert or self.number
        if self.number < 2 * units or self.broadcast is None or self.gather is None:
            return None
        ns = units * row_bytes * 1e9
        return UnitGroups(self.number // units, ns / self.broadcast.value, ns / self.gather.value)

    def overflow(self, experts: Ints, units_per_expert: int | None = None) -> str | None:
        """What does not fit of ``experts``, bytes int64[n] in their order through all layers, which
        lie in one group of ``units_per_expert`` (None: of all) after the other; None where all
        fits.
        """
        if (stored := int(experts.sum())) > self.memory.value:
            what = f"{stored:,} bytes of experts do not fit in its {self.memory.value:,}"
            return f"hardware.near_memory.memory: {what}; take a device with more"
        units = units_per_expert or self.number
        groups = np.arange(len(experts)) % (self.number // units)
        fullest = -(-int(np.bincount(groups, experts).max(initial=0)) // units)
        if self.unit_memory is None or self.unit_memory.value >= fullest:
            return None
        whose, more = "its stripes of all experts", ""
        if units_per_expert is not None:
            whose, more = (
                "the stripes on its fullest unit",
                ", or other experts.miss.units_per_expert",
            )
        what = f"{whose}, {fullest:,} bytes, exceed the {self.unit_memory.value:,} of a unit"
        return f"hardware.near_memory.unit_memory: {what}; write more units{more}"


NO_NEAR_MEMORY = (
    "hardware: this machine names no near-memory device, which experts.miss.computed_by asks for;"
    " write one, as in hardware: {base: rtx-4090, near_memory: monde} ('moesim list near_memory')"
)


def near_note(stored: int) -> str:
    """What keys that name the host say of a run whose device holds ``stored`` bytes of experts."""
    what = (
        f"a near-memory device holds {stored / 1e9:.1f} GB of experts and computes what is missing:"
    )
    return f"{what} misses_on_cpu and waiting_for_cpu are its own; the CPU computes no experts"
