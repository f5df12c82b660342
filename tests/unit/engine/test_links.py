"""Fair links against rates and completion times worked out by hand, and against the exact law."""

from __future__ import annotations

from fractions import Fraction
from math import ceil

import pytest
import simpy

from moesim.engine.des.links import FairLinks

GB = 1_000_000_000  # bytes a second that are one byte a nanosecond


def ends_of(capacity, arrivals):
    """The end of each (time, bytes, links), in ns; capacities in bytes a nanosecond."""
    env = simpy.Environment()
    fair = FairLinks(env, {link: rate * GB for link, rate in capacity.items()})
    ends: list[float] = [0] * len(arrivals)

    def arrive(number, time, amount, links):
        yield env.timeout(time)
        yield fair.transfer(amount, links)
        ends[number] = env.now

    for number, arrival in enumerate(arrivals):
        env.process(arrive(number, *arrival))
    env.run()
    assert fair.transfers == []
    return ends


def test_alone_it_takes_its_least_link():
    assert ends_of({"fast": 10, "slow": 4}, [(0, 400, ["fast", "slow"])]) == [100]


def test_two_links_three_flows_by_hand():
    """B's 4 are halved, so A's only other flow gets 8 of 10. At 100 ns two flows end, and the
    third has 200 of its 400 bytes left, now at 4: 50 ns more.
    """
    flows = [(0, 800, ["a"]), (0, 400, ["a", "b"]), (0, 200, ["b"])]
    assert ends_of({"a": 10, "b": 4}, flows) == [100, 150, 100]


def test_max_min_rates_by_hand():
    """Three flows on A (12), two of them on B (6) and one of those on C (1): 1, 5 and 6."""
    env = simpy.Environment()
    fair = FairLinks(env, {"a": 12 * GB, "b": 6 * GB, "c": 1 * GB})
    for links in (["a", "b", "c"], ["a", "b"], ["a"]):
        fair.transfer(1000, links)
    assert [transfer.rate for transfer in fair.transfers] == [1, 5, 6]


def test_processor_sharing_by_hand():
    """One byte a ns; 300 bytes from 0, 100 from 100, 50 from 150.

    At 100: 200 and 100 left; at 150: 175, 75, 50; the 50 take 150 ns at a third: 300, with 125 and
    25 left; the 25 take 50 at a half: 350, with 100 left, alone: 450 = all bytes.
    """
    assert ends_of({"a": 1}, [(0, 300, "a"), (100, 100, "a"), (150, 50, "a")]) == [450, 350, 300]


def test_equal_transfers_end_together_however_many():
    for number in range(1, 9):
        assert (
            ends_of({"a": 7}, [(5, 1001, "a")] * number) == [5 + ceil(number * 1001 / 7)] * number
        )


def test_disjoint_links_do_not_meet():
    assert ends_of({"a": 3, "b": 5}, [(0, 300, "a"), (0, 300, "b")]) == [100, 60]


def test_completions_are_rounded_up_once():
    """With all there from the start, the k-th smallest of n ends when sum_j (n - j + 1)(s_j -
    s_(j-1)) bytes have passed: exact sharing, however many ended before between two nanoseconds.
    """
    sizes = [1000 + 17 * k for k in range(120)]
    passed, before, exact = Fraction(0), 0, []
    for rank, size in enumerate(sizes):
        passed += Fraction((len(sizes) - rank) * (size - before), 7)
        before = size
        exact.append(ceil(passed))
    assert ends_of({"a": 7}, [(0, size, "a") for size in sizes]) == exact


@pytest.mark.parametrize("amount", [10, 11])
def test_one_after_another_rounds_each_up(amount):
    """10,000 transfers of 10 bytes at 3 a ns: four ns each, as 10,000 copies alone would take."""
    env = simpy.Environment()
    fair = FairLinks(env, {"a": 3 * GB})

    def chain():
        for _ in range(10_000):
            yield fair.transfer(amount, ["a"])

    env.process(chain())
    env.run()
    assert env.now == 40_000


def test_no_drift_beside_ten_thousand_transfers():
    """A long transfer shares 7 bytes a ns with 10,000 of 10 bytes, each sent when the last arrived.

    One of them takes 20/7 ns, rounded up to 3: the long one has half the link for 20/7 of every 3
    ns and all of it for the other 1/7: 11 bytes. After 30,000 ns 110,000 bytes have moved.
    """
    env = simpy.Environment()
    fair = FairLinks(env, {"a": 7 * GB})
    ends = []

    def short():
        for _ in range(10_000):
            yield fair.transfer(10, ["a"])
        ends.append(env.now)

    def long():
        yield fair.transfer(110_000 + 700, ["a"])
        ends.append(env.now)

    env.process(short())
    env.process(long())
    env.run()
    assert ends == [30_000, 30_100]


def test_nothing_to_move_arrives_at_once():
    assert ends_of({"a": 1}, [(3, 0, "a"), (3, 10, "a")]) == [3, 13]


def test_rates_that_were_worked_out_before_are_those_of_the_same_crowd():
    """Twice two on A (10) of which one is on B (4): 4 and 6; between them, one alone: 10."""
    env = simpy.Environment()
    fair = FairLinks(env, {"a": 10 * GB, "b": 4 * GB})

    def arrive(flows):
        begun = env.now
        for links, amount, after in flows:
            env.process(wait(fair.transfer(amount, links), begun + after))

    def wait(done, end):
        yield done
        assert env.now == end
        ended.append(end)

    ended: list[int] = []
    arrive([(["a", "b"], 400, 100), (["a"], 600, 100)])
    env.run()
    arrive([(["a"], 1000, 100)])
    env.run()
    arrive([(["a"], 600, 100), (["b", "a"], 400, 100)])
    env.run()
    assert ended == [100, 100, 200, 300, 300]


@pytest.mark.parametrize(("a_ns", "end"), [(2 * (2**31 - 1), 10), ((2**31 - 1) // 2, 11)])
def test_what_is_hardly_above_a_nanosecond_is_at_it(a_ns, end):
    """The last byte takes a half of ``SAME_NS``, or twice that."""
    assert ends_of({"a": a_ns}, [(0, 10 * a_ns + 1, "a")]) == [end]
