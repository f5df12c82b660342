"""What 'moesim list' knows: every kind of component that there is."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path
from typing import Any

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


def test_software_says_what_it_is_and_how_many_kernels_a_layer_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["list", "software", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    counted = {name: rows[name]["kernels_per_layer"] for name in ("llama.cpp", "llama.cpp@b8xxx")}
    assert counted == {"llama.cpp": 15 + 3 + 4 + 2, "llama.cpp@b8xxx": 17 + 3 + 4 + 2}
    assert main(["list", "software"]) == 0
    table = capsys.readouterr().out
    lines = table.splitlines()
    assert max(map(len, lines)) <= 80
    assert [line.split()[0] for line in lines if line[0] != " " and line.split()[0] in rows] == [
        *rows
    ], "a title may take several lines, a name begins one"
    assert "builds b7700 to b9500" in table


def test_gpus_hosts_and_links_have_their_figures(capsys: pytest.CaptureFixture[str]) -> None:
    rows: dict[str, dict[str, Any]] = {}
    for kind in ("gpus", "hosts", "links"):
        assert main(["list", kind, "--json"]) == 0
        rows |= {row["name"]: row for row in json.loads(capsys.readouterr().out)}
        assert main(["list", kind]) == 0
        table = capsys.readouterr().out.splitlines()
        assert max(map(len, table)) <= 80
        assert len(table) <= len(rows) + 5, "a row that is broken over two lines"
    card = rows["rtx-3090"]
    assert (card["memory_bytes"], card["memory_bandwidth_bytes_per_s"]) == (24 << 30, 936e9)
    assert (card["link"], card["nvlink_bytes_per_s"]) == ("pcie4-x16", 56.25e9)
    assert (rows["gb10"]["link"], rows["rtx-4090"]["link"]) == ("one memory", "31.5 GB/s")
    assert rows["h100-sxm"]["nvlink_bytes_per_s"] == 450e9
    assert rows["epyc-9004-2s"]["memory_bandwidth_bytes_per_s"] == 921.6e9
    assert rows["ddr4-3200-2ch-64gb"]["expert_bytes_per_s"] == 25.6e9
    assert rows["pcie3-x16"]["h2d_pinned_bytes_per_s"] == 11.9e9
