"""Time and peak memory of reading a trace of 10 million token-layers x 4.

``python benchmarks/trace_load.py`` prints a line a case, each read in a process of its own, so that
its peak is its own; what it has read must be what was written. The target: about a second, and a
peak below 2.5 times the arrays, whatever the row groups.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from moesim.trace import RoutingTrace, read_trace, write_trace

TOKENS = 416_667
QUICKSTART = Path(__file__).parents[1] / "traces" / "quickstart.parquet"

READ = """
import sys, time
sys.path.insert(0, sys.argv[2])
import pyarrow.parquet
from trace_load import digest
from moesim.trace import read_trace
import moesim.trace.validate
def peak():
    status = open("/proc/self/status").read()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024
before, start = peak(), time.perf_counter()
trace = read_trace(sys.argv[1])
seconds = time.perf_counter() - start
weights = trace.gate_weights.nbytes if trace.gate_weights is not None else 0
arrays = trace.expert_ids.nbytes + weights + trace.request_id.nbytes + trace.position.nbytes
ratio = (peak() - before) / arrays
print(seconds, ratio, arrays, digest(trace))
"""


def long_trace(*, weights: bool) -> RoutingTrace:
    """The shipped trace again and again, up to TOKENS, as new requests."""
    short = read_trace(QUICKSTART)
    rows = np.arange(TOKENS) % short.tokens
    copy = (np.arange(TOKENS) // short.tokens).astype(np.int32)
    assert short.gate_weights is not None
    return replace(
        short,
        expert_ids=short.expert_ids[rows],
        request_id=short.request_id[rows] + copy * np.int32(1000),
        position=short.position[rows],
        phase=short.phase[rows],
        gate_weights=short.gate_weights[rows] if weights else None,
    )


def main() -> None:
    """Print a line for each case."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "trace.parquet"
        for weights in (False, True):
            trace = long_trace(weights=weights)
            write_trace(trace, path)
            written = digest(trace)
            measure(path, written, f"weights: {weights}, row groups of moesim")
            table = pq.read_table(path)
            for rows in (1000, TOKENS):
                pq.write_table(table, path, row_group_size=rows)
                measure(path, written, f"weights: {weights}, row groups of {rows}")


def digest(trace: RoutingTrace) -> str:
    """What tells one trace's columns from another's."""
    found = hashlib.sha256()
    for column in ("expert_ids", "request_id", "position", "phase", "gate_weights"):
        values = getattr(trace, column)
        found.update(b"none" if values is None else values.tobytes())
    return found.hexdigest()


def measure(path: Path, written: str, name: str) -> None:
    """Read ``path`` in a process of its own and print what that took; an AssertionError where it
    has read anything but what was ``written``.
    """
    command = [sys.executable, "-c", READ, str(path), str(Path(__file__).parent)]
    output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    *numbers, read = output.split()
    if read != written:
        message = f"{name}: another trace is read than was written"
        raise AssertionError(message)
    seconds, ratio, size = map(float, numbers)
    print(f"{name:45} {seconds:5.2f} s, peak {ratio:4.2f} x {size / 1e6:.0f} MB of arrays")


if __name__ == "__main__":
    main()
