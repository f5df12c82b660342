"""What the software stack adds to the hardware's times."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Duration
from moesim.hardware.sourced import Sourced
from moesim.model.spec import FfnSpec

Kernels = Annotated[int, Field(ge=0)]
Copied = Literal["expert", "matrix"]


class KernelCounts(Params):
    """Kernel launches of each part of a forward pass.

    ``attention`` a layer (with its norm and residual), ``dense`` and ``shared`` a network, ``gate``
    a MoE layer (everything from the norm to the experts), ``expert`` an expert run by itself,
    ``grouped`` a wave, ``combine`` a MoE layer (everything after the experts), ``head`` a pass.
    """

    attention: int = 0
    dense: int = 0
    gate: int = 0
    shared: int = 0
    expert: int = 0
    grouped: int = 0
    combine: int = 0
    head: int = 0


class SoftwareProfile(Params):
    """A software stack: plain numbers; ``sources`` says by name where each comes from.

    ``launch_ns``: host time of one kernel launch. ``host_per_layer_ns``, ``host_per_copy_ns``:
    other host time. ``copied``: an expert is one copy, or one a matrix. ``pinned``: host memory of
    the copies; ``blocking``: the host waits for each; ``overlap``: copies run beside kernels.
    ``synchronisations``: host waits for the GPU a MoE layer, of ``synchronisation_ns`` each.
    """

    name: str
    title: str
    sources: dict[str, str]
    launch_ns: float = 0.0
    kernels: KernelCounts = KernelCounts()
    host_per_layer_ns: float = 0.0
    host_per_copy_ns: float = 0.0
    copied: Copied = "expert"
    pinned: bool = True
    blocking: bool = False
    overlap: bool = True
    synchronisations: int = 0
    synchronisation_ns: float = 0.0

    def copies_per_expert(self, expert: FfnSpec) -> int:
        """Copies that bring one ``expert``: 1, or one for each of its two or three matrices."""
        if self.copied == "expert":
            return 1
        return 3 if expert.gated else 2


class SourcedKernelCounts(Params):
    """``KernelCounts`` as a file gives them; see there."""

    attention: Sourced[Kernels]
    dense: Sourced[Kernels]
    gate: Sourced[Kernels]
    shared: Sourced[Kernels]
    expert: Sourced[Kernels]
    grouped: Sourced[Kernels]
    combine: Sourced[Kernels]
    head: Sourced[Kernels]


class SoftwareFile(Params):
    """A software profile's file: every value with its source."""

    title: str = Field(min_length=1)
    sources: dict[str, str] = Field(description="What each source's key stands for.")
    launch: Sourced[Duration] = Field(description="Host time of one kernel launch.")
    kernels: SourcedKernelCounts
    host_per_layer: Sourced[Duration]
    host_per_copy: Sourced[Duration]
    copied: Sourced[Copied] = Field(description="What one copy brings: an expert or a matrix.")
    pinned: Sourced[bool]
    blocking: Sourced[bool]
    overlap: Sourced[bool] | None = Field(
        None,
        description="Whether copies run beside kernels: yes, but where the host is the device.",
    )
    synchronisations: Sourced[Kernels] = Field(description="Host waits a MoE layer.")
    synchronisation: Sourced[Duration] = Field(description="Host time of one wait.")

    def profile(self, name: str) -> SoftwareProfile:
        """The plain profile, called ``name``."""
        counts = {part: getattr(self.kernels, part) for part in KernelCounts.model_fields}
        parts = {"launch", "host_per_layer", "host_per_copy", "synchronisation"}
        plain = {"copied", "pinned", "blocking", "synchronisations"}
        durations = {f"{part}_ns": getattr(self, part) for part in parts}
        others = {part: getattr(self, part) for part in plain}
        if self.overlap is not None:
            others["overlap"] = self.overlap
        entries = {f"kernels.{part}": count for part, count in counts.items()} | durations | others
        return SoftwareProfile(
            name=name,
            title=self.title,
            sources={key: self.sources[entry.source] for key, entry in sorted(entries.items())},
            kernels=KernelCounts(**{part: count.value for part, count in counts.items()}),
            **{key: entry.value for key, entry in (durations | others).items()},
        )
