"""An all-to-all between GPUs, of one node or of several."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.hardware.basis import Source, by_source
from moesim.hardware.collective_kernel import collective_curve, collective_fit_for
from moesim.hardware.network import Network
from moesim.hardware.operation import Operation
from moesim.hardware.roofline import NS, Floats, Ints
from moesim.hardware.transfer_curve import Curve


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

    @property
    def by_busiest(self) -> bool:
        """Whether prices, and what they rest on, go by the busiest GPU's bytes alone."""
        return self.nodes == 1

    def price(self, matrix: ArrayLike) -> Floats:
        """See ``CostModel.all_to_all_ns``."""
        sent = np.asarray(matrix, np.int64)
        if sent.shape[-1] == 1:
            return np.zeros(sent.shape[:-2])
        if self.nodes == 1:
            return self._within(sent)
        within, across, latency = self._parts(sent)
        return np.asarray(latency + np.maximum(within, across), np.float64)

    def rests_on(self, price_ns: Floats, *shape: Any) -> Floats:
        """See ``Operation``."""
        sent = np.asarray(shape[0], np.int64)
        gpus = sent.shape[-1]
        if gpus == 1 or (curve := self._curve(gpus // self.nodes)) is None:
            return super().rests_on(price_ns, *shape)
        if self.nodes == 1:
            return by_source(price_ns, curve.sources(_held(sent)))
        within, across, _ = self._parts(sent)
        fitted = curve.sources(_held(self._inside(sent)).max(axis=-1))
        return by_source(price_ns, np.where(within > across, fitted, Source.DATASHEET))

    def _within(self, sent: Ints) -> Floats:
        """The time on one node, [...]; ``sent`` int64[..., G, G]."""
        if sent.shape[-1] == 1:
            return np.zeros(sent.shape[:-2])
        if (curve := self._curve(sent.shape[-1])) is not None:
            return curve.price(_held(sent))
        peers = self.hardware.datasheet.peers
        rate = peers.all_to_all_bytes_per_second
        return np.asarray(round(peers.latency.value) + _busiest(sent) * NS / rate, np.float64)

    def _parts(self, sent: Ints) -> tuple[Floats, Floats, float]:
        """Times within nodes and across them without latency, and the latency."""
        network, sheet = self._network(), self.hardware.datasheet
        node = sent.shape[-1] // self.nodes
        start = self._start(node)
        stays = self._inside(sent)
        inside = self._within(stays).max(axis=-1) - start
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
        return float(self._within(np.zeros((gpus, gpus), np.int64)))

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
        return collective_curve(fit, gpus) if fit and gpus > 1 else None


def _busiest(sent: Ints) -> Ints:
    """The largest over GPUs of bytes out and bytes in, without those that stay."""
    stays = np.diagonal(sent, axis1=-2, axis2=-1)
    out, into = sent.sum(axis=-1) - stays, sent.sum(axis=-2) - stays
    return np.asarray(np.maximum(out, into).max(axis=-1))


def _held(sent: Ints) -> Floats:
    """What each GPU holds in the even all-to-all that sends as much as the busiest GPU does."""
    gpus = sent.shape[-1]
    return np.asarray(_busiest(sent) * gpus / (gpus - 1), np.float64)
