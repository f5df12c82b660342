"""A run whose batching reads the clock, from the experiment to its tables."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import simulate
from moesim.results.result import Result
from moesim.trace.routing import RoutingTrace
from moesim.workload.batching.base import Batching
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule, Seats
from moesim.workload.timetable import Passes

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 2},
    "experts": {"capacity": "8 slots/layer"},
}
STEPS, PAUSE_NS = 40, 1_000_000


class Pausing(Batching):
    """Like static batching, but each pass starts a pause after the last has ended."""

    kind: Literal["pausing"] = "pausing"
    reads_clock: ClassVar[bool] = True

    def seats(self, requests: Requests) -> Seats:
        """What is planned goes by static batching."""
        return Static(batch_size=self.batch_size).seats(requests)

    def passes(
        self, requests: Requests, trace: RoutingTrace, gpus: int, chunk: int | None = None
    ) -> Passes:
        """One at a time."""
        schedule, ended = Schedule.of(requests, self.seats(requests), trace, gpus, chunk), 0
        for number in range(schedule.passes):
            instant = np.array([ended + PAUSE_NS])
            one = replace(schedule.between(number, number + 1), not_before_ns=instant)
            ended = int((yield one).max())


def played(batching: Batching, **choices: Any) -> Result:
    experiment = load_experiment({**BASE, **choices}).experiment
    workload = experiment.workload.model_copy(update={"batching": batching})
    return simulate(experiment.model_copy(update={"workload": workload}), limit_steps=STEPS)


@pytest.mark.parametrize("engine", ["des", "replay"])
def test_pauses_add_to_the_time_and_change_nothing_else(engine: str) -> None:
    plain, pausing = (played(one(), engine=engine) for one in (Static, Pausing))
    assert pausing.summary["steps"] == STEPS
    added = (pausing.summary["duration_ms"] - plain.summary["duration_ms"]) * 1e6
    assert round(added) == STEPS * PAUSE_NS
    for name in ("hits", "misses", "bytes_h2d", "stall_ms", "tokens", "memory_bytes"):
        assert pausing.summary[name] == plain.summary[name], name
    spent = [one.steps.end_ns - one.steps.start_ns for one in (plain, pausing)]
    assert spent[0].equals(spent[1])
    waits = pausing.steps.start_ns - pausing.steps.end_ns.shift(fill_value=0)
    assert set(waits) == {PAUSE_NS}
    assert (pausing.memory.time_ns == pausing.steps.start_ns).all()
    same = plain.memory.drop(columns="time_ns")
    assert pausing.memory.drop(columns="time_ns").equals(same)


class Solo(Pausing):
    """Planned as a batch, but its requests run one after the other."""

    def passes(
        self, requests: Requests, trace: RoutingTrace, gpus: int, chunk: int | None = None
    ) -> Passes:
        """As if the batch had one place."""
        yield from Static().passes(requests, trace, gpus, chunk)


def test_what_was_played_is_what_is_shown() -> None:
    """The plan goes by the seats; tables, memory and counts by the passes that there were."""
    plain, solo = played(Static()), played(Solo(batch_size=2))
    for table in ("steps", "requests", "memory", "layers"):
        assert getattr(solo, table).equals(getattr(plain, table)), table


def test_min_does_not_go_with_it() -> None:
    with pytest.raises(InputError, match=r"experts\.policy: 'min' looks ahead"):
        played(Pausing(), experts=BASE["experts"] | {"policy": {"kind": "min"}})
