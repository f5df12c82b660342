"""The requests of a trace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.testing.traces import toy_trace
from moesim.workload.requests import Requests


def test_request_ids_may_be_any_int32():
    trace = toy_trace([(1, 2), (0, 1)])
    least, most = np.iinfo(np.int32).min, np.iinfo(np.int32).max
    ids = np.array([least, least, least, most], np.int32)
    found = Requests.of(replace(trace, request_id=ids), "all")
    assert found.request.tolist() == [0, 0, 0, 1]
    assert found.decode_index.tolist() == [-1, 0, 1, 0]
    assert found.decode_tokens.tolist() == [2, 1]
