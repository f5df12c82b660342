"""What a software stack does otherwise where it has another backend: llama.cpp's Metal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any

from pydantic import Field

from moesim.config.params import Params
from moesim.hardware.described.datasheet import Fraction
from moesim.hardware.described.kernel_counts import KernelCounts, Kernels, SourcedKernelCounts
from moesim.hardware.described.sourced import Sourced

BACKENDS: Mapping[str | None, str] = {"Apple": "metal"}
"""The backend that runs on GPUs of a maker, where it is not that of NVIDIA's."""
PerCycle = Annotated[float, Field(gt=0, le=4096)]
"""Bytes of a multiprocessor in a clock cycle."""
Queries = Annotated[int, Field(ge=0)]
PLAIN = ("cache_bandwidth", "head_reads", "cache_unpacked_from", "synchronisations")
"""What is a number, as a profile has it."""


class Backend(Params):
    """Plain numbers, which stand for those of the profile; None: the same. See there."""

    kernels: KernelCounts | None = None
    cache_bandwidth: float | None = None
    head_reads: float | None = None
    cache_unpacked_from: int | None = None
    synchronisations: int | None = None

    def changes(self) -> dict[str, Any]:
        """What differs, by name."""
        named = {name: getattr(self, name) for name in Backend.model_fields}
        return {name: value for name, value in named.items() if value is not None}


class SourcedBackend(Params):
    """``Backend`` as a file gives it; see there."""

    kernels: SourcedKernelCounts | None = Field(
        None, description="All launches that are counted there: as elsewhere, if left out."
    )
    cache_bandwidth: Sourced[Fraction] | None = Field(None, description="As in the profile.")
    head_reads: Sourced[PerCycle] | None = Field(None, description="As in the profile.")
    cache_unpacked_from: Sourced[Queries] | None = Field(None, description="As in the profile.")
    synchronisations: Sourced[Kernels] | None = Field(None, description="As in the profile.")

    def entries(self) -> Iterator[tuple[str, Sourced[Any]]]:
        """What the file gives, by dotted name."""
        for name in PLAIN:
            if (entry := getattr(self, name)) is not None:
                yield name, entry
        if self.kernels is not None:
            yield from ((f"kernels.{part}", one) for part, one in self.kernels.entries().items())

    def plain(self) -> Backend:
        """The numbers alone."""
        values = {name: one.value for name, one in self.entries() if not name.startswith("kernels")}
        counts = self.kernels.plain() if self.kernels else None
        return Backend(kernels=counts, **values)
