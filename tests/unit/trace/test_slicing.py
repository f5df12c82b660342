from __future__ import annotations

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.trace.slicing import parse_slice, slice_trace
from moesim.trace.validate import findings


def test_requests_tokens_and_layers(random_trace):
    part = slice_trace(random_trace, slice(0, 5, 2), 12, slice(1, 3))
    rows = [*range(12), *range(21, 33), *range(46, 58)]
    np.testing.assert_array_equal(part.expert_ids, random_trace.expert_ids[rows][:, 1:3])
    np.testing.assert_array_equal(part.gate_weights, random_trace.gate_weights[rows][:, 1:3])
    np.testing.assert_array_equal(part.predicted_ids, random_trace.predicted_ids[rows][:, 1:3])
    np.testing.assert_array_equal(part.position, random_trace.position[rows])
    assert sorted(set(part.request_id.tolist())) == [0, 2, 4]
    assert part.metadata.moe_layer_ids == (1, 2)
    assert part.metadata.experts == random_trace.metadata.experts
    assert findings(part) == []


def test_the_whole_is_the_whole(random_trace):
    part = slice_trace(random_trace)
    np.testing.assert_array_equal(part.expert_ids, random_trace.expert_ids)
    assert part.metadata == random_trace.metadata


@pytest.mark.parametrize(
    "arguments", [(slice(9, 12),), (slice(0, 1), 0), (slice(0, 1), None, slice(3, 4))]
)
def test_nothing_left_is_an_error(random_trace, arguments):
    with pytest.raises(InputError):
        slice_trace(random_trace, *arguments)


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("3", [3]),
        (":", [0, 1, 2, 3, 4, 5]),
        ("2:4", [2, 3]),
        (":2", [0, 1]),
        ("4:", [4, 5]),
        ("1:6:2", [1, 3, 5]),
    ],
)
def test_slices_as_text(text, chosen):
    assert list(range(6))[parse_slice(text, "--requests")] == chosen


@pytest.mark.parametrize("text", ["", "a", "1:b", "-1", "1:2:3:4", "0:5:0", "0:-1", "1.5"])
def test_other_text_is_an_error(text):
    with pytest.raises(InputError, match="--requests"):
        parse_slice(text, "--requests")
