from __future__ import annotations

import pytest

from moesim.hardware import CostModel, HardwareProfile, load_hardware
from moesim.model.spec import LayerSpec
from tests.unit.hardware import small


@pytest.fixture(scope="session")
def h100() -> HardwareProfile:
    """On its datasheet alone: these are tests of the datasheet's formulas."""
    return load_hardware("h100-sxm").model_copy(update={"calibrated": None})


@pytest.fixture(scope="session")
def only() -> LayerSpec:
    return small.layer()


@pytest.fixture(scope="session")
def costs(h100: HardwareProfile, only: LayerSpec) -> CostModel:
    return CostModel(h100, small.small_model(only))
