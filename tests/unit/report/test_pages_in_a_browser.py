"""Pages of every kind as people see them: nothing is fetched, no barrier, no sideways scrolling, in
both themes, with and without scripts; what filters, sorts and picks does so.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moesim
from moesim.report.page.content import Board, Column, Page, Picture
from moesim.report.page.render import write
from moesim.report.page.told import Told, ToldTable, write_told
from moesim.results import write_result
from tests.browser import CHROMIUM, Browser
from tests.unit.report import choosers
from tests.unit.results import factory

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: no page is looked at")
HOSTILE = "</script><img src=x onerror='window.hit=1'>"
STUDIES = ("search", "sensitivity", "evidence", "reproduce")
KINDS = ("run", "sweep", "chooser", "comparison", "hostile", *STUDIES)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as one:
        yield one


def study(folder: Path, kind: str) -> Path:
    """What a study of several runs leaves in its folder, with texts of an attacker."""
    folder.mkdir()
    table = pd.DataFrame({"name": [HOSTILE, "b"], "kept": [True, False], "mean_tpot_ms": [1.5, 2]})
    table.to_csv(folder / "points.csv", index=False)
    (folder / "a.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>")
    board = ToldTable(title="Runs", file="points.csv", axes=["name"], best=1)
    write_told(
        Told(kind=kind, title=HOSTILE, verdict=[HOSTILE], board=board, tables=[board],
             figures={"a.svg": HOSTILE}, trust=[HOSTILE], experiment=HOSTILE),
        folder,
    )  # fmt: skip
    return folder


def hostile() -> Page:
    columns = [Column(HOSTILE, [HOSTILE, "b"], axis="a"), Column("tokens/s", ["1", "-"], [1, None])]
    board = Board(columns, 0, [HOSTILE] * 7)
    return Page(
        kind="sweep", title=HOSTILE, setting=HOSTILE, verdict=[HOSTILE], command=[HOSTILE] * 2,
        board=board, tables=[(HOSTILE, board)], shares={HOSTILE: 1.0}, ledger=[(HOSTILE, HOSTILE)],
        facts=[(HOSTILE, HOSTILE)], trust=[HOSTILE], experiment=HOSTILE, made=[(HOSTILE, HOSTILE)],
        pictures=[Picture(HOSTILE, "<svg xmlns='http://www.w3.org/2000/svg'/>")],
    )  # fmt: skip


@pytest.fixture(scope="module")
def pages(sweep: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind."""
    folder = tmp_path_factory.mktemp("pages")
    run = write_result(factory.result(), folder / "run")
    found = {kind: folder / f"{kind}.html" for kind in KINDS}
    moesim.write_report(run, found["run"])
    moesim.write_report(sweep, found["sweep"])
    moesim.write_report(choosers.make(folder / "chooser"), found["chooser"])
    moesim.compare(sweep, sweep, out=found["comparison"])
    write(hostile(), found["hostile"])
    for kind in STUDIES:
        moesim.write_report(study(folder / kind, kind), found[kind])
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("width", "dark"), [(1280, False), (400, True)])
def test_nothing_is_fetched_and_nobody_kept_out(
    kind: str, width: int, *, dark: bool, browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages[kind], width=width, dark=dark)
    assert tab.barriers() == []
    assert tab.overflow() == []
    assert tab.fetched() == []
    assert tab.failures() == []
    assert tab.run("window.hit") is None
    tab.close()


@pytest.mark.parametrize("kind", KINDS)
def test_without_scripts_everything_but_boxes_and_charts_is_there(
    kind: str, browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages[kind], scripts=False)
    assert tab.texts("#verdict .answer") != [""]
    assert tab.texts("#filters, #explore, #choose") == []
    text = pages[kind].read_text(encoding="utf-8")
    assert len(tab.texts("tbody tr")) == text.count("<tr") - text.count("<thead><tr")
    tab.close()


def click(text: str, within: str) -> str:
    """A script that clicks on what says ``text``."""
    return (
        f"[...document.querySelectorAll('{within}')].find((one) => one.textContent.trim() === "
        f"{text!r}).click()"
    )


def test_filters_and_headings_change_the_rows(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["sweep"])
    rows = "#points tbody tr"
    assert len(tab.texts(rows)) == 16
    boxes = [text.strip() for text in tab.texts("#filters fieldset:first-child label")]
    assert boxes == ["4 slots/layer", "8 slots/layer", "12 slots/layer", "16 slots/layer"]
    drawn = "#chart [aria-roledescription='point']"
    assert tab.settled(drawn, 12)
    tab.run(click("lfu", "#filters label"))
    assert len(tab.texts(rows)) == 12
    assert not any("lfu" in row for row in tab.texts(rows))
    assert tab.settled(drawn, 9)
    speeds = "#points tbody tr td:nth-child(3)"
    tab.run(click("tokens/s", "#points th button"))
    assert tab.texts(speeds) == sorted(tab.texts(speeds), key=order, reverse=True)
    tab.run(click("tokens/s", "#points th button"))
    numbers = [one for one in tab.texts(speeds) if one != "-"]
    assert numbers == sorted(numbers, key=order)
    tab.run(click("none", "#filters legend button"))
    assert tab.texts(rows) == []
    tab.run(click("all", "#filters legend button"))
    assert len(tab.texts(rows)) == 12
    tab.close()


def order(text: str) -> float:
    """A number of a table; a dash stands last."""
    return -1.0 if text == "-" else float(text.replace(",", ""))


def test_a_map_has_a_cell_for_each_two_values(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["sweep"])
    choose(tab, "#controls select", 0, "map")
    assert tab.settled("#chart [aria-roledescription='rect mark container'] path", 12)
    choose(tab, "#controls select", 0, "lines")
    assert tab.settled("#chart .mark-line path", 12)
    assert tab.failures() == []
    tab.close()


def choose(tab: Any, selector: str, which: int, value: str) -> None:
    """Pick a value as a visitor does."""
    tab.run(
        f"(() => {{ const one = document.querySelectorAll('{selector}')[{which}];"
        f" one.value = '{value}'; one.dispatchEvent(new Event('change')); }})()"
    )


def test_a_visitor_picks_and_sees_the_line(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["chooser"], "#choose:0,1")
    assert tab.texts("#answers tbody tr td.number") == ["60", "32", "110", "1.667", "1"]
    assert tab.texts("#gone li") == []
    tab.run("document.getElementById('lacking').open = true")
    (gone,) = tab.texts("#gone li")
    assert gone == "all experts on the GPU: out of memory: weights do not fit"
    choose(tab, "#picks select", 1, "-1")
    assert tab.run("location.hash") == "#choose:0,*"
    assert [row[:2] for row in tab.texts("#answers tbody tr")] == ["g1", "g1", "g2"]
    tab.close()


def test_the_page_of_a_sweep_that_goes_on_loads_itself_again(browser: Browser, sweep: Path) -> None:
    from moesim.report.page.of_sweep import RELOADS_S, page_so_far

    page = sweep / "report.html"
    write(page_so_far(sweep), page)
    tab = browser.open(page)
    again = tab.run("document.querySelector('meta[http-equiv=refresh]').content")
    assert again == str(RELOADS_S)
    page.unlink()
    tab.close()
