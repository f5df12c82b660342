"""The text that nccl-tests print (by their documented columns; a real file was not at hand).

The size is what one GPU holds, its own part included.
"""

from __future__ import annotations

import re
from typing import ClassVar

import pandas as pd

from moesim.calibrate.importers.base import File, Importer, left_out
from moesim.hardware.measurements.validate import LINE

PREFIX = re.compile(r"^\[[\d,]+\]<std(?:out|err)>:\s*")
ROW = re.compile(r"^\s*(\d+)\s+(\d+)\s+(\w+)\s+(\w+)\s+(-?\d+)\s+([\d.]+)\s+([\d.]+)\s+([\d.]+)")
RANK = re.compile(r"^#\s+Rank\s+(\d+).*?(?:\]|\d)\s+(NVIDIA.*)$")
TESTS = {"all_reduce": "all_reduce", "alltoall": "all_to_all"}
COLUMNS = ("op", "dtype", "bytes", "gpus", "latency_ns", "device", "source", LINE)


class NcclTests(Importer):
    """Out-of-place times by size; the test's name comes from the text or the file's name."""

    kind: ClassVar[str] = "nccl-tests"

    def recognises(self, file: File) -> bool:
        """By the header of its table."""
        return "algbw" in file.start and "busbw" in file.start

    def read(self, file: File) -> pd.DataFrame:
        """Every row of an all-reduce or an all-to-all."""
        lines = [PREFIX.sub("", line) for line in file.text.splitlines()]
        ranks = [found for line in lines if (found := RANK.match(line))]
        op = next((o for name, o in TESTS.items() if name in file.name or name in file.text), None)
        rows = [
            {
                "op": op,
                "dtype": found[3],
                "bytes": int(found[1]),
                "gpus": len(ranks) or None,
                "latency_ns": float(found[6]) * 1e3,
                "device": ranks[0][2].strip() if ranks else None,
                "source": f"nccl-tests {file.name.rsplit('/', 1)[-1]}",
                LINE: number,
            }
            for number, line in enumerate(lines, start=1)
            if (found := ROW.match(line)) and int(found[1]) > 0
        ]
        table = pd.DataFrame(rows, columns=COLUMNS)
        why = "tests that neither the text nor the file's name calls all_reduce or alltoall"
        return left_out(table, table["op"].notna(), why)
