"""When copies run: whole layers, and what activations demand (docs/semantics.md)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .reference_variants import bytes_of
from .reference_words import Activation

if TYPE_CHECKING:
    from .reference_clock import Clock


class LayerCopies:
    """The layers that one GPU copies whole in one pass, through two buffers."""

    def __init__(self, clock: Clock, g: int, layers: list[int]) -> None:
        self.clock, self.g, self.left = clock, g, list(layers)
        self.there: dict[int, int] = {}  # layer -> end of its last copy
        self.read: dict[int, int] = {}  # and of its last read
        for _ in range(2):
            self.issue(clock.gpus[g].t)

    def issue(self, since: int) -> None:
        """The next layer's copies, in a buffer that is free from ``since`` on."""
        if not self.left:
            return
        layer = self.left.pop(0)
        gpu = self.clock.gpus[self.g]
        price = self.clock.copy_ns(self.clock.model.bytes_in(layer))
        reads = self.clock.read_whole(layer, self.g, since)
        for read in reads:
            start = max(gpu.copy_in, since)
            if read is not None:
                start = max(start, read - self.clock.hosts[0].lead(layer))
            gpu.copy_in = start + price
        self.there[layer] = gpu.copy_in
        self.read[layer] = max(read or 0 for read in reads)


class DemandCopies:
    """One GPU's demand copies of one layer, in execution order, FIFO.

    A copy of launch w waits at most for launches before w (rule b), so copies and launches can be
    worked off launch by launch.
    """

    def __init__(
        self, clock: Clock, m: int, g: int, known: int, launches: list[list[Activation]]
    ) -> None:
        self.clock, self.gpu, self.known = clock, clock.gpus[g], known
        self.launch_of = {
            activation.expert: activation.launch for launch in launches for activation in launch
        }
        self.launch_end: dict[int, int] = {}
        self.issued = 0
        self.last_end = known
        self.m, self.price = m, clock.copy_ns(clock.model.bytes_in(m))

    def issue_one(self, read: int | None = None) -> int:
        """One that waits for no launch, of what is in host memory then; its end."""
        start = max(self.next_issue(), self.gpu.copy_in)
        if read is not None:
            start = max(start, read - self.clock.hosts[0].lead(self.m))
        self.last_end = self.gpu.copy_in = start + self.price
        return self.last_end

    def next_issue(self) -> int:
        host = self.clock.host.copy
        self.issued += 1
        if self.clock.config.software.blocking:  # the host waits for the copy before
            return self.last_end + host
        return self.known + self.issued * host

    def issue(self, activation: Activation) -> tuple[int, int]:
        if activation.late:  # promoted: the host has issued it
            starts = [activation.copy.issued, self.known, self.gpu.copy_in]
            if activation.read is not None:
                starts.append(activation.read - self.clock.hosts[0].lead(activation.layer))
            activation.copy.run(max(starts), self.price_of(activation))
            self.last_end = self.gpu.copy_in = activation.copy.end
            return activation.copy.start, activation.copy.end
        start = max(self.next_issue(), self.gpu.copy_in)
        # waits until the victim has executed, and holds the engine
        for victim in activation.over:
            start = max(start, self.launch_end[self.launch_of[victim]])
        if activation.read is not None:
            lead = activation.lead
            lead = self.clock.hosts[0].lead(activation.layer) if lead is None else lead
            start = max(start, activation.read - lead)
        if not self.clock.config.software.overlap and activation.launch > 0:  # nor beside a kernel
            start = max(start, self.launch_end[activation.launch - 1])
        price = self.price_of(activation)
        self.last_end = self.gpu.copy_in = start + price
        return start, self.last_end

    def price_of(self, activation: Activation) -> int:
        return self.clock.copy_ns(bytes_of(activation, self.clock.model, self.clock.config))

    def finish(self, called: int, launches: int) -> None:
        """What the host has launched by the end of the layer."""
        gpu, host = self.gpu, self.clock.host
        self.issued += gpu.ahead
        if self.issued and self.clock.config.software.blocking:
            gpu.host = max(gpu.host, self.last_end)
        elif self.issued:
            gpu.host = max(gpu.host, self.known) + self.issued * host.copy
        gpu.host += host.experts(called, launches) + host.combine
