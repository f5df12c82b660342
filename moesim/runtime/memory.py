"""How much memory this machine has left."""

from __future__ import annotations

import os
from pathlib import Path

_LINUX = Path("/proc/meminfo")


def available_bytes() -> int:
    """Bytes that can be had without swapping; all of the machine's where the system does not tell
    (only Linux does).
    """
    try:
        told = dict(line.split(":", 1) for line in _LINUX.read_text().splitlines())
        return int(told["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError, ValueError):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
