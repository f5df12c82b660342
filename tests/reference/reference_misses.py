"""Where a missed expert is computed (docs/semantics.md, "Misses"), and what the host then does."""

from __future__ import annotations

from .reference_words import Activation, Config, Layer, Model, Prices

LOAD, HOST, LINK = "load", "host", "link"  # loaded; computed by the host; read over the link
SKIP = "skip"  # not computed at all
BEHIND = "behind"  # computed by the host, and copied for later


class Misses:
    """One step of one layer on one GPU: asked at every miss, in execution order."""

    def __init__(self, config: Config, model: Model, layer: Layer, prices: Prices) -> None:
        self.config, self.layer, self.prices = config, layer, prices
        self.row_bytes = model.hidden * model.activation_bytes
        software = config.software
        self.copy = prices.copy_ns(
            model.expert_bytes, "h2d", software.pinned, software.copies_per_expert
        )
        self.copies = self.host = self.loaded = 0

    def place(self, rows: int, room: bool) -> str:
        """``room``: a slot is free, or has an expert that nobody needs in this step."""
        if self.config.miss == "cheapest":
            return self.cheapest(rows)
        if self.config.miss == "background":
            return self.background(room)
        return {"load": LOAD, "cpu": HOST, "zero_copy": LINK, "skip": SKIP}[self.config.miss]

    def background(self, room: bool) -> str:
        uploads = self.config.uploads
        if room and (uploads is None or self.loaded < uploads):
            self.loaded += 1
            return BEHIND
        return HOST

    def cheapest(self, rows: int) -> str:
        size, pinned = rows * self.row_bytes, self.config.software.pinned
        host = self.prices.cpu_expert_ns(self.layer, rows)
        host += self.config.host_start_ns
        host += sum(self.prices.copy_ns(size, way, pinned, 1) for way in ("d2h", "h2d"))
        kernel = self.prices.experts_ns(self.layer, [self.config.rows_on_gpu(rows)])
        loaded = self.copies + self.copy + kernel
        uploads = self.config.uploads
        if loaded <= self.host + host and (uploads is None or self.loaded < uploads):
            self.copies += self.copy
            self.loaded += 1
            return LOAD
        self.host += host
        return HOST


def host_ns(
    activations: list[Activation], layer: Layer, model: Model, config: Config, prices: Prices
) -> int:
    """The host's start, rows down in one copy, the experts one after the other, as many bytes up;
    no activations, no time.

    Nothing of this holds an engine of the GPU.
    """
    if not activations:
        return 0
    pinned = config.software.pinned
    size = (
        sum(activation.rows for activation in activations) * model.hidden * model.activation_bytes
    )
    down, up = (prices.copy_ns(size, way, pinned, 1) for way in ("d2h", "h2d"))
    computed = sum(prices.cpu_expert_ns(layer, activation.rows) for activation in activations)
    return config.host_start_ns + down + computed + up


def link_ns(launch: list[Activation], model: Model, prices: Prices) -> int:
    """One pinned copy of all that a launch's kernel reads over the link."""
    reads = [activation for activation in launch if activation.place == LINK]
    if not reads:
        return 0
    return prices.copy_ns(len(reads) * model.expert_bytes, "h2d", pinned=True, copies=1)
