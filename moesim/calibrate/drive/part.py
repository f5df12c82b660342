"""What was measured of a drive, as the numbers of a part."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from moesim.calibrate.drive.measure import Rate
from moesim.config.amounts.sizes import KIB
from moesim.hardware.operations.copies.storage_read import AROUND

NS = 1e9


@dataclass(frozen=True)
class Drive:
    """``bandwidth`` and ``mapped_bandwidth`` in bytes a second, ``latency_ns`` of a read that is
    alone beyond its bytes at that bandwidth, and how many are ``in_flight`` at most; by which
    ``path``. ``read_ahead``: bytes that the system reads at a time around a page fault, which
    count as moved; None: not known.
    """

    path: str
    bandwidth: float
    latency_ns: float
    in_flight: int
    mapped_bandwidth: float
    read_ahead: int | None = None

    @classmethod
    def of(cls, rates: Sequence[Rate], read_ahead: int | None = None) -> Drive:
        """By direct reads, where there are some: the bandwidth is the best of all; the latency that
        of the smallest read alone; so many are in flight as that read's own time, by Little's law,
        says of the best rate of its size. Page faults: by the largest pieces, with what is read
        around them.
        """
        path = "direct" if any(one.path == "direct" for one in rates) else "buffered"
        own = [one for one in rates if one.path == path]
        bandwidth = max(one.bytes_per_second for one in own)
        least = min(one.size for one in own)
        small = [one for one in own if one.size == least]
        alone = next(one.read_ns for one in small if one.depth == 1)
        best = max(one.bytes_per_second for one in small)
        in_flight = max(1, round(best / least * alone / NS))
        faults = max((one for one in rates if one.path == "mmap"), key=lambda one: one.size)
        moved = 1 + AROUND * (read_ahead or 0) / faults.size
        mapped = min(moved * faults.bytes_per_second, bandwidth)
        latency = max(0.0, alone - least / bandwidth * NS)
        return cls(path, bandwidth, latency, in_flight, mapped, read_ahead)

    def text(self, name: str, capacity: int, told: str) -> str:
        """The part's file; ``capacity`` in bytes, ``told``: what was read, when."""
        mb, seconds = 1_000_000, self.latency_ns / 1000
        known = f"read_ahead: {{value: {(self.read_ahead or 0) // KIB} KiB, source: system}}"
        return f"""\
end_mark: "..."
title: "{name}"
sources:
  measured: "{self.path} reads of {told}; latency of the smallest read, in flight by Little's law"
  system: "what the system says of it"
capacity: {{value: {capacity // 10**9} GB, source: system}}
bandwidth: {{value: {self.bandwidth / mb:.0f} MB/s, source: measured}}
latency: {{value: {seconds:.1f} us, source: measured}}
in_flight: {{value: {self.in_flight}, source: measured}}
mapped_bandwidth: {{value: {self.mapped_bandwidth / mb:.0f} MB/s, source: measured}}
{known if self.read_ahead else "# read_ahead: not known"}
...
"""
