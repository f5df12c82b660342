"""The notebook of the documentation: its cells run, and show what it shows."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
NOTEBOOK = ROOT / "docs" / "notebook.ipynb"


def texts(notebook: dict[str, Any]) -> list[str]:
    outputs = [one for cell in notebook["cells"] for one in cell.get("outputs", ())]
    return ["".join(one.get("text", one.get("data", {}).get("text/plain", ""))) for one in outputs]


@pytest.fixture(scope="module")
def script() -> Any:
    spec = importlib.util.spec_from_file_location("notebook", ROOT / "scripts" / "notebook.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_its_cells_show_what_it_shows(script: Any) -> None:
    kept = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    bare = kept | {"cells": [{**cell, "outputs": []} for cell in kept["cells"]]}
    assert texts(script.executed(bare)) == texts(kept)


def test_it_is_small_and_has_every_kind_of_output() -> None:
    assert NOTEBOOK.stat().st_size < 300_000
    kept = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    outputs = [one for cell in kept["cells"] for one in cell.get("outputs", ())]
    kinds = {kind for one in outputs for kind in one.get("data", {})}
    assert kinds >= {"text/plain", "text/html", "image/png"}
