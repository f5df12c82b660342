from __future__ import annotations

import sys
from pathlib import Path

import pytest

from moesim.hardware import CostModel, HardwareProfile, load_hardware
from moesim.model.spec import LayerSpec

HERE = str(Path(__file__).parent)
if HERE not in sys.path:
    sys.path.insert(0, HERE)


@pytest.fixture(scope="session")
def h100() -> HardwareProfile:
    """On its datasheet alone: these are tests of the datasheet's formulas."""
    return load_hardware("h100-sxm").model_copy(update={"calibrated": None})


@pytest.fixture(scope="session")
def only() -> LayerSpec:
    import small

    return small.layer()


@pytest.fixture(scope="session")
def costs(h100: HardwareProfile, only: LayerSpec) -> CostModel:
    import small

    return CostModel(h100, small.small_model(only))
