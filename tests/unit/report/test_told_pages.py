"""Pages of studies of several runs, which are made of what they wrote beside their tables."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.report.amounts import heading
from moesim.report.page import page_of
from moesim.report.page.render import html
from moesim.report.page.told import Told, ToldTable, write_told

HOSTILE = "</script><img src=x onerror=alert(1)>"
TOLD: dict[str, Any] = {
    "kind": "search", "title": HOSTILE, "verdict": [HOSTILE, "so"], "trust": [HOSTILE],
    "board": {"title": HOSTILE, "file": "points.csv", "axes": ["name"], "best": 1},
    "figures": {"a.svg": HOSTILE},
}  # fmt: skip


def study(folder: Path, **changes: Any) -> Path:
    (folder / "points.csv").write_text(
        f'name,kept,mean_tpot_ms\n"{HOSTILE}",True,1.5\nb,False,\n', encoding="utf-8"
    )
    (folder / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (folder / "report.json").write_text(json.dumps(TOLD | changes))
    return folder


def test_its_page_has_the_table_with_filters_and_no_markup_of_texts(tmp_path: Path) -> None:
    page = page_of(study(tmp_path))
    assert page.board is not None
    assert [one.heading for one in page.board.columns] == ["name", "kept", "mean tpot ms"]
    assert page.board.rows == [(HOSTILE, "yes", "1.500"), ("b", "no", "-")]
    assert page.points[1] == {"c0": "b", "c1": "no", "c2": None}
    text = html(page)
    assert "<img src=x" not in text
    assert 'class="best"><td class="name">b</td>' in text
    assert "data:image/svg+xml;base64," in text


def test_the_unit_of_a_column_is_written_as_people_do() -> None:
    assert heading("low_tokens_per_s") == "low tokens/s"
    assert heading("error_percent") == "error %"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"board": {"title": "a", "file": "../points.csv"}}, "board.file"),
        ({"figures": {"/etc/passwd.svg": "a"}}, "figures"),
        ({"verdict": []}, "verdict"),
        ({"board": {"title": "a", "file": "none.csv"}}, "none.csv: there is no such file"),
        ({"board": {"title": "a", "file": "points.csv", "columns": ["x"]}}, "is no table of this"),
    ],
)
def test_what_points_outside_or_is_gone_is_refused(
    changes: dict[str, Any], told: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=told):
        page_of(study(tmp_path, **changes))


def test_what_is_written_is_what_is_read(tmp_path: Path) -> None:
    study(tmp_path)
    board = ToldTable(title="Runs", file="points.csv")
    write_told(Told(kind="study", title="T", verdict=["v"], board=board), tmp_path)
    page = page_of(tmp_path)
    assert (page.kind, page.title, page.board_of, page.verdict) == ("study", "T", "Runs", ["v"])


def test_a_search_is_a_page(tmp_path: Path) -> None:
    tiny = {
        "name": "tiny",
        "model": "small-moe",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/small-moe.parquet",
        "workload": {"requests": 4, "batching": {"kind": "static", "batch_size": 1}},
    }
    path, limit = "workload.batching.batch_size", "mean_tpot_ms<=0.001"
    _, folder = moesim.search(tiny, path, [limit], out=tmp_path / "out")
    page = page_of(folder)
    assert page.verdict[0].startswith("No batch size keeps the limits: even at 1 mean_tpot_ms is ")
    assert page.board is not None
    assert page.board.best is None
    numbers = [one.heading for one in page.board.columns if one.values is not None]
    assert numbers == ["workload.batching.batch size", "mean tpot ms", "value"]
    assert page.setting == "small-moe on rtx-4060-8gb, small-moe"
    assert len(page.pictures) == 1
    moesim.write_report(folder)
    moesim.search(tiny, path, [limit], out=folder)  # a page in its folder is in nobody's way
