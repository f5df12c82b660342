"""What formulas of kernels take from a card's datasheet."""

from __future__ import annotations

from typing import NamedTuple

from moesim.hardware.profile import HardwareProfile


class Card(NamedTuple):
    """Bytes a second, bytes, and a count."""

    bandwidth: float
    l2: float
    multiprocessors: int


def card_of(profile: HardwareProfile) -> Card:
    """Of a profile's datasheet."""
    sheet = profile.datasheet
    bandwidth, l2 = sheet.memory_bandwidth.value, sheet.l2.value
    return Card(bandwidth, float(l2), sheet.multiprocessors.value)
