"""A read from storage into host memory."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike

from moesim.config.amounts.sizes import KIB
from moesim.config.errors import InputError
from moesim.hardware.charge import WAITING_FOR_STORAGE
from moesim.hardware.described.storage import Storage
from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Amount, Detail, Part, where
from moesim.hardware.profile import HardwareProfile

SECOND = 1_000_000_000
AROUND = 2
"""Windows of the system's read-ahead that page faults bring besides each place that is asked for:
one half before it, and what comes behind its end. Measured of llama.cpp under Linux 6.18 with
128 KiB: 1.8 to 2.6 in eight of nine settings (docs/storage.md); chosen after they were seen.
"""


class StorageRead(Operation):
    """Requests one behind the other, as many at a time as the drive has in flight.

    A drive that is kept busy takes for a request its bytes at the full bandwidth, or what latency
    leaves of the requests in flight, if that is more (Little's law). A read that is alone takes the
    latency too. Page faults of a mapped file go one after the other, at a bandwidth of their own,
    and the system reads around each of the places where an expert's matrices are (``AROUND``).
    """

    kind: ClassVar[str] = "storage_read"
    rounds_up: ClassVar[bool] = True
    machine_part: ClassVar[str] = "storage"
    category: ClassVar[str] = WAITING_FOR_STORAGE

    def parts(
        self, size: ArrayLike, requests: int = 1, mapped: bool = False, queued: bool = False
    ) -> list[Part]:
        """``size`` bytes int[n] in so many equal ``requests``, or, ``mapped``, places of the file:
        from the first to the last byte there, or, ``queued``, for how long they keep the drive from
        others that wait.
        """
        amount = np.asarray(size, np.float64)
        drive = self._drive(mapped)
        if mapped and drive.read_ahead is not None:
            amount = amount + (amount > 0) * requests * AROUND * drive.read_ahead.value
        rate = (drive.mapped_bandwidth or drive.bandwidth) if mapped else drive.bandwidth
        moved = amount * SECOND / rate.value
        if mapped:
            late = np.zeros_like(moved)
        else:
            latency, each = drive.latency.value, moved / requests
            behind = np.maximum(each, (latency + each) / drive.in_flight.value)
            whole = requests * behind if queued else (requests - 1) * behind + latency + each
            late = whole - moved
        through = Amount("bytes", moved, amount, "B", rate.value)
        bytes_part = Part(moved, name="bytes", of=lambda: Detail((through,)))
        return where(amount > 0, [Part(late, name="latency that is not hidden"), bytes_part])

    def _drive(self, mapped: bool) -> Storage:
        drive = self.hardware.host.storage
        if drive is None:
            raise InputError(no_storage(self.hardware.name))
        if mapped and drive.mapped_bandwidth is None:
            what = "what page faults reach of this drive is not known"
            raise InputError(f"experts.host.path: {what}; write direct, or its mapped_bandwidth")
        return drive


REPORT = "field report"
"""How the source begins of what somebody saw page faults reach on another machine."""


def faults_are_prior(profile: HardwareProfile) -> bool:
    """Whether what page faults reach of the profile's drive is what was seen of another one."""
    drive = profile.host.storage
    if drive is None or (mapped := drive.mapped_bandwidth) is None:
        return False
    return profile.sources.get(mapped.source, "").startswith(REPORT)


def fault_notes(profile: HardwareProfile) -> list[str]:
    """That a mapped file is not read as fast as its drive reads, by whose word, and what else may
    be asked; or that nobody knows.
    """
    drive = profile.host.storage
    if drive is None:
        return []
    if (mapped := drive.mapped_bandwidth) is None:
        what = "its software reads by page faults, and what they reach on this drive is not known:"
        return [f"{what} reads are as fast as the drive; 'moesim calibrate drive' measures both"]
    rate = f"{mapped.value / 1e9:g} of the drive's {drive.bandwidth.value / 1e9:g} GB/s"
    told = f"experts that are not in its memory come by page faults, at {rate}"
    if drive.read_ahead is not None:
        rate += f", with {AROUND} x {drive.read_ahead.value / KIB:g} KiB around each matrix"
    other = "reads of the software's own are experts: {host: {path: direct}}"
    source = profile.sources.get(mapped.source, mapped.source)
    return [f"{told} ({source}); {other}; 'moesim calibrate drive' measures both"]


def no_storage(machine: str) -> str:
    """What is wrong with a ``machine`` that has to read experts, and has no drive."""
    what = f"hardware: '{machine}' names no storage, from which experts.host reads; write one, as"
    return f"{what} in hardware: {{base: {machine}, storage: nvme-pcie4}} ('moesim list storage')"
