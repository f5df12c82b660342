"""Where what the compiled clocks read and write stands in their arrays."""

from __future__ import annotations

from moesim.trace.routing import Phase

ATTENTION, GATE, DISPATCH, EXPERTS, HOST, WEIGHTS, BARRIER, CPU = range(8)
"""Places in ``CHARGES``."""
(HOST_ATTENTION, HOST_SEQUENCE, HOST_DENSE, HOST_GATE, HOST_SHARED, HOST_WAVE, HOST_COMBINE,
HOST_HEAD, SYNCHRONISES, COPY_HOST, BLOCKING, OVERLAPS, COPIES_AHEAD, EXCHANGE,
AGREES) = range(15)  # fmt: skip
"""Places in the case's constants."""
DECODE, ENCODE = int(Phase.DECODE), int(Phase.ENCODE)
TIME, CURSOR, HOST_TIME, COPY_END = range(4)
"""Rows of a clock's state int64[4, gpus]."""
MOE, LAUNCHED = range(2)
"""Columns of the plan: the MoE layer (or -1), what the host launches beyond its constants; then for
each stage the row of its time."""
BEFORE_GATE, OF_GATE, PERMUTE, BESIDE, AFTER = (LAUNCHED + 1 + stage for stage in range(5))
BEGIN, END, STALL, WAIT = range(4)
"""Places in a record."""
