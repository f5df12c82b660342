"""An all-to-all between GPUs, of one node or of several."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.described.network import Network
from moesim.hardware.operation import Operation, known_fits
from moesim.hardware.operations.collectives.kernel import (
    collective_curve,
    collective_fit_for,
    sending,
)
from moesim.hardware.prices.arrays import NS, Floats, Ints
from moesim.hardware.prices.calibrated import Fit
from moesim.hardware.prices.parts import Amount, Detail, Part, together
from moesim.hardware.prices.provenance import Source
from moesim.hardware.prices.transfer_curve import Curve


class AllToAll(Operation):
    """Latency + the busiest GPU's bytes, out or in, over what a GPU reaches.

    Where the profile has a fit, the time of an even all-to-all in which every GPU sends as much as
    the busiest one.

    On several nodes: the latency of so many ranks + the longer of what the links within the nodes
    take beyond their own latency, and of the busiest network card's bytes, out or in, over its
    bandwidth. What goes to other nodes crosses the GPU's slot, at its raw rate; over PCIe it shares
    the slot with what stays in the node.
    """

    kind: ClassVar[str] = "all_to_all"
    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "peers"
    category: ClassVar[str] = "dispatch_combine"

    @property
    def by_busiest(self) -> bool:
        """Whether prices, and what they rest on, go by the busiest GPU's bytes alone."""
        return self.nodes == 1

    @property
    def fits(self) -> tuple[Fit, ...]:
        """See ``Operation``."""
        return known_fits((collective_fit_for(self.hardware.calibrated, self.kind),))

    def parts(self, matrix: ArrayLike) -> list[Part]:
        """See ``CostModel.all_to_all_ns``."""
        sent = np.asarray(matrix, np.int64)
        if sent.shape[-1] == 1 or self.nodes == 1:
            return self._within(_busiest(sent), sent.shape[-1])
        within, across, latency = self._spread(sent)
        longest = (Amount("within nodes", within), Amount("between nodes", across))
        start = Part(np.full(within.shape, latency), name="latency")
        moving = Part(np.maximum(within, across), name="bytes", of=lambda: Detail(longest))
        return [start, moving]

    def sources(self, matrix: ArrayLike) -> Source | Ints:
        """See ``Operation``."""
        sent = np.asarray(matrix, np.int64)
        gpus = sent.shape[-1]
        if gpus == 1 or (curve := self._curve(gpus // self.nodes)) is None:
            return Source.DATASHEET
        if self.nodes == 1:
            return curve.sources(_held(_busiest(sent), gpus))
        within, across, _ = self._spread(sent)
        inside = self._inside(sent)
        fitted = curve.sources(_held(_busiest(inside), inside.shape[-1]).max(axis=-1))
        return np.where(within > across, fitted, Source.DATASHEET)

    def even(self, gpus: int, size: ArrayLike) -> tuple[list[Part], Source | Ints]:
        """The parts, and what they rest on, of even exchanges among ``gpus`` of one node that each
        hold ``size`` bytes.
        """
        amount = np.asarray(size, np.float64)
        curve = self._curve(gpus)
        source = Source.DATASHEET if curve is None else curve.sources(amount)
        return self._within(amount * (gpus - 1) / gpus, gpus), source

    def _within(self, busiest: ArrayLike, gpus: int) -> list[Part]:
        """The parts on one node, where a GPU sends or receives up to ``busiest`` bytes."""
        amount = np.asarray(busiest)
        if gpus == 1:
            return [Part(np.zeros(amount.shape))]
        if (curve := self._curve(gpus)) is not None:
            return [curve.part(_held(amount, gpus))]
        peers = self.hardware.datasheet.peers
        latency = Part(np.full(amount.shape, float(round(peers.latency.value))), name="latency")
        return [latency, sending(amount, peers.all_to_all_bytes_per_second, peers)]

    def _within_ns(self, sent: Ints) -> Floats:
        """The time on one node, [...]; ``sent`` int64[..., G, G]."""
        return together(self._within(_busiest(sent), sent.shape[-1]))

    def _spread(self, sent: Ints) -> tuple[Floats, Floats, float]:
        """Times within nodes and across them without latency, and the latency."""
        network, sheet = self._network(), self.hardware.datasheet
        node = sent.shape[-1] // self.nodes
        start = self._start(node)
        stays = self._inside(sent)
        inside = self._within_ns(stays).max(axis=-1) - start
        every = np.stack([sent.sum(axis=-1), sent.sum(axis=-2)])
        of_gpus = every - np.stack([stays.sum(axis=-1), stays.sum(axis=-2)]).reshape(every.shape)
        cards = network.card_of(node) + np.arange(self.nodes)[:, None] * node
        of_cards = of_gpus @ (cards.ravel()[:, None] == np.unique(cards)).astype(np.int64)
        across = of_cards.max(axis=(0, -1)) * NS / network.bytes_per_second
        across = np.maximum(across, of_gpus.max(axis=(0, -1)) * NS / sheet.pcie.value)
        if sheet.peers.kind == "pcie":
            rate = sheet.peers.all_to_all_bytes_per_second
            inside = np.maximum(inside, _busiest(sent) * NS / rate)
        alike = self._start(min(sent.shape[-1], self.hardware.gpus))
        latency = network.latency_ns(sent.shape[-1], node, alike)
        return np.asarray(inside, np.float64), np.asarray(across, np.float64), latency

    def _start(self, gpus: int) -> float:
        """The time of an all-to-all of nothing on one node."""
        return float(self._within_ns(np.zeros((gpus, gpus), np.int64)))

    def _inside(self, sent: Ints) -> Ints:
        """What stays within each node, int64[..., nodes, G / nodes, G / nodes]."""
        node = sent.shape[-1] // self.nodes
        parts = sent.reshape(*sent.shape[:-2], self.nodes, node, self.nodes, node)
        own = np.arange(self.nodes)
        return np.moveaxis(parts[..., own, :, own, :], 0, -3)

    def _network(self) -> Network:
        network = self.hardware.network
        assert network is not None, "several nodes need a network"
        return network

    def _curve(self, gpus: int) -> Curve | None:
        fit = collective_fit_for(self.hardware.calibrated, self.kind)
        return collective_curve(fit, gpus, self.measured) if fit and gpus > 1 else None


def _busiest(sent: Ints) -> Ints:
    """The largest over GPUs of bytes out and bytes in, without those that stay."""
    stays = np.diagonal(sent, axis1=-2, axis2=-1)
    out, into = sent.sum(axis=-1) - stays, sent.sum(axis=-2) - stays
    return np.asarray(np.maximum(out, into).max(axis=-1))


def _held(busiest: ArrayLike, gpus: int) -> Floats:
    """What each GPU holds in the even all-to-all that sends as much as the busiest GPU does."""
    return np.asarray(np.asarray(busiest) * gpus / (gpus - 1), np.float64)
