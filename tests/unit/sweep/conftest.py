from __future__ import annotations

import sys
from pathlib import Path

import pytest

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture
def markers(tmp_path: Path) -> Path:
    """A folder in which each evaluation leaves a line."""
    folder = tmp_path / "markers"
    folder.mkdir()
    return folder
