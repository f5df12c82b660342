from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def markers(tmp_path: Path) -> Path:
    """A folder in which each evaluation leaves a line."""
    folder = tmp_path / "markers"
    folder.mkdir()
    return folder


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, of a terminal 80 columns wide."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path
