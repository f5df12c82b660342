from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.report import sweeps


@pytest.fixture(scope="session")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep over capacity and policy whose 16 slots do not fit."""
    return sweeps.make(tmp_path_factory.mktemp("report") / "sweep")
