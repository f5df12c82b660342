"""What was measured of a drive, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.calibrate.drive.measure import Rate
from moesim.config.amounts.sizes import KIB, MIB


def table(rates: Sequence[Rate]) -> Table:
    """GB/s: a row a path and size, a column a number of reads at a time."""
    depths = sorted({one.depth for one in rates})
    shown = Table(
        title="GB/s, by reads at a time", box=SIMPLE_HEAD, padding=(0, 1, 0, 0), show_edge=False
    )
    shown.add_column("path")
    shown.add_column("a read", justify="right")
    for depth in depths:
        shown.add_column(f"x {depth}", justify="right")
    rows: dict[tuple[str, int], dict[int, Rate]] = {}
    for one in rates:
        rows.setdefault((one.path, one.size), {})[one.depth] = one
    for (path, size), of_depth in rows.items():
        each = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
        cells = (
            f"{of_depth[depth].bytes_per_second / 1e9:.2f}" if depth in of_depth else ""
            for depth in depths
        )
        shown.add_row(path, each, *cells)
    return shown
