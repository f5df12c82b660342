"""What 'moesim list' knows: every kind of component that there is."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest

import moesim
from moesim.cli.main import main
from moesim.report.catalogue import CATALOGUES, REGISTRIES

PACKAGE = Path(moesim.__file__).parent
MADE = re.compile(r'= Registry\(\s*"([\w.]+)",[^")]*"([\w.]+)"')


def test_every_registry_of_the_package_is_listed() -> None:
    made = {name for path in PACKAGE.rglob("*.py") for name in MADE.findall(path.read_text())}
    assert len(made) >= 13
    listed = [importlib.import_module(home).registry for home in REGISTRIES.values()]
    assert made == {(registry.package, registry.group) for registry in listed}


@pytest.mark.parametrize("kind", REGISTRIES)
def test_everything_listed_has_a_line_about_it(
    kind: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["list", kind, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert rows
    assert all(row["name"] and row["description"] for row in rows)


def test_the_help_names_every_kind(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", "--help"]) == 0
    said = set(re.findall(r"\w+", capsys.readouterr().out))
    assert {*REGISTRIES, *CATALOGUES} <= said
