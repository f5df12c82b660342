"""Parameters as a file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from moesim.config.files.files import write_whole
from moesim.trace.synthesis.parameters import SyntheticTrace

_HEADER = "# Written by 'moesim trace fit'; what each key means: docs/synthetic_traces.md\n"


class _Dumper(yaml.SafeDumper):
    """Plain lists in one line, rows of numbers and mappings below one another."""


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    short = not any(isinstance(value, list | dict) or " " in str(value) for value in values)
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=short)


_Dumper.add_representer(list, _list)


def parameters_text(parameters: SyntheticTrace) -> str:
    """``parameters`` as YAML that ``load_parameters`` reads."""
    data = parameters.model_dump(mode="json", exclude_none=True)
    width = 1 << 20  # a row of numbers stays a line
    return _HEADER + yaml.dump(data, Dumper=_Dumper, sort_keys=False, width=width)


def write_parameters(parameters: SyntheticTrace, path: Path) -> None:
    """Write ``parameters`` to ``path``; an InputError where that fails."""
    text = parameters_text(parameters)
    write_whole(path, text)
