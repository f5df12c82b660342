"""Tables of one's own with mistakes in them: one line for each mistake, not for each row."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from moesim.calibrate.tables.intake import Taken, base_of, intake
from moesim.config.errors import InputError
from moesim.hardware import load_hardware

HEAD = "op,dtype,tokens,hidden,inter,experts,top_k,latency_ns,device"
ROWS = [f"moe,bf16,{t},2048,768,128,8,{120_000 * t},L40" for t in range(1, 13)]
WHOLE = "\n".join([HEAD, *ROWS, ""])
L40 = load_hardware("l40")


def taken(folder: Path, text: str, coded: str = "utf-8") -> Taken:
    path = folder / "k.csv"
    path.write_bytes(text.encode(coded))
    return intake([path], L40)


def without(column: str) -> str:
    place = HEAD.split(",").index(column)
    lines = (line.split(",") for line in WHOLE.splitlines())
    return "\n".join(",".join([*cells[:place], *cells[place + 1 :]]) for cells in lines)


def renamed(old: str, new: str) -> str:
    return WHOLE.replace(old, new, 1)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "cannot be read"),
        (f"{HEAD}\n", "k.csv: has no rows$"),
        (without("latency_ns"), "has no column 'latency_ns', which 'moe' needs$"),
        (without("top_k"), "has no column 'top_k', which 'moe' needs$"),
        (renamed("latency_ns", "latency_us"), "its 'latency_us' is not known: write latency_ns"),
        (renamed("hidden", "hiden"), "its 'hiden' is not known: write hidden"),
        (WHOLE.replace(",", ";"), "has no column 'op', .*; separate columns by commas$"),
        (WHOLE.replace("bf16", "bf61"), r"k.csv:2, and 11 rows more: left out: 'bf61' is no dtype"),
    ],
)
def test_a_mistake_in_every_row_is_one_line(tmp_path: Path, text: str, what: str) -> None:
    with pytest.raises(InputError, match=what) as caught:
        taken(tmp_path, text)
    assert len(str(caught.value).splitlines()) <= 2


def test_a_table_without_rows_is_told_before_its_device_is_looked_for(tmp_path: Path) -> None:
    path = tmp_path / "k.csv"
    path.write_text(f"{HEAD}\n")
    with pytest.raises(InputError, match="has no rows"):
        base_of([path], None)


@pytest.mark.parametrize("coded", ["utf-8-sig", "utf-16"])
@pytest.mark.parametrize("ending", ["\n", "\r\n", "\r\n\r\n"])
def test_any_spreadsheets_form_is_read(tmp_path: Path, coded: str, ending: str) -> None:
    found = taken(tmp_path, WHOLE.replace("\n", ending), coded)
    assert (len(found.table), found.told) == (12, [])


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda text: text + ROWS[0] + "\n", "k.csv:14: in the table before, word for word"),
        (lambda text: text + "\n".join(ROWS), "counted again: 12 rows"),
        (lambda text: text.replace("device", "devise"), "'devise' is not read; did you mean"),
        (lambda text: text.replace("120000,", "nan,", 1), "k.csv:2: left out: 'latency_ns' is not"),
    ],
)  # fmt: skip
def test_what_may_be_wrong_is_told_once(
    tmp_path: Path, change: Callable[[str], str], told: str
) -> None:
    (line,) = taken(tmp_path, change(WHOLE)).told
    assert told in line


@pytest.mark.parametrize("own", ["mine", "run", "note", "stop", "latency_p99"])
def test_columns_of_ones_own_are_no_mistakes(tmp_path: Path, own: str) -> None:
    named = [f"{HEAD},{own}", *(f"{row},{place}" for place, row in enumerate(ROWS))]
    assert taken(tmp_path, "\n".join(named)).told == []


def test_times_in_another_unit_are_one_line(tmp_path: Path) -> None:
    """Their numbers differ, and the reason is one."""
    slow = [f"moe,bf16,{t},2048,768,128,8,{120_000 * t},L40" for t in range(20, 24)]
    fast = [row.rsplit(",", 2)[0] + f",{120 * t},L40" for t, row in enumerate(ROWS, 1)]
    (line,) = taken(tmp_path, "\n".join([HEAD, *slow, *fast])).told
    assert "k.csv:6, and 11 rows more: left out: 120 ns is faster than the datasheet allows" in line
