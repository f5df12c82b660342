"""Every registered kind of arrivals."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.testing.arrivals import are_the_same_again, come_in_order
from moesim.workload.arrivals import registry
from moesim.workload.arrivals.base import Arrivals, Arrived
from moesim.workload.serving.state import NEVER
from tests.contracts.kinds import own

FOLDER = Path(__file__).parents[2] / "moesim" / "workload" / "arrivals"
DATA = Path(__file__).parents[1] / "data" / "arrivals"
GIVEN: dict[str, list[dict[str, Any]]] = {
    "at_once": [{}],
    "closed_loop": [
        {"max_concurrency": 3},
        {"max_concurrency": 2, "think_time": "5 ms"},
        {"max_concurrency": 4, "request_rate": "9 requests/s"},
    ],
    "poisson": [
        {"request_rate": "4 requests/s"},
        {"request_rate": "4 requests/s", "rescale": False},
        {"request_rate": "1 requests/s", "ramp_up": "linear", "ramp_up_to": "90 requests/min"},
        {"request_rate": "1 requests/s", "ramp_up": "exponential", "ramp_up_to": "8 requests/s"},
    ],
    "gamma": [{"request_rate": "4 requests/s", "burstiness": 0.25}],
}
FILES = {
    "azure": "azure.csv",
    "mooncake": "mooncake.jsonl",
    "burstgpt": "burstgpt.csv",
    "csv": "csv.csv",
    "jsonl": "jsonl.jsonl",
}
GIVEN |= {
    kind: [
        {"file": str(DATA / name)},
        {"file": str(DATA / name), "scale_rate": 2.5},
        {"file": str(DATA / name), "window": ["0 s", "1 ms"]},
    ]
    for kind, name in FILES.items()
}


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base", "files"}
    assert files == set(own(registry))


@pytest.mark.parametrize(
    ("kind", "given"), [(kind, one) for kind in own(registry) for one in GIVEN.get(kind, [{}])]
)
@pytest.mark.parametrize("count", [1, 2, 50])
def test_contract(kind, given, count):
    arrivals = registry.get(kind)(**given)
    come_in_order(arrivals, count)
    are_the_same_again(arrivals, count)


def kind_of(kind: str, rate: str, **more: Any) -> Arrivals:
    given: dict[str, Any] = {"request_rate": rate, **more}
    return registry.get(kind)(**given)


def test_gaps_have_the_rate_and_the_spread_that_are_asked_for():
    """Mean 1 / rate and coefficient of variation 1 / sqrt(burstiness), within four standard
    errors of 100,000 gaps.
    """
    count = 100_000
    for burstiness in (0.25, 1.0, 4.0):
        kind = kind_of("gamma", "5 requests/s", burstiness=burstiness, rescale=False)
        gaps = np.diff(kind.arrive(count, np.random.default_rng(1), ()).arrival_ns) / 1e9
        spread = burstiness**-0.5
        assert abs(gaps.mean() * 5 - 1) < 4 * spread / count**0.5
        assert abs(gaps.std() / gaps.mean() - spread) < 4 * spread * (1 + spread) / count**0.5


def test_the_last_of_rescaled_gaps_is_when_so_many_are_due():
    kind = kind_of("poisson", "4 requests/s")
    assert kind.arrive(10, np.random.default_rng(0), ()).arrival_ns[-1] == 2_500_000_000


def test_other_rates_meet_the_same_luck():
    slow, fast = (
        kind_of("poisson", rate, rescale=False).arrive(9, np.random.default_rng(3), ())
        for rate in ("1 requests/s", "2 requests/s")
    )
    assert np.abs(slow.arrival_ns - 2 * fast.arrival_ns).max() <= 2


def read(kind: str, **more: Any) -> Arrived:
    given: dict[str, Any] = {"file": str(DATA / FILES[kind]), **more}
    return registry.get(kind)(**given).arrive(99, np.random.default_rng(0), ())


@pytest.mark.parametrize(
    ("kind", "instants", "inputs", "outputs"),
    [
        ("azure", [0, 52_000_000, 52_000_000, 29_479_069_000], [40, 31, 11, 15], [10, 8, 27, 1]),
        ("mooncake", [0, 500_000, 3_000_000_000], [1030, 1200, 33], [5, 4, 2]),
        ("burstgpt", [0, 113_000_000_000], [472, 417], [18, 276]),
        ("csv", [0, 0, 750_000_000], [20, 21, 22], [3, 4, 5]),
        ("jsonl", [0, NEVER, 50], [5, 9, 12], [2, 4, 3]),
    ],
)
def test_what_a_file_says(kind, instants, inputs, outputs):
    arrived = read(kind)
    assert arrived.arrival_ns.tolist() == instants
    assert arrived.input_tokens is not None
    assert arrived.output_tokens is not None
    assert arrived.input_tokens.tolist() == inputs
    assert arrived.output_tokens.tolist() == outputs


def test_of_a_session_each_request_follows_the_one_before():
    arrived = read("jsonl")
    assert arrived.follows is not None
    assert arrived.think_ns is not None
    assert arrived.follows.tolist() == [-1, 0, -1]
    assert arrived.think_ns.tolist() == [0, 70, 0]


def test_ids_of_blocks_and_priorities():
    prefixes = read("mooncake").prefixes
    assert prefixes is not None
    assert prefixes.ids.tolist() == [0, 1, 2, 0, 1, 3, 9, 8]
    assert prefixes.block_tokens.tolist() == [512, 512, 16]
    priority = read("csv").priority
    assert priority is not None
    assert priority.tolist() == [2, 0, -1]


def test_a_window_and_another_rate():
    late = read("azure", window=["10 ms", "1 s"])
    assert late.arrival_ns.tolist() == [42_000_000, 42_000_000]
    assert read("azure", scale_rate=2.0).arrival_ns.tolist()[1] == 26_000_000
    with pytest.raises(InputError, match="no request in the window"):
        read("azure", window=["100 s", "101 s"])


@pytest.mark.parametrize(
    ("kind", "text", "said"),
    [
        ("azure", "TIMESTAMP,ContextTokens\n", "1: has no column 'GeneratedTokens'"),
        (
            "csv",
            "time,num_prefill_tokens\n",
            "its first line says time, num_prefill_tokens, and has to name arrived_at, num_prefill",
        ),
        ("azure", "TIMESTAMP,ContextTokens,GeneratedTokens\nnow,1,1\n", "2: TIMESTAMP is 'now'"),
        ("csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n1,0,1\n", "2: num_prefill_to"),
        ("csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n-1,1,1\n", "2: arrived_at is"),
        ("csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n0,1\n", "tokens is missing; wri"),
        ("csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n1e11,1,1\n", "from 0 to 1e+09"),
        ("csv", "arrived_at,num_prefill_tokens,num_decode_tokens\n", "has no request; each line"),
        ("mooncake", "[1]\n", "1: '[1]' is no JSON object"),
        ("mooncake", '{"timestamp": 0, "hash_ids": 3}\n', "hash_ids is no list"),
        ("jsonl", '\n{"arrival_time_ns": 0, "sub_requests": []}\n', "2: sub_requests is no list"),
    ],
)
def test_a_mistake_in_a_file_is_one_line(tmp_path, kind, text, said):
    path = tmp_path / "requests"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read(kind, file=str(path))
    assert said in str(caught.value)


def test_a_closed_loop_without_think_time_needs_no_clock():
    kind: Any = registry.get("closed_loop")
    assert kind(max_concurrency=2).clockless
    assert not kind(max_concurrency=2, think_time="1 ms").clockless
    assert not kind(max_concurrency=2, request_rate="1 requests/s").clockless


@pytest.mark.parametrize(
    ("kind", "given"),
    [
        ("poisson", {"request_rate": "1e-19 requests/s"}),
        ("poisson", {"request_rate": "1e-300 requests/s", "rescale": False}),
        ("gamma", {"request_rate": "1 requests/s", "ramp_up": "exponential",
                   "ramp_up_to": "1e-300 requests/s"}),
        ("closed_loop", {"max_concurrency": 2, "request_rate": "1e-300 requests/s"}),
        ("closed_loop", {"max_concurrency": 2, "think_time": "1000000000 s"}),
        ("mooncake", {"file": str(DATA / FILES["mooncake"]), "scale_rate": 1e-300}),
    ],
)  # fmt: skip
@pytest.mark.filterwarnings("error")
def test_requests_later_than_the_clock_goes_are_refused(kind, given):
    with pytest.raises(InputError, match=r"workload.arrivals: .* the clock goes to 1e\+09 s"):
        registry.get(kind)(**given).arrive(9, np.random.default_rng(0), ())


def test_gaps_that_are_all_zero_have_no_rate():
    kind = kind_of("gamma", "4 requests/s", burstiness=1e-300)
    with pytest.raises(InputError, match="all 9 gaps are 0; write a larger burstiness"):
        kind.arrive(9, np.random.default_rng(0), ())


class Restless(Arrivals):
    """Comes later each time that it is asked."""

    calls: ClassVar[Any] = count()

    def arrive(self, count, stream, folders):
        return Arrived(np.full(count, next(self.calls)))


def test_one_that_is_not_the_same_again_is_named():
    with pytest.raises(AssertionError, match="Restless: arrival_ns drawn from another stream"):
        are_the_same_again(Restless(), 2)
