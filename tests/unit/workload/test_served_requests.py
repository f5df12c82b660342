"""Rows and blocks of requests that are served."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.testing.traces import toy_trace
from moesim.trace.labelling import with_domains
from moesim.trace.slicing import slice_trace
from moesim.workload.arrivals import registry as arrivals
from moesim.workload.binding import Draw, Nearest, Own
from moesim.workload.lengths import registry as lengths
from moesim.workload.serving.requests.requests import Load, ServedRequests, served_requests

TRACE = toy_trace([(3, 4), (6, 2), (2, 9)])
STARTS = [0, 7, 15]


def served(
    lines: str, tmp_path: Path, kind: str = "jsonl", binding: Any = None, **more: Any
) -> ServedRequests:
    path = tmp_path / "requests"
    path.write_text(lines)
    of_file: Any = arrivals.get(kind)
    load = Load(of_file(file=str(path)), lengths.get("arrivals")(), binding or Draw(), **more)
    return served_requests(load, TRACE, 4)


def rows_of(of: ServedRequests, request: int) -> list[int]:
    asked = of.asked
    tokens = np.arange(asked.input_tokens[request] + asked.output_tokens[request] - 1)
    return list(map(int, of.rows(np.full_like(tokens, request), tokens)))


def test_own_requests_take_their_own_rows():
    load = Load(arrivals.get("at_once")(), lengths.get("trace")(), Own())
    of = served_requests(load, TRACE, 16)
    assert of.asked.input_tokens.tolist() == [3, 6, 2]
    assert of.asked.output_tokens.tolist() == [5, 3, 10]
    assert [row for one in range(3) for row in rows_of(of, one)] == list(range(26))


def test_the_nearest_of_eight_draws_is_taken(tmp_path):
    """Of eight draws of three requests one is nearly always there; it has the asked lengths."""
    line = '{"arrival_time_ns": 0, "input_toks": 6, "output_toks": 3}\n'
    of = served(line * 30, tmp_path, binding=Nearest())
    assert (of.bound == 1).mean() > 0.8


def test_equal_prefixes_have_equal_rows_and_equal_blocks(tmp_path):
    """Ids of 4 tokens: requests 0 and 1 have two in common, 2 has the second alone, which is not
    the same, as another one stands before it; its rows are, block by block.
    """
    given = {"timestamp": 0, "input_length": 10, "output_length": 3, "block_size": 4}
    ids = [5, 6, 7], [5, 6, 8], [1, 6, 7]
    text = "\n".join(json.dumps({**given, "hash_ids": one}) for one in ids)
    of = served(text, tmp_path, "mooncake")
    first, second, third = (rows_of(of, one) for one in range(3))
    assert first[:8] == second[:8]
    assert first[4:8] == third[4:8]
    assert of.asked.contents is not None
    request, block, by, its = (column.tolist() for column in of.asked.contents)
    same = {(r, b): (o, k) for r, b, o, k in zip(request, block, by, its, strict=True)}
    assert same[1, 0] == (0, 0)
    assert same[1, 1] == (0, 1)
    assert {(2, 0), (2, 1)}.isdisjoint(same)
    assert (1, 2) not in same  # its tokens are not all of the prompt, which ends at 10
    assert of.routing_share["borrowed"] == pytest.approx(30 / 36)


def test_a_session_goes_on_with_what_was_said(tmp_path):
    text = (
        '{"arrival_time_ns": 0, "sub_requests": [{"input_toks": 5, "output_toks": 4},'
        ' {"input_toks": 12, "output_toks": 2}, {"input_toks": 3, "output_toks": 2}]}\n'
    )
    of = served(text, tmp_path)
    first, second, third = (rows_of(of, one) for one in range(3))
    assert second[:8] == first  # all tokens of it that were in passes
    assert third[:3] == first[:3]
    assert of.asked.contents is not None
    columns = [column.tolist() for column in of.asked.contents]
    assert list(zip(*columns, strict=True)) == [(1, 0, 0, 0), (1, 1, 0, 1)]


def test_rows_of_decode_tokens_in_place_of_a_prompt(tmp_path):
    line = '{"arrival_time_ns": 0, "input_toks": 9, "output_toks": 1}\n'
    of = served(line * 5, tmp_path, binding=Draw(prompts_from="decode"))
    for one in range(5):
        rows, bound = rows_of(of, one), int(of.bound[one])
        low = STARTS[bound] + (3, 6, 2)[bound]
        answers = (4, 2, 9)[bound]
        assert [(row - low) % answers for row in rows] == [
            (rows[0] - low + k) % answers for k in range(9)
        ]
    assert of.routing_share["borrowed"] == 1.0


def test_prompts_elsewhere_are_no_part_of_the_share(tmp_path):
    line = '{"arrival_time_ns": 0, "input_toks": 900, "output_toks": 3}\n'
    assert served(line, tmp_path, prompts=False).routing_share["recorded"] == 1.0


def bound_to(domain: str | None, names: list[str], count: int, **given: Any) -> ServedRequests:
    """Requests of 6 and 15 tokens, bound in a trace whose requests are about ``names``."""
    fixed: Any = lengths.get("fixed")
    binding = Draw(domain=domain, **given)
    trace = with_domains(TRACE, names) if names else TRACE
    sizes = fixed(input_len=6, output_len=15)
    return served_requests(Load(arrivals.get("at_once")(), sizes, binding, count=count), trace, 4)


def test_only_requests_of_a_domain_are_drawn():
    of = bound_to("code", ["code", "prose", "code"], 60)
    assert set(of.bound.tolist()) == {0, 2}
    assert set(bound_to("prose", ["code", "prose", "code"], 9).bound.tolist()) == {1}


def test_a_domain_is_left_out_of_what_is_drawn_without_one():
    """The same draws as of a trace that says nothing."""
    plain, said = (bound_to(None, names, 20) for names in ([], ["a", "b", "a"]))
    assert plain.bound.tolist() == said.bound.tolist()


def test_errors_name_the_domain():
    fixed: Any = lengths.get("fixed")
    trace = with_domains(TRACE, ["a", "b", "a"])
    load = Load(arrivals.get("at_once")(), fixed(input_len=6, output_len=5), Own(domain="b"))
    with pytest.raises(InputError, match="is 2, and the trace has 1 about 'b'; write routing"):
        served_requests(replace(load, count=2), trace, 4)
    empty = slice_trace(trace, slice(0, 1))
    with pytest.raises(InputError, match="has no request about 'b' with what is served"):
        served_requests(replace(load, binding=Draw(domain="b"), count=2), empty, 4)


@pytest.mark.parametrize("domain", [None, "a"])
def test_a_chain_stays_in_its_domain(domain):
    of = bound_to(domain, ["a", "b", "a"], 40, when_short="chain")
    assert set(of.bound.tolist()) == ({0, 2} if domain else {0, 1, 2})
    for one, bound in enumerate(of.bound):
        within = np.searchsorted(STARTS, rows_of(of, one), "right") - 1
        assert set(within) <= ({1} if bound == 1 else {0, 2})
    assert any(
        len({*(np.searchsorted(STARTS, rows_of(of, one), "right"))}) > 1 for one in range(40)
    )


def test_by_default_prompts_chain_and_answers_repeat():
    """Of the same draws, a prompt's tokens are those of a chain, an answer's those of a repeat."""
    named = ("auto", "chain", "repeat")
    auto, chain, repeat = (bound_to(None, [], 40, when_short=rule) for rule in named)
    assert bound_to(None, [], 40).bound.tolist() == auto.bound.tolist()
    others = 0
    for one, bound in enumerate(auto.bound):
        rows = rows_of(auto, one)
        own = range(STARTS[bound], [*STARTS, 26][bound + 1])
        assert all(row in own for row in rows[6:])
        assert rows[6:] == rows_of(repeat, one)[6:]
        others += any(row not in own for row in rows[:6])
    assert others > 0
    assert auto.routing_share["borrowed"] < chain.routing_share["borrowed"]


def test_prefixes_take_rows_of_the_domain(tmp_path):
    given = {"timestamp": 0, "input_length": 8, "output_length": 3, "block_size": 4}
    text = "\n".join(json.dumps({**given, "hash_ids": [n, n + 50]}) for n in range(30))
    path = tmp_path / "requests"
    path.write_text(text)
    of_file: Any = arrivals.get("mooncake")
    load = Load(of_file(file=str(path)), lengths.get("arrivals")(), Draw(domain="a"))
    of = served_requests(load, with_domains(TRACE, ["a", "b", "a"]), 4)
    taken = {row for one in range(30) for row in rows_of(of, one)}
    assert not taken & set(range(7, 15))
    assert taken & set(range(7))


@pytest.mark.parametrize(
    ("names", "told"),
    [
        ([], r"domain: is 'cod', and the trace does not say .*moesim trace label"),
        (["code", "prose", "x"], r"domain: 'cod' is no domain of the trace; allowed: code, prose"),
    ],
)
def test_a_domain_that_the_trace_has_not_is_told(names, told):
    with pytest.raises(InputError, match=told):
        bound_to("cod", names, 3)
