"""The pages of evidence have what scripts/published_runs.py makes of the kept results."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moesim.calibrate.published.pack import read_pack
from moesim.report.judged.evidence import far

ROOT = Path(__file__).parents[2]
PACKS = ROOT / "experiments"
PAGES = "".join(path.read_text("utf-8") for path in (ROOT / "docs").glob("evidence*.md"))
KEPT = sorted((ROOT / "verification" / "evidence").glob("*.csv"))


@pytest.fixture
def published_runs(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))
    return importlib.import_module("published_runs")


def test_the_pages_have_the_tables_of_the_kept_results(published_runs: Any) -> None:
    for name, lines in published_runs.kept_tables().items():
        mark = f"<!-- {name} -->\n"
        assert PAGES.split(mark)[1].split("<!-- end -->")[0].split("\n")[1:-2] == lines, name


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_what_is_far_off_is_told(path: Path) -> None:
    """A prompt of two_cores was off by 1.6 times and stood nowhere but in its table."""
    told = [run for run in far(pd.read_csv(path))["run"] if f"- **{run}** (" not in PAGES]
    assert told == []


COLLECTIONS = ROOT.parent / "shared" / "data"
UNPREDICTED = (
    "x04", "x06", "x14", "x24", "DeepSeek's profiles of H800 (2)", "Kimi-K2 on 128",
    "pull request 31170", "pull request 1630", "MLPerf 6.0",
)  # fmt: skip


@pytest.mark.parametrize("row", UNPREDICTED)
def test_what_cannot_be_predicted_is_named_with_the_reason(row: str) -> None:
    (line,) = (one for one in PAGES.splitlines() if "| no prediction: " in one and row in one)
    assert len(line.split(" | ")[2]) > 15


@pytest.mark.skipif(not COLLECTIONS.exists(), reason="the collection is not in the repository")
def test_every_row_of_the_collection_is_predicted_or_named() -> None:
    rows = pd.read_csv(COLLECTIONS / "offload" / "published_runs.csv")["id"]
    found = [run.run for pack in ("published", "offload_late") for run in read_pack(PACKS / pack)]
    left = [one for one in rows if not any(run.startswith(one) for run in found)]
    assert [one for one in left if f"| no prediction: {one} " not in PAGES] == []


def test_what_lies_outside_of_a_range_is_told_by_side() -> None:
    for row in ("the same without closed_loops | 85 %", "outside of the range, all packs"):
        assert f"| {row}" in PAGES
