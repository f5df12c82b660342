"""The copy-in engine and the collective against times worked out by hand."""

from __future__ import annotations

import pytest
import simpy

from moesim.engine.des.collective import Collective
from moesim.engine.des.copies import CopyGroup, CopyIn, SharedWay
from moesim.engine.des.links import FairLinks

GB = 1_000_000_000


@pytest.fixture
def env():
    return simpy.Environment()


def group(env, count, copy_ns=10, known=0, index=0, after=None, amount=0):
    made = CopyGroup(env, count, amount, copy_ns, known, index)
    made.after = after
    return made


def test_first_in_first_out_one_at_a_time(env):
    engine = CopyIn(env, 0, blocking=False)
    first, second = group(env, 2), group(env, 3, copy_ns=7, index=2)
    engine.submit(first)
    engine.submit(second)
    env.run()
    assert first.spans == [(0, 10), (10, 20)]
    assert second.spans == [(20, 27), (27, 34), (34, 41)]
    assert (first.value, second.value, engine.end, engine.served) == (20, 41, 41, 5)


def test_the_host_issues_one_copy_after_another(env):
    """Issued at 6, 12 and 18: the engine, free at 10, waits for the host each time."""
    engine, copies = CopyIn(env, 6, blocking=False), group(env, 3, copy_ns=4)
    engine.submit(copies)
    env.run()
    assert copies.spans == [(6, 10), (12, 16), (18, 22)]


def test_the_host_is_ahead_of_a_slow_engine(env):
    engine, copies = CopyIn(env, 6, blocking=False), group(env, 3, copy_ns=10)
    engine.submit(copies)
    env.run()
    assert copies.spans == [(6, 16), (16, 26), (26, 36)]


def test_a_blocking_host_issues_after_each_end(env):
    engine = CopyIn(env, 6, blocking=True)
    first, second = group(env, 2), group(env, 1, index=2)
    engine.submit(first)
    engine.submit(second)
    env.run()
    assert first.spans + second.spans == [(6, 16), (22, 32), (38, 48)]


def test_a_layer_issues_from_when_its_counts_are_known(env):
    """The second layer's first copy: issued at 100 + 3, whatever the first layer's index was."""
    engine = CopyIn(env, 3, blocking=False)
    copies = group(env, 2, known=100)
    env.timeout(100).callbacks.append(lambda _: engine.submit(copies))
    env.run()
    assert copies.spans == [(103, 113), (113, 123)]


def test_a_copy_that_waits_holds_the_engine(env):
    """Rule (b): the second copy waits for its victim until 50; the third stands behind it."""
    engine, ran = CopyIn(env, 0, blocking=False), env.event()
    groups = [group(env, 1), group(env, 1, index=1, after=ran), group(env, 1, index=2)]
    for one in groups:
        engine.submit(one)
    env.timeout(50).callbacks.append(lambda _: ran.succeed())
    env.run()
    assert [one.spans for one in groups] == [[(0, 10)], [(50, 60)], [(60, 70)]]


def test_a_victim_that_has_run_is_not_waited_for(env):
    engine, ran = CopyIn(env, 0, blocking=False), env.event()
    groups = [group(env, 1), group(env, 1, index=1, after=ran)]
    for one in groups:
        engine.submit(one)
    env.timeout(4).callbacks.append(lambda _: ran.succeed())
    env.run()
    assert [one.spans for one in groups] == [[(0, 10)], [(10, 20)]]


def shared(env, number, rate, links, host_ns=0):
    fair = FairLinks(env, {link: bytes_a_ns * GB for link, bytes_a_ns in rate.items()})
    return [CopyIn(env, host_ns, blocking=False, way=SharedWay(fair, links[i]))
            for i in range(number)]  # fmt: skip


def test_equal_demands_on_one_switch_end_together(env):
    """7 ns beyond its bytes, then 100 bytes at half of 2 a ns: 107 ns each, the second at 214."""
    ways = [("own 0", "switch"), ("own 1", "switch")]
    engines = shared(env, 2, {"own 0": 2, "own 1": 2, "switch": 2}, ways)
    copies = [group(env, 2, copy_ns=57, amount=100) for _ in engines]
    for engine, one in zip(engines, copies, strict=True):
        engine.submit(one)
    env.run()
    assert [one.spans for one in copies] == [[(0, 107), (107, 214)]] * 2


def test_a_link_that_nobody_shares_gives_the_private_time(env):
    """Latency + bytes / bandwidth, rounded up: 7 + ceil(100 / 3) = 41, host times as without."""
    (engine,) = shared(env, 1, {"own": 3}, [("own",)], host_ns=50)
    private = CopyIn(env, 50, blocking=False)
    copies = group(env, 3, copy_ns=41, amount=100)
    alone = group(env, 3, copy_ns=41)
    engine.submit(copies)
    private.submit(alone)
    env.run()
    assert copies.spans == alone.spans == [(50, 91), (100, 141), (150, 191)]


def test_an_uneven_pair_by_hand(env):
    """From 7 both at 1 a ns; the short ends its 50 at 57, and the long has 50 left, now at 2.

    The short one's next copy is in its latency from 57 to 64: till then the long has moved 14, and
    36 are left, again at 1: the long ends at 100, and the
    short has 14 left, at 2: 107.
    """
    ways = [("own 0", "switch"), ("own 1", "switch")]
    engines = shared(env, 2, {"own 0": 2, "own 1": 2, "switch": 2}, ways)
    long, short = group(env, 1, 57, amount=100), group(env, 2, 32, amount=50)
    for engine, one in zip(engines, (long, short), strict=True):
        engine.submit(one)
    env.run()
    assert (long.spans, short.spans) == ([(0, 100)], [(0, 57), (57, 107)])


def test_a_collective_starts_with_the_last_and_opens_again(env):
    group_of_3, met = Collective(env, 3), []

    def member(arrivals):
        for time in arrivals:
            met.append((yield group_of_3.arrive(time)))  # noqa: PERF401 (a process waits)

    for arrivals in ([5, 40], [9, 11], [2, 30]):
        env.process(member(arrivals))
    env.run()
    assert met == [9, 9, 9, 40, 40, 40]


def test_nobody_leaves_a_collective_before_the_last_comes(env):
    group_of_2, left = Collective(env, 2), []
    group_of_2.arrive(3).callbacks.append(lambda _: left.append(env.now))
    env.run()
    assert left == []
    env.timeout(20).callbacks.append(lambda _: group_of_2.arrive(20))
    env.run()
    assert left == [20]


def test_what_a_prefetch_before_it_held_up_does_not_begin_in_the_past(env):
    engine = CopyIn(env, 0, blocking=False)
    first, second = group(env, 1, known=3), group(env, 1, known=3)
    first.unread = first.ahead = second.ahead = True
    engine.prefetch(first)
    engine.prefetch(second)
    env.run(until=50)
    engine.withdraw(first)
    env.run()
    assert second.spans == [(50, 60)]
