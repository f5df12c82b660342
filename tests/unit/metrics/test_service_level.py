"""What is promised, by hand."""

from __future__ import annotations

import numpy as np

from moesim.metrics.service_level import Service, attainment, good, kept

NAN = float("nan")
TIMES = {
    "ttft_ms": np.array([100.0, 200.0, 300.0, NAN]),
    "tpot_ms": np.array([10.0, NAN, 30.0, NAN]),
    "e2el_ms": np.array([500.0, 200.0, 900.0, NAN]),
}
DONE = np.array([True, True, True, False])


def service(**slo: str) -> Service:
    return Service.model_validate({"slo": slo})


def test_each_limit_by_itself_and_all_together() -> None:
    asked = service(ttft="200 ms", tpot="30 ms")
    assert {name: one.tolist() for name, one in kept(asked, TIMES, DONE).items()} == {
        "ttft": [True, True, False, False],
        "tpot": [True, True, True, False],  # the second has one token: no time between
    }
    assert good(asked, TIMES, DONE).tolist() == [True, True, False, False]
    every = np.ones(4, np.bool_)
    assert attainment(asked, TIMES, DONE, every) == {"all": 0.5, "ttft": 0.5, "tpot": 0.75}
    assert attainment(asked, TIMES, DONE, DONE) == {"all": 2 / 3, "ttft": 2 / 3, "tpot": 1.0}


def test_nothing_is_promised() -> None:
    assert good(service(), TIMES, DONE) is None
    assert attainment(service(), TIMES, DONE, DONE) is None
