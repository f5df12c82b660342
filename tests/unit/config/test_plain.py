"""Python values as what a file would hold."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moesim.config.errors import InputError
from moesim.config.plain import plain_data
from moesim.experiment.loading.resolve import load_experiment
from moesim.trace import read_trace


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.arange(1, 4, dtype=np.int8), [1, 2, 3]),
        (np.zeros((1, 2)), [[0.0, 0.0]]),
        (pd.Series(["8 slots/layer", "all"]), ["8 slots/layer", "all"]),
        (range(2), [0, 1]),
        (np.str_("lru"), "lru"),
        (np.int64(3), 3),
        (np.float64(0.5), 0.5),
        (np.array(True), True),
        (Path("a") / "b", str(Path("a") / "b")),
    ],
)
def test_arrays_are_lists_and_their_scalars_values(value: Any, plain: Any) -> None:
    found = plain_data({"key": value})["key"]
    assert found == plain
    assert type(found) is type(plain)


def test_a_trace_in_memory_is_told_how_to_be_one_in_a_file() -> None:
    trace = read_trace(Path("traces/small-moe.parquet"))
    assert repr(trace) == "RoutingTrace(small-moe: 6080 tokens, 8 MoE layers, 4 of 32 experts)"
    source = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": trace}
    with pytest.raises(InputError, match=r"is no file; write it with moesim\.trace\.write_trace"):
        load_experiment(source)
