from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def markers(tmp_path: Path) -> Path:
    """A folder in which each evaluation leaves a line."""
    folder = tmp_path / "markers"
    folder.mkdir()
    return folder
