"""Write docs/systems: a page of every system that runs, with its figures, and the table over all.

    python scripts/systems_pages.py [NAME ...]

Without names all are run; of the others the pages stay, and their rows of the table. Results in
the folder MOESIM_CACHE are used again.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

from moesim.config.files.files import write_whole
from moesim.experiment.running.cache import cache_folder
from moesim.report.systems import overview, page, save
from moesim.reproduce.systems import Found, load_system, run_system, system_names

PAGES = Path(__file__).resolve().parents[1] / "docs" / "systems"
TABLE = re.compile(r"(?<=<!-- table -->\n)\n.*\n(?=\n<!-- end of the table -->)", re.DOTALL)


def write_page(found: Found) -> None:
    """The page and the figures of one system."""
    folder = PAGES / "figures"
    folder.mkdir(parents=True, exist_ok=True)
    save(found, folder, ("png",))
    write_whole(PAGES / f"{found.name}.md", page(found, "figures"))


def write_overview(results: dict[str, Found]) -> None:
    """The table over all; rows of systems that were not run stay as they are."""
    index = PAGES / "index.md"
    before = index.read_text(encoding="utf-8")
    systems = {name: load_system(name) for name in system_names()}
    rows = overview(systems, results).splitlines()
    kept = {line.partition("](")[2].partition(".md)")[0]: line for line in before.splitlines()}
    for place, name in enumerate(systems, 2):
        if name not in results and systems[name].runs and name in kept:
            rows[place] = kept[name]
    write_whole(index, TABLE.sub(lambda _: "\n" + "\n".join(rows) + "\n", before))


def main() -> None:
    """Run the named systems, or all."""
    runs = [name for name in system_names() if load_system(name).runs]
    kept = cache_folder(None)
    results = {name: run_system(name, cache=kept) for name in sys.argv[1:] or runs}
    for found in results.values():
        write_page(found)
    write_overview(results)


if __name__ == "__main__":
    main()
