"""Writing a calibrated part as YAML that is pleasant to read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from moesim.calibrate.fit import Fits
from moesim.config.errors import InputError
from moesim.config.files.files import write_whole
from moesim.config.params import Params
from moesim.config.strict_yaml.yaml import with_end_mark
from moesim.hardware.fitting.amounts import amount
from moesim.hardware.prices.calibrated import Calibrated, Estimate, Fit
from moesim.hardware.prices.left_out import HeldOut
from moesim.hardware.prices.ratio_table import RatioTable

FITTED = "fit-"
"""What the keys of a fit's sources start with."""


def profile_text(base: str, title: str, fits: Fits) -> str:
    """A profile's file: its base, sources, and the calibrated part."""
    lines = [f"title: {json.dumps(title)}", "sources:"]
    lines += [f"  {key}: {json.dumps(text)}" for key, text in fits.sources.items()]
    lines += [f"base: {json.dumps(base)}", *calibrated_lines(fits.calibrated)]
    return with_end_mark("\n".join(lines))


def write_profile(path: Path, text: str) -> None:
    """Write a profile's file; InputError for another suffix."""
    check_profile(path)
    write_whole(path, text)


def check_profile(path: Path) -> None:
    """An InputError where ``path`` has another suffix than a profile's file."""
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(f"--out '{path}': a profile is a .yaml file")


def calibrated_lines(part: Calibrated) -> list[str]:
    """The lines of the calibrated part."""
    lines = ["calibrated:"]
    for kind in Calibrated.model_fields:
        if fits := getattr(part, kind):
            lines.append(f"  {kind}:")
        for fit in fits:
            lines += _fit(fit)
    return lines


def _fit(fit: Fit) -> list[str]:
    lines: list[str] = []
    for name in type(fit).model_fields:
        value = getattr(fit, name)
        if isinstance(value, RatioTable):
            lines += _table(name, value)
        elif isinstance(value, tuple):
            lines += _shapes(name, value) if value else []
        elif value is not None:
            lines.append(f"{name}: {_value(name, value)}")
    return [f"    {'- ' if index == 0 else '  '}{text}" for index, text in enumerate(lines)]


def _table(name: str, table: RatioTable) -> list[str]:
    """A table of ratios, each shape on its own line."""
    lines = [f"{name}:"]
    for field in type(table).model_fields:
        value = getattr(table, field)
        if value is None:
            continue
        if not isinstance(value, str):
            lines.append(f"  {field}: {_value(field, value)}")
            continue
        lines += [f"  {field}: |", *(f"    {line}" for line in value.splitlines())]
    return lines


def _value(name: str, value: Any) -> str:
    """A value on one line: texts in quotes, estimates with units, mappings in braces."""
    if isinstance(value, Estimate):
        low, high = (amount(name, end) for end in value.interval)
        return f"{{value: {amount(name, value.value)}, interval: [{low}, {high}]}}"
    if isinstance(value, Params):
        value = value.model_dump()
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_entry(entry)}" for key, entry in value.items()) + "}"
    return json.dumps(value)


def _entry(value: Any) -> str:
    """A value of a mapping; a plain number's estimate with every digit."""
    if isinstance(value, HeldOut):
        return _value("", value)
    if not isinstance(value, Estimate):
        return json.dumps(value)
    low, high = map(_exact, value.interval)
    return f"{{value: {_exact(value.value)}, interval: [{low}, {high}]}}"


def _exact(number: float) -> str:
    """A number as YAML reads it: a power of ten needs a point."""
    text = repr(float(number))
    return text if "." in text else text.replace("e", ".0e")


def _shapes(name: str, shapes: tuple[Params, ...]) -> list[str]:
    """Entries with lists, one a shape, each list as a row of numbers on its own line."""
    lines = [f"{name}:"]
    for shape in shapes:
        values = shape.model_dump()
        lists = {key: list(value) for key, value in values.items() if isinstance(value, tuple)}
        plain = {key: value for key, value in values.items() if key not in lists}
        rows = (f'{key}: "{" ".join(map(str, value))}"' for key, value in lists.items())
        texts = [_value(name, plain)[1:-1], *rows]
        inner = ",\n".join(texts).split("\n")
        inner[0], inner[-1] = f"{{{inner[0]}", f"{inner[-1]}}}"
        lines += [f"  {'- ' if index == 0 else '   '}{text}" for index, text in enumerate(inner)]
    return lines


def with_calibration(text: str, fits: Fits) -> str:
    """A profile file's text with these fits in place of the calibrated part that it may have."""
    lines = text.split("\ncalibrated:\n", maxsplit=1)[0].rstrip().splitlines()
    lines = [line for line in lines if not line.startswith((f"  {FITTED}", "..."))]
    first = lines.index("sources:") + 1
    after = next(
        (at for at in range(first, len(lines)) if not lines[at].startswith("  ")), len(lines)
    )
    sources = [f"  {key}: {json.dumps(text)}" for key, text in fits.sources.items()]
    kept = [*lines[:after], *sources, *lines[after:]]
    return with_end_mark("\n".join([*kept, *calibrated_lines(fits.calibrated)]))
