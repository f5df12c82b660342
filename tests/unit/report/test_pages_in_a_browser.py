"""Pages of every kind as people see them: nothing is fetched, no barrier, no sideways scrolling, in
both themes, with and without scripts; what filters, sorts and picks does so.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import moesim
from moesim.report.page.content import Board, Column, Page, Picture
from moesim.report.page.render import MOST_ROWS, write
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
    text = re.sub(r"<script>.*?</script>", "", pages[kind].read_text("utf-8"), flags=re.DOTALL)
    assert len(tab.texts("tbody tr")) == text.count("<tr") - text.count("<thead><tr")
    tab.close()


@pytest.mark.parametrize("kind", KINDS)
def test_in_print_nothing_is_cut_or_dark(
    kind: str, browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages[kind], width=720, dark=True)
    dark = {"name": "prefers-color-scheme", "value": "dark"}
    tab.call("Emulation.setEmulatedMedia", media="print", features=[dark])
    assert tab.run("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    cut = "[...document.querySelectorAll('.wide')].filter((one) => one.scrollWidth > 722).length"
    assert tab.run(cut) == 0
    assert tab.texts("#filters, #explore") == []
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


def test_no_front_is_of_points_that_know_the_future(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages["sweep"])
    peak = tab.run(
        "[...document.querySelectorAll('#controls select')[2].options].find((one) =>"
        " one.textContent === 'peak GiB').value"
    )
    choose(tab, "#controls select", 2, peak)
    assert tab.settled("#chart .mark-line path", 1)
    assert tab.settled("#chart [aria-roledescription='point']", 12)
    points = tab.run(
        "[...document.querySelectorAll(`#chart [aria-roledescription='point']`)].map((one) =>"
        " [one.ariaLabel, Number(/,([\\d.]+)\\)/.exec(one.getAttribute('transform'))[1])])"
    )
    line = tab.run("document.querySelector('#chart .mark-line path').getAttribute('d')")
    highest = min(float(y) for y in re.findall(r"[ML][\d.]+,([\d.]+)", line))
    able = min(y for told, y in points if "policy: min" not in told)
    assert highest == pytest.approx(able, abs=0.01)
    assert min(y for _, y in points) < able - 1
    tab.close()


def drag(tab: Any, column: str, start: float, end: float) -> None:
    """Drag along the axis of ``column``, from a share of its height to another, from the top."""
    x, y, tall = tab.run(
        f"(() => {{ const one = document.querySelector(`.strip[data-column='{column}']`);"
        "one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y, box.height]; })()"
    )
    for kind, share in (("Pressed", start), ("Moved", end), ("Released", end)):
        tab.call("Input.dispatchMouseEvent", type=f"mouse{kind}", x=x, y=y + share * tall,
                 button="left", buttons=1, clickCount=1)  # fmt: skip


def test_a_drag_along_an_axis_keeps_the_rows_between(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages["sweep"])
    choose(tab, "#controls select", 0, "lines")
    assert tab.settled("#chart .mark-line path", 12)
    assert tab.settled(".strip[data-column='tokens/s']", 1)
    speeds = "#points tbody tr td:nth-child(3)"
    ran = [float(one) for one in tab.texts(speeds) if one != "-"]
    middle = (min(ran) + max(ran)) / 2
    drag(tab, "tokens/s", 0.0, 0.5)
    kept = [float(one) for one in tab.texts(speeds)]
    assert sorted(kept) == sorted(one for one in ran if one >= middle)
    faint = "#chart .mark-line path[opacity='0.06']"
    assert tab.settled(faint, len(ran) - len(kept))
    drag(tab, "policy", 0.0, 0.1)
    assert [one for one in tab.texts("#held button") if "policy" in one] == ["policy: min \u00d7"]
    assert {*tab.texts("#points tbody tr td:nth-child(2)")} == {"min"}
    drag(tab, "policy", 0.5, 0.5)
    drag(tab, "tokens/s", 0.5, 0.5)
    assert tab.texts("#held button") == []
    assert len(tab.texts("#points tbody tr")) == 16
    assert tab.failures() == []
    tab.close()


def test_a_range_by_hand_keeps_the_rows_between(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["sweep"])
    tab.run(
        "(() => { const one = document.getElementById('range-from'); one.value = '20';"
        " one.dispatchEvent(new Event('change')); })()"
    )
    kept = tab.texts("#points tbody tr td:nth-child(3)")
    assert kept
    assert min(map(float, kept)) >= 20
    assert tab.texts("#held button") == ["tokens/s: 20 to any \u00d7"]
    assert tab.barriers() == []
    tab.run("document.querySelector('#held button').click()")
    assert len(tab.texts("#points tbody tr")) == 16
    tab.close()


def type_range(tab: Any, column: str, low: float) -> None:
    """Keep what is at least ``low`` in ``column``, as a visitor types it."""
    tab.run(
        "(() => { const change = (id, value) => { const one = document.getElementById(id);"
        " one.value = value; one.dispatchEvent(new Event('change')); };"
        " change('ranged', [...document.getElementById('ranged').options].find((one) =>"
        f" one.textContent === '{column}').value); change('range-from', {low}); }})()"
    )


def test_what_is_typed_and_told_of_a_point_is_in_the_unit_of_the_table(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages["sweep"])
    heads = tab.texts("#points th button")
    cells = f"#points tbody tr td:nth-child({heads.index('hits %') + 1})"
    hits = [one for one in tab.texts(cells) if one != "-"]
    middle = sorted(map(float, hits))[len(hits) // 2]
    type_range(tab, "hits %", middle)
    assert sorted(map(float, tab.texts(cells))) == sorted(
        one for one in map(float, hits) if one >= middle
    )
    tab.run("document.querySelector('#held button').click()")
    drawn = "#chart [aria-roledescription='point']"
    assert tab.settled(drawn, 12)
    x, y = tab.run(
        f"(() => {{ const one = document.querySelector(`{drawn}`);"
        " one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
        " return [box.x + box.width / 2, box.y + box.height / 2]; })()"
    )
    tab.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)
    told = dict(line.split(": ", 1) for line in tab.run("chart.title").splitlines())
    rows = [
        dict(zip(heads, row, strict=True))
        for row in tab.run(
            "[...document.querySelectorAll('#points tbody tr')]"
            ".map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
    ]
    (row,) = (one for one in rows if all(one[key] == told[key] for key in heads[:2]))
    assert {key: float(told[key]) for key in ("hits %", "peak GiB", "tokens/s")} == pytest.approx(
        {key: float(row[key]) for key in ("hits %", "peak GiB", "tokens/s")}, rel=0.01, abs=0.051
    )
    tab.close()


@pytest.mark.parametrize("width", [1280, 400])
def test_points_are_as_wide_as_the_window_has_room(
    width: int, browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages["sweep"], width=width)
    assert tab.settled("#chart svg", 1)
    inside, drawn = tab.run(
        "[chart.clientWidth, chart.firstElementChild.getBoundingClientRect().width]"
    )
    assert inside - 3 <= drawn <= inside
    tab.close()


def test_a_colour_stays_one_value_s_and_nothing_left_is_said(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages["sweep"])
    colours = (
        "Object.fromEntries([...document.querySelectorAll(`#chart"
        " [aria-roledescription='point']`)].map((one) => [/policy: (\\w+)/"
        ".exec(one.ariaLabel)[1], one.getAttribute('fill')]))"
    )
    assert tab.settled("#chart [aria-roledescription='point']", 12)
    before = tab.run(colours)
    tab.run(click("lru", "#filters label"))
    assert tab.settled("#chart [aria-roledescription='point']", 9)
    after = tab.run(colours)
    assert len(set(before.values())) == 4
    assert after == {name: colour for name, colour in before.items() if name != "lru"}
    tab.run(click("none", "#filters legend button"))
    assert tab.texts("#chart") == ["No row that is left has a number of tokens/s."]
    tab.close()


def test_rows_are_sorted_by_what_stands_there(browser: Browser, tmp_path: Path) -> None:
    board = Board([
        Column("size", ["big", "small", "mid"], axis="size", order=["small", "mid", "big"]),
        Column("rate", ["0.5", "0.25", "10"], axis="rate"),
        Column("interval", ["9.5-9.9", "1,204-1,300", "-"]),
        Column("tokens/s", ["1", "2", "3"], [1.0, 2.0, 3.0]),
    ])  # fmt: skip
    page = Page(kind="sweep", title="t", setting="", verdict=["a"], board=board)
    write(page, tmp_path / "a.html")
    tab = browser.open(tmp_path / "a.html")
    for place, (name, expected) in enumerate({
        "size": ["small", "mid", "big"],
        "rate": ["0.25", "0.5", "10"],
        "interval": ["9.5-9.9", "1,204-1,300", "-"],
    }.items(), start=1):  # fmt: skip
        tab.run(click(name, "#points th button"))
        assert tab.texts(f"#points tbody td:nth-child({place})") == expected
    tab.close()


def test_what_nobody_measured_is_at_first_in_the_middle(
    browser: Browser, pages: dict[str, Path]
) -> None:
    tab = browser.open(pages["chooser"])
    ticked = tab.run(
        "[...document.querySelectorAll('#filters fieldset')].find((one) =>"
        " one.textContent.includes('expert fraction')).querySelectorAll('input:checked').length"
    )
    assert ticked == 1
    shares = tab.texts("#points tbody tr td:nth-child(4)")
    assert set(shares) == {"50 %"}
    assert tab.texts("#points caption") == ["24 rows; the best has a star. 8 of them are below."]
    tab.run(click("all", "#filters legend button"))
    assert len(tab.texts("#points tbody tr")) == 24
    tab.close()


MANY = 10_000


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of ten thousand rows."""
    policies = [("lru", "lfu", "min")[at % 3] for at in range(MANY)]
    batches = [str(at % 7) for at in range(MANY)]
    speeds = [float(at) for at in range(MANY)]
    board = Board([
        Column("policy", policies, axis="policy"), Column("batch", batches, axis="batch"),
        Column("tokens/s", [f"{one:,.0f}" for one in speeds], speeds),
        Column("note", [f"{HOSTILE}\n{at}" for at in range(MANY)]),
    ], MANY - 1)  # fmt: skip
    path = tmp_path_factory.mktemp("many") / "many.html"
    write(Page(kind="sweep", title="many", setting="", verdict=["a"], board=board), path)
    return path


def test_of_many_rows_few_are_made_until_they_are_asked_for(browser: Browser, many: Path) -> None:
    tab = browser.open(many)
    rows, count = "#points tbody tr", "document.querySelectorAll('tr').length"
    assert tab.run(count) == 1 + MOST_ROWS
    assert tab.settled("#chart [aria-roledescription='rect mark container'] path", 21)
    tab.run(click("tokens/s", "#points th button"))
    shown = tab.texts(rows)
    assert len(shown) == MOST_ROWS
    assert shown[0] == f"lru39,999{HOSTILE} 9999"
    tab.run(click("200 more", "p button"))
    assert len(tab.texts(rows)) == 2 * MOST_ROWS
    tab.run(click("lru", "#filters label"))
    assert len(tab.texts(rows)) == MOST_ROWS
    assert tab.texts("caption") == [
        "10,000 rows; the best has a star. The first 200 of 6,666 are below."
    ]
    tab.run(click("all of them", "p button"))
    assert len(tab.texts(rows)) == 6_666
    assert tab.run("window.hit") is None
    assert tab.failures() == []
    tab.close()


def test_many_rows_are_all_there_without_scripts(browser: Browser, many: Path) -> None:
    tab = browser.open(many, scripts=False)
    assert tab.run("document.querySelectorAll('tbody tr').length") == MANY
    assert tab.overflow() == []
    tab.close()


def choose(tab: Any, selector: str, which: int, value: str) -> None:
    """Pick a value as a visitor does."""
    tab.run(
        f"(() => {{ const one = document.querySelectorAll('{selector}')[{which}];"
        f" one.value = '{value}'; one.dispatchEvent(new Event('change')); }})()"
    )


def test_a_visitor_picks_and_sees_the_line(browser: Browser, pages: dict[str, Path]) -> None:
    tab = browser.open(pages["chooser"], "#choose:0,1")
    assert tab.texts("#answers tbody tr td.number") == ["60", "32", "110", "16.67", "1.667", "1"]
    assert tab.texts("#gone li") == []
    tab.run("document.getElementById('lacking').open = true")
    (gone,) = tab.texts("#gone li")
    assert gone == "all experts on the GPU: out of memory: weights do not fit"
    choose(tab, "#picks select", 1, "-1")
    assert tab.run("location.hash") == "#choose:0,*"
    assert [row[:2] for row in tab.texts("#answers tbody tr")] == ["g1", "g1", "g2"]
    picked = "[...document.querySelectorAll('#picks select')].slice(0, 2).map((one) => one.value)"
    for address, expected in (("#choose:1,1", ["1", "1"]), ("#choose:9,x", ["1", "1"]),
                              ("#board", ["1", "1"]), ("#choose:9,*", ["-1", "-1"])):  # fmt: skip
        tab.run(f"new Promise((done) => {{ location.hash = '{address}'; setTimeout(done, 50); }})")
        assert tab.run(picked) == expected, address
    tab.close()


def test_a_command_is_broken_between_its_words_and_copied_whole(
    browser: Browser, tmp_path: Path
) -> None:
    line = "vllm serve openai/gpt-oss-120b " + " ".join(f"--flag-number-{n} {n}" for n in range(30))
    page = tmp_path / "command.html"
    write(Page(kind="run", title="t", setting="", verdict=["a"], command=[line]), page)
    tab = browser.open(page, width=400)
    assert tab.overflow() == []
    tall = "[...document.querySelectorAll('.word')].map((one) => one.getClientRects().length)"
    assert set(tab.run(tall)) == {1}
    heights = tab.run("[...document.querySelectorAll('.word')].map((one) => one.offsetHeight)")
    assert len(set(heights)) == 1
    copied = tab.run(
        "(getSelection().selectAllChildren(document.querySelector('#command pre')),"
        " getSelection().toString())"
    )
    assert copied.strip() == line
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
