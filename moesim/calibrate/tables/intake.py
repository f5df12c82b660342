"""Tables as a fit or a check takes them: valid, and possible on the card."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pandas as pd

from moesim.calibrate.tables.limits import within
from moesim.config.errors import InputError
from moesim.hardware import HardwareProfile, load_hardware
from moesim.hardware.choice import is_choice
from moesim.hardware.load import machine_named
from moesim.hardware.measurements.table import read_table
from moesim.hardware.measurements.validate import valid

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


@dataclass
class Taken:
    """The usable rows of all tables together, and one line for each row that was left out."""

    table: pd.DataFrame
    told: list[str] = field(default_factory=list)


def intake(paths: Sequence[Path], profile: HardwareProfile) -> Taken:
    """Read tables and leave out what cannot be; InputError where nothing remains."""
    tables, told = [], []
    for path in paths:
        clean, wrong = valid(read_table(path))
        possible, impossible = within(clean, profile)
        tables.append(possible)
        told += [f"{path}:{line}: left out: {what}" for line, what in sorted(wrong + impossible)]
    table = pd.concat(tables, ignore_index=True)
    if table.empty:
        whats = told[:20] or ["no rows"]
        raise InputError("\n".join([*whats, "nothing is left to use"]))
    return Taken(table, told)


def base_of(paths: Sequence[Path], base: str | None) -> tuple[HardwareProfile, str]:
    """The profile ``base``, or the shipped one, or GPU, of the tables' only ``device``; and its
    name.
    """
    if base is not None:
        name = base if is_choice(base) else machine_named(base) or str(Path(base).resolve())
        return load_hardware(base), name
    devices = sorted({str(d) for path in paths for d in _devices(read_table(path))})
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
