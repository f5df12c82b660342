"""Tables as a fit or a check takes them: valid, and possible on the card."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path

import pandas as pd

from moesim.calibrate.tables.limits import within
from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.choice import is_choice
from moesim.hardware.load import machine_named
from moesim.hardware.measurements.columns import COLUMNS, SHAPES
from moesim.hardware.measurements.table import read_table
from moesim.hardware.measurements.validate import LINE, Finding, valid

DEVICES = {
    "a100-sxm-80gb": ("a100-sxm4-80gb",),
    "b200-sxm": ("b200",),
    "b300-sxm": ("b300",),
    "gb200": ("gb200",),
    "gb300": ("gb300",),
    "h100-sxm": ("h100 80gb hbm3", "h100-sxm"),
    "h200-sxm": ("h200",),
    "l40s": ("l40s",),
    "quadro-rtx-6000": ("quadro rtx 6000",),
    "rtx-3060-12gb": ("rtx 3060",),
    "rtx-4060-8gb": ("rtx 4060",),
    "rtx-4090": ("rtx 4090",),
    "rtx-5090": ("rtx 5090",),
    "rtx-pro-6000": ("rtx pro 6000",),
    "v100-sxm2-32gb": ("v100-sxm2-32gb",),
}
"""What the driver's name of each shipped card contains."""


ALIKE = 0.8
"""How like a known column's name one is that is told as it misspelt: columns may be anyone's."""
FEW = 3
"""Rows more that are left out for one reason: as many are told in one line."""
_NUMBER = re.compile(r"(?<![\w.-])\d[\d,.]*")


@dataclass
class Taken:
    """The usable rows of all tables together, and one line for each row that was left out."""

    table: pd.DataFrame
    told: list[str] = field(default_factory=list)


def intake(paths: Sequence[Path], profile: HardwareProfile) -> Taken:
    """Read tables and leave out what cannot be; InputError where nothing remains."""
    tables, told = [], []
    for path in paths:
        frame = read_table(path)
        check_columns(frame, path)
        clean, wrong = valid(frame)
        possible, impossible = within(clean, profile)
        tables.append(possible)
        told += [*doubts(frame, path), *left_out(sorted(wrong + impossible), path)]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        whats = told[:20] or ["no rows"]
        raise InputError("\n".join([*whats, "nothing is left to use"]))
    return Taken(table, told)


def check_columns(frame: pd.DataFrame, path: Path) -> None:
    """An InputError where no row can be used: there are none, or each needs a column that the
    table does not have.
    """
    if frame.empty:
        raise InputError([Problem(str(path), "", "has no rows")])
    needed = {op: (*SHAPES[op], "latency_ns") for op in frame["op"].unique() if op in SHAPES}
    absent = {op: set(names) - set(frame.columns) for op, names in needed.items()}
    if not absent or not all(absent.values()):
        return
    (op, names), *_ = absent.items()
    first = next(name for name in needed[op] if name in names)
    what = f"has no column '{first}', which '{op}' needs{_near(first, frame)}"
    raise InputError([Problem(str(path), "", what)])


def _near(name: str, frame: pd.DataFrame) -> str:
    """The unknown column that may be meant by ``name``, with what to write."""
    unknown = [str(one) for one in frame.columns if one not in (*COLUMNS, LINE)]
    found = next(iter(get_close_matches(name, unknown, n=1, cutoff=ALIKE)), None)
    return f"; its '{found}' is not known: write {name}, in that unit" if found else ""


def doubts(frame: pd.DataFrame, path: Path) -> Iterator[str]:
    """A line for each column that may be a known one misspelt, and one for rows that stand in the
    table more than once.
    """
    absent = [name for name in COLUMNS if name not in frame.columns]
    for name in (str(one) for one in frame.columns if one not in (*COLUMNS, LINE)):
        for found in get_close_matches(name, absent, n=1, cutoff=ALIKE):
            yield f"{path}: the column '{name}' is not read; did you mean '{found}'?"
    again = frame.drop(columns=LINE).astype(str).duplicated().to_numpy()
    if again.any():
        first = frame[LINE].to_numpy()[again][0]
        rows = counted(int(again.sum()), "row")
        yield f"{path}:{first}: in the table before, word for word, and counted again: {rows}"


def left_out(findings: Iterable[Finding], path: Path) -> Iterator[str]:
    """A line for each finding; of several that differ in their numbers alone the first."""
    alike: dict[str, list[Finding]] = {}
    for one in findings:
        alike.setdefault(_NUMBER.sub("", one.what), []).append(one)
    for first, *others in alike.values():
        more = f", and {counted(len(others), 'row')} more" if len(others) >= FEW else ""
        for one in (first, *(() if more else others)):
            yield f"{path}:{one.line}{more}: left out: {one.what}"


def base_of(paths: Sequence[Path], base: str | None) -> tuple[HardwareProfile, str]:
    """The profile ``base``, or the shipped one, or GPU, of the tables' only ``device``; and its
    name.
    """
    if base is not None:
        name = base if is_choice(base) else machine_named(base) or str(Path(base).resolve())
        return load_hardware(base), name
    frames = {path: read_table(path) for path in paths}
    for path, frame in frames.items():
        check_columns(frame, path)
    devices = sorted({str(d) for frame in frames.values() for d in _devices(frame)})
    if len(devices) != 1:
        raise InputError(
            f"the tables name {len(devices)} devices ({', '.join(devices) or 'none'}); one is"
            " fitted at a time: name its profile with --base"
        )
    if (found := shipped_profile(devices[0]) or machine_named(devices[0])) is None:
        raise InputError(
            f"no shipped profile and no GPU of 'moesim list gpus' is '{devices[0]}'; name one with"
            " --base, or a file of yours with its numbers: base: a near one, datasheet: {...}"
        )
    return load_hardware(found), found


def shipped_profile(device: str) -> str | None:
    """The only shipped profile of a device of that name."""
    found = [name for name, parts in DEVICES.items() if any(_is(p, device) for p in parts)]
    return found[0] if len(found) == 1 else None


def _is(part: str, device: str) -> bool:
    """Whether a driver's name has ``part`` as a word, and no word after it of another card."""
    pattern = rf"(?<![a-z0-9]){re.escape(part)}(?![a-z0-9]| (ti|super|d|laptop|mobile|max-q)\b)"
    return re.search(pattern, device.lower()) is not None


def _devices(table: pd.DataFrame) -> list[object]:
    return list(table["device"].dropna().unique()) if "device" in table.columns else []
