"""Lists of 80 columns, and what in them nobody verified or measured."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from moesim.hardware import load_hardware
from moesim.hardware.load import unified_names
from moesim.hardware.operations.kernels.cpu_expert import host_notes, share_is_prior
from moesim.report.catalogue import CATALOGUES, WIDTH, catalogue_table, listing


@pytest.mark.parametrize("what", CATALOGUES)
def test_lists_have_80_columns_and_whole_names(what: str) -> None:
    rows = listing(what)
    console = Console(file=io.StringIO(), width=WIDTH)
    table = catalogue_table(what, rows)
    assert console.measure(table).minimum <= WIDTH
    console.print(table)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert max(map(len, text.splitlines())) <= WIDTH
    assert "…" not in text
    lines = text.splitlines()
    assert all(any(line.startswith(f"{row['name']} ") for line in lines) for row in rows)


def test_numbers_from_memory_are_marked() -> None:
    marked = {row["name"]: row["unverified"] for row in listing("hardware")}
    assert marked["b300-sxm"] == "host network"
    assert marked["dgx-h100"] == marked["h100-sxm"] == "network"
    assert marked["rtx-4090"] == ""
    found = load_hardware("b300-sxm")
    assert found.network is not None
    assert found.sources[found.network.bandwidth.source].startswith("unverified, from memory of")


def test_a_prior_of_a_host_names_fitted_ones_of_such_a_memory() -> None:
    prior = load_hardware("{gpu: rtx-3090, host: ddr5-5600-2ch-64gb}")
    fitted = load_hardware("{gpu: rtx-3090, host: ryzen-9-7950x-ddr5-5600-2ch}")
    assert share_is_prior(prior)
    assert not share_is_prior(fitted)
    (told,) = host_notes(prior, "small-moe", 4)
    assert told.endswith("'ryzen-9-7950x-ddr5-5600-2ch' (81%)")
    assert "fitted to one run: 47.52 tokens/s" in host_notes(fitted, "small-moe", 4)[0]
    other = load_hardware("{gpu: rtx-3090, host: ddr4-3200-2ch-64gb}")
    assert "published run" not in host_notes(other, "small-moe", 4)[0]


def test_fitted_hosts_are_listed_as_such() -> None:
    hosts = {row["name"]: row["fitted"] for row in listing("hosts")}
    assert hosts["ryzen-9-7950x-ddr5-5600-2ch"] is True
    assert hosts["ddr5-5600-2ch-64gb"] is False


def test_machines_with_one_memory_are_listed_as_hardware() -> None:
    """As what 'hardware' of an experiment may be, with none of a link's numbers."""
    rows = {row["name"]: row for row in listing("hardware")}
    assert {name for name, row in rows.items() if row["unified"]} == {*unified_names()}
    assert {"gb10", "m4-max-128gb"} <= rows.keys()
    assert all((row["h2d_bytes_per_s"] is None) is row["unified"] for row in rows.values())
