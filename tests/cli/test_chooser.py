"""experiments/chooser.yaml: written by its script, and a small part of it as single runs say."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pytest
import yaml

import moesim
from moesim.report.page.chooser import chooser_of

ROOT = Path(__file__).parents[2]
FILE = ROOT / "experiments" / "chooser.yaml"
MODEL, CARDS = "gpt-oss-20b@mxfp4_moe", ("rtx-3060-12gb", "rtx-3090")


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("chooser", ROOT / "scripts" / "chooser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_script_finds(script: Any) -> None:
    written = yaml.safe_load(FILE.read_text())
    found = [list(map(str, row)) for row in script.rows((MODEL,), CARDS)]
    kept = [list(map(str, row)) for row in written["sweep"][", ".join(script.AXES)]]
    assert [row for row in kept if row[0] == MODEL and row[1] in CARDS] == found
    assert {row[0] for row in kept} == set(script.MODELS)
    assert {row[1] for row in kept} == set(script.GPUS)
    assert written["sweep"]["hardware.host"] == list(script.HOSTS)
    assert script.text(kept) == FILE.read_text()


def test_its_answers_are_those_of_single_runs(script: Any, tmp_path: Path) -> None:
    written = yaml.safe_load(FILE.read_text())
    key, host = ", ".join(script.AXES), "ddr5-5600-2ch-64gb"
    kept = [row for row in written["sweep"][key] if row[:2] + row[3:4] == [MODEL, CARDS[0], "32k"]]
    small = written | {"sweep": {"hardware.host": [host, "ddr4-3200-2ch-64gb"], key: kept}}
    sweep = moesim.sweep(small, tmp_path / "sweep", warn=lambda _: None)
    assert chooser_of(sweep) is None  # a host alone is one thing that one has
    alone = written | {"sweep": None}
    settings = [f"{path}={value}" for path, value in zip(script.AXES, kept[1], strict=True)]
    result = moesim.run(alone, overrides=[f"hardware.host={host}", *settings])
    mine = sweep.table[sweep.table["hardware.host"] == host].iloc[1]
    for name in ("output_throughput", "joules_per_output_token", "peak_memory_bytes",
                 "cost_usd_per_million_output_tokens"):  # fmt: skip
        assert mine[name] == result.summary[name]
    speeds = sweep.table[sweep.table["hardware.host"] == host]["output_throughput"]
    assert speeds.iloc[0] < speeds.iloc[1] < speeds.iloc[2]
