from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.trace import Phase, read_trace, validate, write_trace
from moesim.trace.validate import findings


def changed(trace, name, place, value):
    array = getattr(trace, name).copy()
    array[place] = value
    return replace(trace, **{name: array})


def test_a_sound_trace_is_clean(random_trace):
    assert findings(random_trace) == []


@pytest.mark.parametrize(
    ("name", "place", "value", "count", "words"),
    [
        ("expert_ids", (30, 1, 0), 8, 1, "expert id 8 at row 30 (request 2), MoE layer 1"),
        ("expert_ids", (slice(5, 9), 2, 1), 65534, 4, "expert id 65534 at row 5 (request 0)"),
        ("expert_ids", (33, 0), 3, 1, "experts [3, 3, 3] at row 33 (request 2), MoE layer 0"),
        ("gate_weights", (2, 0, 1), np.nan, 1, "weight nan at row 2"),
        ("gate_weights", (2, 0, 1), np.inf, 1, "must be a number from 0 to 1"),
        ("gate_weights", (60, 2, 2), 1.001, 1, "weight 1.000"),
        ("gate_weights", (60, 2, 2), -0.25, 1, "weight -0.25 at row 60"),
        ("predicted_ids", (0, 0, 0), 9, 1, "expert id 9"),
        ("phase", 3, 7, 1, "phase 7 at row 3"),
        ("phase", slice(5, 8), Phase.PREFILL, 1, "prefill after decode at row 5 (request 0)"),
        ("position", 25, -4, 1, "position -4 at row 25 (request 2) must be 0 or more"),
        ("position", 22, 0, 1, "position 0 at row 22 (request 2) must be larger"),
        (
            "position",
            slice(30, 36),
            np.arange(30, 36),
            1,
            "position 30 at row 30 (request 2) leaves",
        ),
        ("request_id", slice(46, 61), 0, 1, "torn apart (request 0, from row 0)"),
    ],
)
def test_what_is_wrong_is_found(random_trace, name, place, value, count, words):
    found = findings(changed(random_trace, name, place, value))
    assert (name, count) in [(f.column, f.count) for f in found if words in f.what], found


def test_everything_is_found_at_once(random_trace):
    broken = changed(random_trace, "expert_ids", (0, 0, 0), 100)
    broken = changed(broken, "gate_weights", (0, 0, 0), 2)
    broken = changed(broken, "phase", 0, 3)
    assert [f.column for f in findings(broken)] == ["phase", "expert_ids", "gate_weights"]


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_counts_agree_with_a_plain_loop(random_trace, monkeypatch, chunk):
    monkeypatch.setattr(validate, "CHUNK_TOKENS", chunk)
    generator = np.random.default_rng(3)
    ids = generator.integers(0, 10, random_trace.expert_ids.shape).astype(np.uint16)
    ids[generator.random(ids.shape) < 0.2] = 65535
    found = findings(replace(random_trace, expert_ids=ids))
    outside = sum(8 <= e < 65535 for token in ids.tolist() for slots in token for e in slots)
    twice = 0
    for token in ids.tolist():
        for slots in token:
            used = [e for e in slots if e != 65535]
            twice += len(used) != len(set(used))
    assert [f.count for f in found if f.column == "expert_ids"] == [outside, twice]


def test_phases_in_their_order_are_clean(random_trace):
    phase = random_trace.phase.copy()
    phase[:4] = Phase.PREFILL
    phase[21:30] = Phase.ENCODE
    position = random_trace.position.copy()
    position[30:36] = np.arange(6)  # a decoder counts anew
    assert findings(replace(random_trace, phase=phase, position=position)) == []


def test_a_gap_stops_nothing_and_the_rest_does(random_trace, tmp_path):
    gap = changed(random_trace, "position", slice(30, 36), np.arange(100, 106))
    write_trace(gap, tmp_path / "gap.parquet")
    assert read_trace(tmp_path / "gap.parquet").tokens == 61
    assert [f.fatal for f in findings(gap)] == [False]

    broken = changed(changed(gap, "expert_ids", (0, 0, 0), 100), "gate_weights", (0, 0, 0), 2)
    write_trace(broken, tmp_path / "broken.parquet")
    with pytest.raises(InputError) as error:
        read_trace(tmp_path / "broken.parquet")
    assert [p.path for p in error.value.problems] == ["expert_ids", "gate_weights"]
    assert all(p.where == str(tmp_path / "broken.parquet") for p in error.value.problems)


def test_the_shipped_trace_is_clean(quickstart):
    assert findings(read_trace(quickstart)) == []
