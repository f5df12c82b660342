"""Steps of the clock by hand, as docs/semantics.md orders their charges."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from moesim.engine.replay.clock.experts import (
    after_victim,
    copy_start,
    end_experts,
    last_copy,
    play_launch,
    stream_next,
)
from moesim.engine.replay.clock.loop import new_gpus
from moesim.engine.replay.clock.records import (
    BARRIER,
    CPU,
    DISPATCH,
    EXPERTS,
    HOST,
    LAUNCH_COMBINE,
    LAUNCH_EXPERTS,
    MOE,
    WAITS,
    WEIGHTS,
    Fixed,
    Gpus,
    Passes,
    Span,
    Works,
)
from moesim.engine.replay.clock.steps import begin_pass, charge, end_pass, meet
from moesim.engine.replay.flat import NO_READS

NO_FLAT, NO_TABLE = np.zeros(0, np.int64), np.zeros((0, 0), np.int64)


def fixed(**given: Any) -> Fixed:
    """Nothing takes time but what is ``given``."""
    none: dict[str, Any] = dict.fromkeys(Fixed._fields, 0)
    arrays = {"copy_ns": NO_FLAT, "wait_ns": NO_TABLE, "always": np.array([-1]), "hosts": NO_TABLE}
    flat = dict.fromkeys(("read_busy", "read_after", "read_lead", "node"), NO_FLAT)
    return Fixed(**none | arrays | flat | given)


def host_row(column: int, time: int) -> NDArray[np.int64]:
    """The host's times of one layer: nothing but ``time`` in a ``column``."""
    row = np.zeros((1, WAITS + 1), np.int64)
    row[0, column] = time
    return row


def passes(**given: Any) -> Passes:
    """As many arrays without elements, but those that are ``given``."""
    cube, mask = np.zeros((0, 0, 0), np.int64), np.zeros((0, 0), np.bool_)
    none = Passes(NO_TABLE, mask, np.zeros(0, np.uint8), cube, NO_TABLE, NO_TABLE, NO_TABLE)
    return none._replace(**given)


def works(**given: Any) -> Works:
    """As many arrays without elements, but those that are ``given``."""
    tables, mask = ("step_launches", "step_copies", "hosted", "up"), np.zeros((0, 0), np.bool_)
    none: dict[str, Any] = dict.fromkeys(Works._fields, NO_FLAT)
    return Works(
        **none | dict.fromkeys(tables, NO_TABLE) | {"streamed": mask, "reads": NO_READS} | given
    )


def gpus(number: int, layers: int = 1, **given: list[int]) -> Gpus:
    """Clocks at 0, but for what is ``given``."""
    return new_gpus(number, layers, 1)._replace(
        **{name: np.array(values, np.int64) for name, values in given.items()}
    )


def charged(number: int = 1) -> Any:
    return np.zeros((number, 8), np.int64)


def test_no_time_is_charged_twice() -> None:
    """The cursor moves to the end of a charge, and never back."""
    charges = charged(2)
    assert charge(charges, 1, EXPERTS, 100, 130) == 130
    assert charge(charges, 1, WEIGHTS, 130, 120) == 130
    assert charge(charges, 1, WEIGHTS, 130, 135) == 135
    assert charges[1, [EXPERTS, WEIGHTS]].tolist() == [30, 5]
    assert charges.sum() == 35


def test_gpus_wait_for_the_slowest_and_then_exchange() -> None:
    """They come at 10 and 25, the exchange takes 7: 32 on both."""
    clocks, charges, when = gpus(2, cursor=[10, 20]), charged(2), np.array([10, 25])
    meet(clocks, charges, when, 7)
    assert when.tolist() == clocks.cursor.tolist() == [32, 32]
    assert charges[:, BARRIER].tolist() == [15, 5]
    assert charges[:, DISPATCH].tolist() == [7, 7]


def test_a_pass_begins_at_its_instant_and_nothing_is_charged_for_the_wait() -> None:
    """GPU 0 has ended at 40 and waits for 50; GPU 1 ended later, at 60."""
    clocks, starts = gpus(2, time=[40, 60], host=[30, 20], copied=[99, 0]), np.array([[50, 50]])
    begin_pass(clocks, starts, 0)
    for clock in (clocks.time, clocks.host, clocks.cursor, starts[0]):
        assert clock.tolist() == [50, 60]
    assert clocks.copied.tolist() == [99, 0]


@pytest.mark.parametrize(("phase", "end", "host_ns"), [(1, 117, 7), (2, 110, 0)])
def test_a_host_that_is_later_than_the_head_is_charged(phase: int, end: int, host_ns: int) -> None:
    """GPU 100 + head 10; host 97 + 20 for launching it, where it is no encode pass."""
    clocks, charges, ends = gpus(1, time=[100], host=[97]), charged(), np.zeros((1, 1), np.int64)
    run = passes(phase=np.array([phase], np.uint8), head=np.array([[10]]))
    end_pass(fixed(head=20), run, clocks, ends, charges, 0)
    assert (ends[0, 0], clocks.time[0], clocks.host[0]) == (end, end, end)
    assert charges[0, HOST] == charges.sum() == host_ns


def test_a_copy_follows_the_one_before_and_what_the_host_has_issued() -> None:
    assert copy_start(False, 3, 10, issued=12, copied=9) == 12
    assert copy_start(False, 3, 10, issued=12, copied=20) == 20


def test_a_blocked_host_issues_a_copy_when_the_one_before_has_ended() -> None:
    assert copy_start(True, 3, 10, issued=12, copied=20) == 23
    assert copy_start(True, 3, 30, issued=12, copied=20) == 33


@pytest.mark.parametrize("copies", [1, 2, 5])
@pytest.mark.parametrize(("to_copy", "each_ns"), [(3, 8), (8, 3), (0, 5), (5, 0), (4, 4)])
@pytest.mark.parametrize("copied", [0, 12, 20, 100])
@pytest.mark.parametrize("blocking", [False, True])
def test_the_last_copy_ends_when_each_follows_the_one_before(
    blocking: bool, copied: int, to_copy: int, each_ns: int, copies: int
) -> None:
    """Of a layer known at 10."""
    last = copied
    for issued in range(10 + to_copy, 11 + copies * to_copy, to_copy) if to_copy else [10] * copies:
        last = copy_start(blocking, to_copy, 10, issued, last) + each_ns
    assert last_copy(blocking, to_copy, each_ns, copies, 10, copied) == last


def test_a_copy_waits_for_its_victims_launch() -> None:
    """Rule (b): launch 1 ends at 40."""
    ends = np.array([5, 40])
    assert after_victim(20, 1, ends) == 40
    assert after_victim(50, 1, ends) == 50
    assert after_victim(20, -1, ends) == 20


def test_a_launch_waits_for_weights_computes_and_reads() -> None:
    """Copies until 120, the kernel until 150, what it reads over the link until 155."""
    charges = charged()
    assert play_launch(charges, 0, 100, 100, 120, 30, 5) == (155, 155)
    assert charges[0, [WEIGHTS, EXPERTS]].tolist() == [25, 30]


@pytest.mark.parametrize("arrived", [-1, 80])
def test_a_launch_whose_weights_are_there_starts_at_once(arrived: int) -> None:
    charges = charged()
    assert play_launch(charges, 0, 100, 100, arrived, 30, 0) == (130, 130)
    assert charges[0, EXPERTS] == charges.sum() == 30


@pytest.mark.parametrize(
    ("blocking", "launches", "host"),
    [(0, -1, 97), (0, 4, 117), (1, -1, 115)],
)
def test_the_host_issues_copies_and_launches_kernels_and_combine(
    blocking: int, launches: int, host: int
) -> None:
    """Counts known at 60, 3 copies x 4; 2 launches, or 4 kernels, x 10; combine 5. A blocked host
    has waited for the copies, until 90.
    """
    clocks, charges = gpus(1, host=[50], known=[60], copied=[90]), charged()
    hosts = host_row(LAUNCH_EXPERTS, 10) + host_row(LAUNCH_COMBINE, 5)
    constants = fixed(copy=4, hosts=hosts, blocking=blocking, always=np.array([launches]))
    end_experts(constants, clocks, charges, 0, 0, 0, Span(0, 2, 0, 3, 3, 0, 0, 0), 150, 150)
    assert clocks.host[0] == host
    assert (clocks.ready[0], clocks.cursor[0], charges.sum()) == (150, 150, 0)


@njit
def some_steps(clocks: Any, charges: Any, when: Any, ends: Any) -> Any:
    """An exchange, a copy behind another one and its victim's launch, and the launch it is for."""
    meet(clocks, charges, when, 7)
    copied = after_victim(copy_start(True, 3, 10, 12, 20), 1, ends) + 4
    time, cursor = play_launch(charges, 1, when[1], clocks.cursor[1], copied, 30, 5)
    return time, cursor, copied


@pytest.mark.parametrize("way", [some_steps, some_steps.py_func])
def test_steps_are_the_same_where_compiled_code_has_them_built_in(way: Any) -> None:
    """Both GPUs are at 32; the copy waits for 40 and takes 4; 30 for the kernel, 5 for its read.
    From Python the steps are as they are written, so that nothing above is compiled.
    """
    clocks, charges, when = gpus(2, cursor=[10, 20]), charged(2), np.array([10, 25])
    assert way(clocks, charges, when, np.array([5, 40])) == (79, 79, 44)
    assert clocks.cursor.tolist() == when.tolist() == [32, 32]
    assert charges[:, BARRIER].tolist() == [15, 5]
    assert charges[:, DISPATCH].tolist() == [7, 7]
    assert charges[1, [WEIGHTS, EXPERTS]].tolist() == [44 - 32 + 5, 30]


def test_experts_of_the_host_begin_at_the_end_of_dispatch() -> None:
    """From 70 on, 100 ns: 20 beyond the launches."""
    clocks, charges = gpus(1, ready=[70]), charged()
    constants = fixed(hosts=host_row(WAITS, 0))
    end_experts(constants, clocks, charges, 0, 0, 0, Span(0, 1, 0, 0, 0, 100, 0, 0), 150, 150)
    assert clocks.ready.tolist() == clocks.cursor.tolist() == [170]
    assert charges[0, CPU] == charges.sum() == 20


@pytest.mark.parametrize(("free", "up"), [(160, 177), (175, 182)])
def test_rows_come_up_when_the_copy_engine_is_free(free: int, up: int) -> None:
    """Computed at 170, 7 ns."""
    clocks, charges = gpus(1, ready=[70], copied=[free]), charged()
    constants = fixed(hosts=host_row(WAITS, 0))
    end_experts(constants, clocks, charges, 0, 0, 0, Span(0, 1, 0, 0, 0, 100, 7, 0), 150, 150)
    assert clocks.ready.tolist() == clocks.copied.tolist() == [up]


def test_streamed_layers_are_copied_one_behind_the_other() -> None:
    """A dense layer, a streamed MoE layer of 3 experts x 10 ns, one that is not streamed, and one
    of 2 x 20 ns. The copy engine is free at 8, after the GPU's 5.
    """
    clocks = gpus(1, 3, time=[5], copied=[8])
    plan = np.zeros((4, 7), np.int64)
    plan[:, MOE] = [-1, 0, 1, 2]
    run = passes(plan=plan, runs=np.ones((1, 4), np.bool_))
    work = works(
        streamed=np.array([[True], [False], [True]]), step_copies=np.array([[0, 3], [0, 1], [0, 2]])
    )
    constants, ends = fixed(copy_ns=np.array([10, 15, 20])), []
    for _ in range(3):
        stream_next(constants, run, work, clocks, 0, 0)
        ends.append(clocks.coming[0].tolist())
    assert ends == [[38, -1, -1], [38, -1, 78], [38, -1, 78]]
    assert clocks.copied.tolist() == [78]
