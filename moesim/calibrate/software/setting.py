"""The machine, the model and the kind of software that rows of an engine were measured with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import ceil

from moesim.config.amounts.dimensions import format_bandwidth, parse_bandwidth
from moesim.config.amounts.quantity import QuantityError
from moesim.config.errors import InputError, Problem
from moesim.hardware import HardwareProfile
from moesim.hardware.described.datasheet import Datasheet
from moesim.hardware.described.software import Copied, SoftwareProfile
from moesim.model.spec import FfnSpec, ModelSpec

MOST_BITS = 32
EIGHT_BITS_FROM = 6


def software_of(copied: str, *, pinned: bool) -> SoftwareProfile:
    """Software that waits for the counts of every layer and for every copy, at no cost yet.

    InputError for another ``copied`` than ``expert`` or ``matrix``.
    """
    if copied not in ("expert", "matrix"):
        what = f"'{copied}' is no copy; allowed: expert, matrix"
        raise InputError([Problem("--copied", "", what)])
    kind: Copied = "expert" if copied == "expert" else "matrix"
    return SoftwareProfile(
        name="fitted", title="fitted", sources={}, copied=kind, pinned=pinned, blocking=True
    )


@dataclass(frozen=True)
class AtBits:
    """Weights of ``bits`` each, scales included, whatever their format was."""

    bits: float

    def model(self, model: ModelSpec) -> ModelSpec:
        """``model`` with attention, experts, networks and head at these bits; routers and norms
        keep theirs. InputError for bits that no weight has.
        """
        if not 1 <= self.bits <= MOST_BITS:
            what = f"{self.bits:g} is no number of bits from 1 to {MOST_BITS}"
            raise InputError([Problem("--bits", "", what)])
        layers = []
        for layer in model.layers:
            attention = replace(layer.attention, bytes=self._bytes(layer.attention.parameters))
            dense, moe = self._network(layer.dense), layer.moe
            if moe is not None:
                expert, shared = self._expert(moe.expert), self._network(moe.shared)
                moe = replace(moe, expert=expert, shared=shared)
            layers.append(replace(layer, attention=attention, dense=dense, moe=moe))
        head, table = (
            self._bytes(count) for count in (model.head_parameters, model.embedding_parameters)
        )
        return replace(model, layers=tuple(layers), head_bytes=head, embedding_bytes=table)

    def _bytes(self, parameters: int) -> int:
        return ceil(parameters * self.bits / 8)

    def _expert(self, network: FfnSpec) -> FfnSpec:
        dtype = "int8" if self.bits > EIGHT_BITS_FROM else "int4"
        return replace(network, bytes=self._bytes(network.parameters), dtype=dtype)

    def _network(self, network: FfnSpec | None) -> FfnSpec | None:
        return network and self._expert(network)


def with_link(hardware: HardwareProfile, rate: str, *, pinned: bool) -> HardwareProfile:
    """``hardware`` whose copies to the GPU reach ``rate`` (text, as in '25.6 GB/s').

    Fits of copies give way to it. InputError for a text that is no rate.
    """
    try:
        text = format_bandwidth(parse_bandwidth(rate))
    except QuantityError as error:
        raise InputError([Problem("--link", "", str(error))]) from None
    content = hardware.datasheet.model_dump(mode="json")
    kind = "pinned" if pinned else "pageable"
    content["copies"]["h2d"][kind]["bandwidth"]["value"] = text
    part = hardware.calibrated and hardware.calibrated.model_copy(update={"copies": ()})
    return hardware.model_copy(
        update={"datasheet": Datasheet.model_validate(content), "calibrated": part}
    )
