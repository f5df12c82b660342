"""The folder of a reproduced system: tables, figures, page."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pandas as pd

from moesim.config.counted import counted
from moesim.config.files.files import write_whole
from moesim.report.page.told import Told, ToldTable, write_told
from moesim.report.systems.figures import FIGURE, save
from moesim.report.systems.page import page
from moesim.report.systems.tables import given_table, laws_table, points_table
from moesim.reproduce.systems.judge import tally
from moesim.reproduce.systems.run import Found

USUAL = ("output_throughput", "mean_tpot_ms", "hit_ratio_per_expert", "peak_memory_bytes")


def write_system(found: Found, folder: Path) -> None:
    """Write ``points.csv``, ``laws.csv``, ``published.csv``, ``figures`` and ``report.md``."""
    tables = {
        "points": points_table(found),
        "laws": laws_table(found),
        "published": given_table(found),
    }
    for name, table in tables.items():
        _write_csv(table, folder / f"{name}.csv")
    save(found, folder / "figures")
    write_whole(folder / "report.md", page(found, "figures"))
    write_told(_told(found), folder)


def _told(found: Found) -> Told:
    system, count = found.system, tally(found)
    judged = count["agrees"] + count["misses"]
    held = f"{count['laws'] - count['broken']} of {counted(count['laws'], 'law')} hold"
    agree = f"; {count['agrees']} of {judged} published numbers agree" if judged else ""
    tables = {"Laws": "laws.csv"} | ({"Published and simulated": "published.csv"}
                                     if system.given else {})  # fmt: skip
    return Told(
        kind="published system",
        title=system.title,
        setting=_line(f"{system.question} ({system.paper})"),
        verdict=[f"{held}{agree}.", found.verdict]
        if found.changed
        else [found.verdict, f"{held}{agree}."],
        board=ToldTable(title="Points", file="points.csv", columns=_shown(found), axes=["point"]),
        tables=[ToldTable(title=title, file=file) for title, file in tables.items()],
        figures=dict(_figures(found)),
        trust=[
            *(f"assumed: {_line(one)}" for one in system.assumed),
            *(f"not to read off: {_line(one)}" for one in system.not_to_read),
        ],
    )


def _figures(found: Found) -> Iterator[tuple[str, str]]:
    for count, one in enumerate(found.system.figures, 1):
        name = FIGURE.format(name=found.name, number=count)
        yield f"figures/{name}.svg", f"{one.label} over {one.over}"


def _shown(found: Found) -> list[str]:
    """Of the numbers of the points those that its record speaks of, and the usual ones."""
    system, points = found.system, points_table(found)
    named = [*(name for law in system.laws for name in law.of), *(one.of for one in system.given),
             *(one.of for one in system.figures)]  # fmt: skip
    return [name for name in dict.fromkeys(["point", *USUAL, *named]) if name in points.columns]


def _line(text: str) -> str:
    return " ".join(text.split())


def _write_csv(table: pd.DataFrame, path: Path) -> None:
    write_whole(path, table.to_csv(index=False, lineterminator="\n", float_format="%.9g"))
