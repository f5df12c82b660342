"""Every registered collector: it plans rows that the measurement table takes."""

from __future__ import annotations

from typing import Any

import pytest

from moesim.calibrate.collect.ops import Collector, registry
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.point import Point
from moesim.calibrate.collect.shapes import SMALL, shapes_for
from moesim.testing.collectors import measures, plans_valid_rows

CPU = Plan("cpu", SMALL, ("fp32",), 0, 4, 2**25, 2**36)
SERVER = Plan("cuda", shapes_for([], "cuda"), ("bf16",), 8, 4, 2**25, 2**36)


@pytest.mark.parametrize("kind", registry.components)
def test_contract(kind: str) -> None:
    collector = registry.get(kind)()
    planned = [point for plan in (CPU, SERVER) for point in plans_valid_rows(collector, plan)]
    assert planned, f"{kind} plans nothing on a CPU nor on a server"


class Trial:
    def __init__(self, time_ns: float) -> None:
        self.time_ns = time_ns

    def warm_up(self) -> None:
        pass

    def samples(self, count: int) -> list[float]:
        return [self.time_ns] * count


class Careless(Collector):
    kind = "careless"
    ops = ("gate",)

    def points(self, plan: Plan) -> Any:
        yield Point({"op": "launch"}, lambda _: Trial(0.0))


class Vague(Careless):
    def points(self, plan: Plan) -> Any:
        yield Point({"op": "gate", "dtype": "bf16"}, lambda _: Trial(5.0))


def test_one_that_breaks_the_rules_is_named() -> None:
    with pytest.raises(AssertionError, match="Careless: plans 'launch'"):
        plans_valid_rows(Careless(), CPU)
    with pytest.raises(AssertionError, match="Vague: rows that cannot be"):
        plans_valid_rows(Vague(), CPU)
    (wrong,), (right,) = Careless().points(CPU), Vague().points(CPU)
    measures(right, None)  # type: ignore[arg-type]
    with pytest.raises(AssertionError, match=r"op=launch: \[0.0"):
        measures(wrong, None)  # type: ignore[arg-type]
