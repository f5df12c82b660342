"""Where a missed expert is computed (docs/semantics.md, "Misses"), and what the host then does."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import ceil

from .reference_host import nearest
from .reference_placement import local_experts
from .reference_words import Activation, Config, Layer, Model, Prices

LOAD, HOST, LINK = "load", "host", "link"  # loaded; computed by the host; read over the link
SKIP = "skip"  # not computed at all
SUBSTITUTE = "substitute"  # another expert computes its rows
BEHIND = "behind"  # computed by the host, and copied for later
Share = tuple[int, int] | None  # tokens of a pass and their choices in a layer, where these vary


def of_variant(layer: Layer, config: Config, variant: int) -> Layer:
    """The layer whose experts are in a variant, as prices know it."""
    if not config.variants:
        return layer
    return replace(layer, kind=layer.kind + config.variants[variant].kind)


def launch_ns(layer: Layer, rows: list[int], prices: Prices, share: Share) -> int:
    """A kernel of experts with ``rows``: as many tokens choose them as make a like ``share``."""
    if share is None:
        return prices.experts_ns(layer, rows)
    tokens, choices = share
    return prices.experts_ns(layer, rows, ceil(Fraction(sum(rows) * tokens, choices)))


class Misses:
    """One step of one layer on one GPU: asked at every miss, in execution order."""

    def __init__(
        self, config: Config, model: Model, layer: Layer, prices: Prices, share: Share = None
    ) -> None:
        self.config, self.layer, self.prices, self.share = config, layer, prices, share
        self.row_bytes = model.hidden * model.activation_bytes
        size = model.bytes_in(model.moe_layers.index(layer))
        self.copy = config.copy_ns(replace(model, expert_bytes=size), prices)
        self.copies = self.host = self.loaded = 0
        self.of_host: set[int] = set()  # experts that a split gives to the host
        self.divides = config.miss == "split" and config.rule != "cheapest"

    def divide(self, misses: dict[int, int]) -> None:
        """The rows of each expert of the step that is in no slot: those with most are copied."""
        ordered = sorted(misses, key=lambda e: (-misses[e], e))
        if not (self.divides and ordered):
            return
        if self.config.rule == "bandwidth":
            link, host = self.config.bandwidths
            part = Fraction(str(self.config.alpha)) * link / (link + host)
            number = min(max(ceil(part * len(ordered)), 1), len(ordered))
        else:
            number = min(range(len(ordered) + 1), key=lambda n: self.makespan(ordered, misses, n))
        self.of_host = set(ordered[number:])

    def makespan(self, ordered: list[int], misses: dict[int, int], copied: int) -> int:
        """The later end of ``copied`` copies and of the host with the rest, and then of its rows
        up.
        """
        rows = [misses[e] for e in ordered[copied:]]
        if not rows:
            return copied * self.copy
        size, pinned = sum(rows) * self.row_bytes, self.config.software.states_pinned
        host = sum(beside_ns(self.config, self.layer, self.prices, of) for of in rows)
        down, up = (self.prices.copy_ns(size, way, pinned, 1) for way in ("d2h", "h2d"))
        return max(copied * self.copy, host + self.config.host_start_ns + down) + up

    def place(self, rows: int, room: bool, expert: int = -1) -> str:
        """``room``: a slot is free, or has an expert that nobody needs in this step."""
        if self.divides:
            return HOST if expert in self.of_host else LOAD
        if self.config.miss in ("cheapest", "split"):
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
        size, pinned = rows * self.row_bytes, self.config.software.states_pinned
        host = beside_ns(self.config, self.layer, self.prices, rows)
        host += self.config.host_start_ns
        host += sum(self.prices.copy_ns(size, way, pinned, 1) for way in ("d2h", "h2d"))
        own = [self.config.rows_on_gpu(rows)]
        kernel = launch_ns(self.layer, own, self.prices, self.share)
        loaded = self.copies + self.copy + kernel
        uploads = self.config.uploads
        if loaded <= self.host + host and (uploads is None or self.loaded < uploads):
            self.copies += self.copy
            self.loaded += 1
            return LOAD
        self.host += host
        return HOST


def beside_ns(config: Config, layer: Layer, prices: Prices, rows: int) -> int:
    """One expert beside the GPU: the host's, or the near-memory device's in its place."""
    if config.near_memory:
        return prices.near_expert_ns(layer, rows)
    return prices.cpu_expert_ns(layer, rows)


def host_ns(
    activations: list[Activation], layer: Layer, model: Model, config: Config, prices: Prices
) -> tuple[int, int]:
    """The host's start, rows down in one copy and the experts one after the other; then as many
    bytes up.
    """
    pinned = config.software.states_pinned
    size = (
        sum(activation.rows for activation in activations) * model.hidden * model.activation_bytes
    )
    down, up = (prices.copy_ns(size, way, pinned, 1) for way in ("d2h", "h2d"))
    each = [
        beside_ns(config, of_variant(layer, config, one.variant), prices, one.rows)
        for one in activations
    ]
    computed = sum(each)
    if config.groups > 1:
        local = local_experts(model, config)[activations[0].gpu]
        groups = [local.index(one.expert) % config.groups for one in activations]
        rows = [one.rows for one in activations]
        computed = on_groups(groups, rows, each, config.row_ns)
    return config.host_start_ns + down + computed, up


def on_groups(
    groups: list[int], rows: list[int], prices: list[int], row_ns: tuple[float, float]
) -> int:
    """When the last expert is gathered that groups of units compute beside one another: every one
    is a visit to their one link, work of its group alone, and another visit.
    """
    visits: list[tuple[int, int, int]] = []  # asked for when, by which expert, and which it is
    waiting = list(range(len(groups)))
    busy: set[int] = set()
    free = 0

    def begin() -> None:
        for expert in list(waiting):
            if groups[expert] not in busy:
                busy.add(groups[expert])
                waiting.remove(expert)
                visits.append((free, expert, 0))

    begin()
    while visits:
        visits.sort()
        asked, expert, visit = visits.pop(0)
        down = min(nearest(row_ns[0] * rows[expert]), prices[expert])
        back = min(nearest(row_ns[1] * rows[expert]), prices[expert] - down)
        free = max(free, asked) + (down, back)[visit]
        if visit == 0:
            visits.append((free + prices[expert] - down - back, expert, 1))
        else:
            busy.remove(groups[expert])
            begin()
    return free


def link_ns(launch: list[Activation], model: Model, prices: Prices) -> int:
    """One pinned copy of all that a launch's kernel reads over the link."""
    reads = [activation for activation in launch if activation.place == LINK]
    if not reads:
        return 0
    size = sum(model.bytes_in(activation.layer) for activation in reads)
    return prices.copy_ns(size, "h2d", pinned=True, copies=1)
