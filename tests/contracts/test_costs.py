"""Every registered operation: its price is the sum of its parts, and depends on its shape alone."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.charge import CHARGES, RESERVED, Charge, Setting, Stage
from moesim.hardware.cost_model import registry
from moesim.hardware.operation import Operation
from moesim.hardware.prices.parts import Part
from moesim.model import load_model
from moesim.model.drafting import Drafter
from moesim.results.result import TABLES
from moesim.testing.costs import (
    PLAIN,
    adds_up,
    charges_pass_by_pass,
    remembers_nothing,
    shapes_of,
)
from tests.contracts.kinds import own

MODEL = load_model("gpt-oss-20b")
LAYER = MODEL.layers[0]
ROWS = np.array([0, 1, 3, 17, 256, 4096])
EVEN = np.array([1 << 12, 1 << 20])[:, None, None] * (1 - np.eye(4, dtype=np.int64))
SHAPES = {
    "all_reduce": (4, ROWS * 4096),
    "all_to_all": (EVEN,),
    "attention": (LAYER, ROWS, ROWS * 512, ROWS * 512),
    "combine_product": (LAYER, ROWS, 32, 64),
    "copy": (1 << 22, "h2d", True, 2),
    "cpu_expert": (LAYER, ROWS),
    "cpu_layer": (LAYER, ROWS, 1000 * ROWS, 1000 * ROWS),
    "cross_attention": (LAYER, ROWS * 64, ROWS * 64, ROWS),
    "decide": (),
    "dense": (LAYER, ROWS),
    "drafting": (Drafter.of_mtp(load_model("glm-4.5-air"), 3), *[ROWS] * 6, *[ROWS * 512] * 2),
    "encode": (LAYER, ROWS, 32, 64, ROWS),
    "experts": (LAYER, np.array([1, 2, 64, 0, 500]), np.array([0, 3, 4])),
    "gate": (LAYER, ROWS),
    "head": (ROWS,),
    "joining": (Drafter.of_mtp(load_model("glm-4.5-air"), 1).joining, ROWS),
    "layer_copy": (LAYER, ROWS, True),
    "masks": (LAYER, ROWS, 32, 64),
    "gather_logits": (4, ROWS),
    "near_expert": (LAYER, ROWS),
    "permute": (LAYER, ROWS),
    "prediction": (ROWS,),
    "read_logits": (ROWS, 10_000),
    "sampling": (ROWS,),
    "send_recv": (3, ROWS * 4096),
    "shared": (LAYER, ROWS),
    "step_inputs": (ROWS, 6),
    "storage_read": (ROWS * 4096, 2, False, True),
    "unpacking": (LAYER, ROWS),
}
OTHER = {
    "all_reduce": (2, ROWS[:3]),
    "all_to_all": (EVEN[:1],),
    "copy": (100, "d2h", False, 1),
    "experts": (LAYER, np.array([7, 7]), np.array([0])),
}


def test_every_operation_of_the_package_has_a_shape_here() -> None:
    assert set(own(registry)) == set(SHAPES)


@pytest.mark.parametrize("prices", ["auto", "datasheet"])
@pytest.mark.parametrize("card", ["h100-sxm", "rtx-4060-8gb"])
@pytest.mark.parametrize("kind", SHAPES)
def test_contract(kind: str, card: str, prices: str) -> None:
    machine = load_hardware(f"{{base: {card}, storage: nvme-pcie4, near_memory: monde}}")
    costs = CostModel(machine, MODEL, prices)  # type: ignore[arg-type]
    operation = costs.operations[kind]
    shape = SHAPES[kind]
    adds_up(operation, *shape)
    remembers_nothing(operation, shape, OTHER.get(kind, shape))
    assert (costs.price(kind, *shape) >= 0).all()


@pytest.mark.parametrize("card", ["h100-sxm", "rtx-4060-8gb"])
@pytest.mark.parametrize("name", ["gpt-oss-20b", "nllb-moe-54b", "deepseek-v3"])
@pytest.mark.parametrize("kind", SHAPES)
def test_a_pass_is_charged_alone(kind: str, name: str, card: str) -> None:
    model = load_model(name)
    operation = CostModel(load_hardware(card), model).operations[kind]
    masks = Setting(group=1, uneven=False, masks=True, decides_on_device=True)
    by_host = PLAIN._replace(logit_wait_ns=10_000, input_copies=6)
    settings = (PLAIN, masks, PLAIN._replace(stages=3), by_host)
    for setting in settings:
        shapes = shapes_of([0, 1, 5, 64, 700], setting)
        for layer in {replace(layer, index=0): layer for layer in model.layers}.values():
            charges_pass_by_pass(operation, layer, shapes)


class Relative(Operation):
    """A pass costs what the longest of all does."""

    charges = (Charge(Stage.GATE, "gate", lambda _, at: (at.tokens,)),)

    def price(self, tokens: np.ndarray) -> np.ndarray:
        return np.full(len(tokens), tokens.max())


def test_a_price_that_depends_on_other_passes_is_named() -> None:
    operation = Relative(load_hardware("h100-sxm"), MODEL)
    with pytest.raises(AssertionError, match="Relative, GATE: the price of pass 0 depends on"):
        charges_pass_by_pass(operation, LAYER, shapes_of([1, 2]))


class Forgetful(Operation):
    """Says of its price that it rests on nothing, and takes longer each time."""

    asked = 0

    def price(self, *_shape: object) -> np.ndarray:
        self.asked += 1
        return np.array([1.0 * self.asked])

    def parts(self, *_shape: object) -> list[Part]:
        return []


def test_an_operation_that_breaks_the_rules_is_named() -> None:
    operation = Forgetful(load_hardware("h100-sxm"), MODEL)
    with pytest.raises(AssertionError, match="Forgetful: the price is not the sum"):
        adds_up(operation)
    with pytest.raises(AssertionError, match="Forgetful: a price depends on others"):
        remembers_nothing(operation, (), ())


def test_a_method_by_its_earlier_name_is_told_the_new_one() -> None:
    with pytest.raises(InputError, match="rests_on: is called 'provenance' now"):
        type("Old", (Operation,), {"rests_on": lambda *_: None})


def test_no_category_takes_the_place_of_another_time() -> None:
    """Its column would overwrite that of all waits, or have no name."""
    by_time = [table for name, table in TABLES.items() if name != "operations"]
    columns = {name for table in by_time for name in table if name.endswith("_ns")}
    assert {f"{name}_ns" for name in RESERVED - {"idle"}} == columns - {f"{c}_ns" for c in CHARGES}
    for category in (*RESERVED, "my cat", ""):
        with pytest.raises(ValueError, match=f"category: '{category}' is "):
            Charge(Stage.HEAD, category, lambda *_: ())
