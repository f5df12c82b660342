"""How many kernels the parts of a forward pass launch."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from moesim.config.params import Params
from moesim.hardware.described.sourced import Sourced
from moesim.model.spec import DELTA, LATENT, LayerSpec

Kernels = Annotated[int, Field(ge=0, le=1_000_000)]


class KernelCounts(Params):
    """Kernel launches of each part of a forward pass.

    ``attention`` a layer (with its norm and residual), ``dense`` and ``shared`` a network, ``gate``
    a MoE layer (everything from the norm to the experts), ``expert`` an expert run by itself,
    ``grouped`` a launch, ``combine`` a MoE layer (everything after the experts), ``head`` a pass.
    ``reorder`` is what uneven gatings launch beside the gate; ``latent`` the attention of a layer
    with multi-head latent attention where it differs, ``delta`` that of a gated delta net,
    ``biased`` what a layer has more whose experts have biases, ``sequence`` the attention of a pass
    over whole sequences (encode, prefill); ``gate_by_gating`` the gate of a gating by its kind
    where it differs.
    """

    attention: int = 0
    dense: int = 0
    gate: int = 0
    shared: int = 0
    expert: int = 0
    grouped: int = 0
    combine: int = 0
    head: int = 0
    reorder: int = 0
    latent: int | None = None
    delta: int | None = None
    biased: int = 0
    sequence: int | None = None
    gate_by_gating: dict[str, int] = Field(default_factory=dict)

    def of_layer(self, layer: LayerSpec) -> KernelCounts:
        """These of a ``layer``, whose attention may be of another kind than that of most; it has
        the launches for biases, too.
        """
        kind, expert = layer.attention.kind, layer.moe.expert if layer.moe else None
        own = self.latent if kind.startswith(LATENT) else self.delta if kind == DELTA else None
        own = self.attention if own is None else own
        if self.biased and expert is not None and expert.parameters > expert.matrix_elements:
            own += self.biased
        return self if own == self.attention else self.model_copy(update={"attention": own})

    def of_gate(self, gating: str | None) -> int:
        """The gate's launches under the gating of that kind."""
        return self.gate_by_gating.get(gating or "", self.gate)


class SmallKernels(Params):
    """``start_ns``: what each kernel takes of the GPU at least; how many there are."""

    start_ns: float
    counts: KernelCounts


class HostKernels(Params):
    """``wait_ns``: what each kernel on the CPU takes for each thread; how many there are."""

    wait_ns: float
    counts: KernelCounts

    def of_layer(self, layer: LayerSpec) -> int:
        """Those of a ``layer``, all of which is there."""
        counts = self.counts.of_layer(layer)
        if layer.moe is None:
            return counts.attention + counts.dense
        shared = counts.shared if layer.moe.shared else 0
        return counts.attention + counts.gate + shared + counts.grouped + counts.combine

    def waits_of(self, kernels: int, threads: float) -> float:
        """What so many ``threads`` wait for one another after so many of its ``kernels``, in ns."""
        return kernels * self.wait_ns * threads


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
    reorder: Sourced[Kernels] | None = Field(
        None, description="Launches by which an uneven gating reorders rows: 0, if left out."
    )
    latent: Sourced[Kernels] | None = Field(
        None, description="Attention in layers with a latent (MLA), where it differs."
    )
    delta: Sourced[Kernels] | None = Field(
        None, description="Linear attention in layers with a gated delta net, where it differs."
    )
    biased: Sourced[Kernels] | None = Field(
        None, description="What a layer launches more whose experts have biases: 0, if left out."
    )
    sequence: Sourced[Kernels] | None = Field(
        None, description="Attention of a pass over whole sequences, where it differs."
    )
    gate_by_gating: dict[str, Sourced[Kernels]] = Field(
        {}, description="The gate's launches under a gating, where they differ from 'gate'."
    )

    def plain(self) -> KernelCounts:
        """The numbers alone."""
        counts = {name: entry.value for name, entry in self.entries().items() if "." not in name}
        by_gating = {kind: entry.value for kind, entry in self.gate_by_gating.items()}
        return KernelCounts(**counts, gate_by_gating=by_gating)

    def entries(self) -> dict[str, Sourced[Kernels]]:
        """What the file gives, by dotted name."""
        named = {name: getattr(self, name) for name in KernelCounts.model_fields}
        named.pop("gate_by_gating")
        given = {name: entry for name, entry in named.items() if entry is not None}
        by_gating = self.gate_by_gating.items()
        return given | {f"gate_by_gating.{kind}": entry for kind, entry in by_gating}
