"""Published systems, run whole, against their pages."""

from __future__ import annotations

from pathlib import Path

from moesim.report.systems import page
from moesim.reproduce.systems import load_system, run_system, system_names
from moesim.reproduce.systems.judge import laws
from verification.check import Measured, check

PAGES = Path(__file__).parents[1] / "docs" / "systems"


@check(
    "docs/systems has what `moesim reproduce` gives, and every law holds in whole runs",
    tolerance=0,
    why="laws are exact, and pages are written from simulations without chance",
    unit="pages that differ and laws that are broken",
)
def systems_are_their_pages() -> Measured:
    wrong: list[str] = []
    names = [name for name in system_names() if load_system(name).runs]
    for name in names:
        found = run_system(name)
        broken = [one.law.says for one in laws(found) if not one.holds]
        wrong += [f"{name}: {law}" for law in broken]
        if page(found, "figures") != (PAGES / f"{name}.md").read_text(encoding="utf-8"):
            wrong.append(f"{name}.md")
    return Measured(len(wrong), f"of {len(names)} systems" + "; ".join(["", *wrong[:3]]))
