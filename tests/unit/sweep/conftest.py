from __future__ import annotations

from pathlib import Path

import pytest
from matplotlib.figure import Figure


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


@pytest.fixture
def rendered() -> None:
    """For tests of what pictures hold, where others of their file are ``unrendered``."""


@pytest.fixture
def unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are drawn, but the pixels of their files are not made, which takes most of the time:
    for tests of numbers and words. Pages have their pictures.
    """
    whole = Figure.savefig

    def savefig(self: Figure, target: object, **how: object) -> None:
        if not isinstance(target, Path):
            whole(self, target, **how)  # type: ignore[arg-type]
        else:
            target.write_bytes(b"a picture")

    if "rendered" not in request.fixturenames:
        monkeypatch.setattr(Figure, "savefig", savefig)
