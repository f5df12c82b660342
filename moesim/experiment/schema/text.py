"""An experiment as YAML text, alone or with the origin of each value."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

import yaml

from moesim.config.document import Steps, dotted
from moesim.config.strict_yaml.numbers import plain_scalar
from moesim.experiment.schema.experiment import Experiment

_INDENT = "  "
_WIDEST = 60
_PLAIN = re.compile(r"[A-Za-z0-9_./](?:[A-Za-z0-9_./%+ -]*[A-Za-z0-9_./%+-])?")
_PLAIN_KEY = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_., -]*")


def mapping_text(value: Mapping[str, Any]) -> str:
    """Plain data as a YAML file that reads as the same data, a line a value."""
    rows = _rows(value)
    return "".join(f"{text}\n" for text, _ in rows)


def annotated_text(experiment: Experiment, origins: Mapping[str, str]) -> str:
    """``experiment`` as a YAML file that reads as the same experiment, with a comment at the right
    of each value: where it came from.
    """
    rows = list(_rows(experiment.model_dump(mode="json")))
    width = min(max(len(text) for text, _ in rows), _WIDEST)
    lines = []
    for text, path in rows:
        origin = origins.get(dotted(path))
        lines.append(f"{text:<{width}}  # {origin}" if origin else text)
    return "\n".join(lines)


def _rows(value: Mapping[str, Any], path: Steps = ()) -> Iterator[tuple[str, Steps]]:
    """One line for each key: its text and its path; ``kind`` comes first."""
    for key in sorted(value, key=lambda key: key != "kind"):
        entry, place = value[key], (*path, key)
        start = f"{_INDENT * len(path)}{_key(key)}:"
        if isinstance(entry, Mapping) and entry:
            yield start, place
            yield from _rows(entry, place)
        else:
            yield f"{start} {flow(entry)}", place


def flow(value: Any) -> str:
    """``value`` on one line, as it reads back."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_key(key)}: {flow(entry)}' for key, entry in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(flow, value))}]"
    if isinstance(value, str):
        return _text(value)
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    return repr(value)


def _text(value: str) -> str:
    if _PLAIN.fullmatch(value) and isinstance(plain_scalar(value), str):
        return value
    return _quoted(value)


def _key(key: str) -> str:
    return key if _PLAIN_KEY.fullmatch(key) and "  " not in key else _quoted(key)


def _quoted(value: str) -> str:
    text: str = yaml.dump(value, default_style='"', allow_unicode=True, width=float("inf"))
    return text.rstrip("\n")
