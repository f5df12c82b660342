"""The run of a folder that a figure of one run is of: its own, or a sweep's best point."""

from __future__ import annotations

from pathlib import Path

from moesim.report.figures.base import Figure


def run_of(figure: Figure, folder: Path) -> tuple[str, Path]:
    """What the run is called ("": what it is of stands below the title), and its folder; of a sweep
    the point with the best throughput among those that leave out no choice (of all where every
    point does). The figure's error where no point ran.
    """
    from moesim.sweep.found import read_sweep
    from moesim.sweep.identity import is_sweep
    from moesim.sweep.point import point_folder
    from moesim.sweep.speeds import losses_in_words, ranked

    if not is_sweep(folder):
        return "", folder
    sweep = read_sweep(folder)
    speed = ranked(sweep.table)
    if speed.empty:
        speed = ranked(sweep.table, allow_drops=True)
    if speed.empty:
        raise figure.unsuitable(folder, "no point of the sweep ran to its end")
    best = int(speed.index[0])
    drops = losses_in_words(sweep.table.loc[[best]])
    words = ", ".join(filter(None, (sweep.labels()[best], drops)))
    return f"best point, {words}" if words else f"point {best}", point_folder(folder, best)
