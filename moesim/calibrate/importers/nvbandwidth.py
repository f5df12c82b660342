"""nvbandwidth's text and JSON (by their documented forms): bandwidths, as times of one size.

nvbandwidth copies 512 MiB by default; ``--set bytes=...`` for another size.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, ClassVar

import pandas as pd

from moesim.calibrate.importers.base import File, Importer
from moesim.config.amounts.sizes import MIB
from moesim.config.json_text import parse_json
from moesim.hardware.measurements.validate import LINE

SIZE = 512 * MIB
TESTS = {
    "host_to_device_memcpy": "copy_h2d",
    "device_to_host_memcpy": "copy_d2h",
    "device_to_device_memcpy_read": "copy_p2p",
    "device_to_device_memcpy_write": "copy_p2p",
}
COLUMNS = ("op", "bytes", "pinned", "latency_ns", "kernel_source", "source", LINE)
RUNNING = re.compile(r"^Running (\w+)")
Cell = tuple[str, int, float]


class NvBandwidth(Importer):
    """Each cell of the matrices of plain (one-direction) copies is a row."""

    kind: ClassVar[str] = "nvbandwidth"

    def recognises(self, file: File) -> bool:
        """By its own name."""
        return "nvbandwidth" in file.start

    def read(self, file: File) -> pd.DataFrame:
        """Every cell of a copy that moesim prices."""
        is_json = file.start.lstrip().startswith("{")
        cells = (
            _json(parse_json(file.content, file.name, strict=False))
            if is_json
            else _text(file.text)
        )
        rows = [
            {
                "op": op,
                "bytes": SIZE,
                "pinned": True,
                "latency_ns": SIZE / rate,
                "kernel_source": test,
                "source": f"nvbandwidth {file.name.rsplit('/', 1)[-1]}",
                LINE: line,
            }
            for test, line, rate in cells
            if rate > 0 and (op := _op(test))
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def _op(test: str) -> str | None:
    known = (op for name, op in TESTS.items() if test in (f"{name}_ce", f"{name}_sm"))
    return next(known, None)


def _json(content: dict[str, Any]) -> Iterator[Cell]:
    for number, case in enumerate(content["nvbandwidth"].get("testcases", []), start=1):
        for row in case.get("bandwidth_matrix") or []:
            for cell in row:
                if (rate := _number(str(cell))) is not None:
                    yield case["name"], number, rate


def _text(content: str) -> Iterator[Cell]:
    test, inside = "", False
    for number, line in enumerate(content.splitlines(), start=1):
        if found := RUNNING.match(line):
            test, inside = found[1], False
        elif line.startswith("memcpy "):
            inside = "bandwidth (GB/s)" in line
        elif not line.strip() or line.startswith("SUM"):
            inside = False
        elif inside and (cells := line.split()) and "." in line:
            for cell in cells[1:]:
                if (rate := _number(cell)) is not None:
                    yield test, number, rate


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
