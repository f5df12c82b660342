"""What a run records of the machine, as plain data: it travels in the table's metadata."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from typing import Any

from moesim.calibrate.collect.cpu import (
    cpu_name,
    memory_bytes,
    numa_nodes,
    physical_cores,
)
from moesim.calibrate.collect.device import Device

MACHINE = "machine"
"""The key of these facts in a table's ``attrs``, which Parquet files keep."""


def machine_facts(device: Device, torch_version: str) -> dict[str, Any]:
    """Device, driver, clocks, host and library versions."""
    return {
        "device": device.name,
        "kind": device.kind,
        "gpus": device.gpus,
        "torch": torch_version,
        "measured": datetime.now(UTC).date().isoformat(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "cpu": cpu_name(),
        "cores": physical_cores(),
        "memory_bytes": memory_bytes(),
        "cache_bytes": device.cache_bytes,
        "device_memory_bytes": device.memory_bytes,
        "numa_nodes": numa_nodes(),
        "load_at_start": round(os.getloadavg()[0], 2),
        **device.facts(),
    }
