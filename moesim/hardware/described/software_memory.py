"""What a software stack holds of a GPU's memory beside weights, caches and a pass's rows."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from moesim.config.params import Params
from moesim.config.units import Bytes
from moesim.hardware.described.sourced import Sourced

Each = Annotated[int, Field(ge=0, le=1024)]
Positions = Annotated[int, Field(ge=0, le=2**24)]
Allocator = Literal["exact", "caching"]


class SoftwareMemory(Params):
    """Plain numbers, each 0 where software holds nothing of it.

    ``score_bytes``: each attention score of a layer, where kernels are not fused and make them in
    full. ``position_bytes``: each token, expert and choice while a gate that pads numbers the
    choices of each expert; ``place_bytes``: each token, place of an expert's capacity and choice
    while it builds masks. ``table_positions``: rows of hidden size in a table of positions that is
    computed, one a stack. ``allocator``: whether weights take blocks and segments of a caching
    allocator (``memory.footprint.blocks``) or their bytes. ``peer_bytes``: buffers for each other
    GPU that tokens are exchanged with, ``collective_bytes`` those for collectives of several GPUs.
    ``reserved_tokens``: of the pass for which memory is reserved before any runs
    (``memory.footprint.compute_buffer``), ``reserved_logits`` those of them that have logits.
    """

    score_bytes: int = 0
    position_bytes: int = 0
    place_bytes: int = 0
    table_positions: int = 0
    allocator: Allocator = "exact"
    peer_bytes: int = 0
    collective_bytes: int = 0
    reserved_tokens: int = 0
    reserved_logits: int = 0


class SourcedSoftwareMemory(Params):
    """``SoftwareMemory`` as a file gives it; see there."""

    score_bytes: Sourced[Each] | None = Field(
        None, description="Bytes of an attention score while there are any: none, if left out."
    )
    position_bytes: Sourced[Each] | None = Field(
        None, description="Bytes a token, expert and choice while a gate pads: none, if left out."
    )
    place_bytes: Sourced[Each] | None = Field(
        None, description="Bytes a token, place of the capacity and choice: none, if left out."
    )
    table_positions: Sourced[Positions] | None = Field(
        None, description="Rows of a computed table of positions: none, if left out."
    )
    allocator: Sourced[Allocator] | None = Field(
        None, description="Whether tensors take blocks of a caching allocator: no, if left out."
    )
    peer_bytes: Sourced[Bytes] | None = Field(
        None, description="Buffers for each GPU that tokens are exchanged with, as in 18 MiB."
    )
    collective_bytes: Sourced[Bytes] | None = Field(
        None, description="Buffers of collectives, where there are several GPUs, as in 300 MiB."
    )
    reserved_tokens: Sourced[Positions] | None = Field(
        None,
        description="Tokens of a pass for which memory is reserved at the start, where a scheduler"
        " does not say: as many as a run's passes have, if left out.",
    )
    reserved_logits: Sourced[Positions] | None = Field(
        None, description="Those of them that have logits: one a request, if left out."
    )

    def entries(self) -> dict[str, Sourced[int] | Sourced[Allocator]]:
        """What the file gives, by name."""
        named = {name: getattr(self, name) for name in SoftwareMemory.model_fields}
        return {name: entry for name, entry in named.items() if entry is not None}

    def plain(self) -> SoftwareMemory:
        """The numbers alone."""
        return SoftwareMemory(**{name: entry.value for name, entry in self.entries().items()})  # type: ignore[arg-type]
