"""Recall and precision of recorded predictions, by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from moesim.cli.main import main
from moesim.trace import NO_EXPERT, RoutingTrace, write_trace
from moesim.trace.routing import TraceMetadata
from moesim.trace.statistics import statistics
from moesim.trace.statistics.predictions import predictions

NONE = NO_EXPERT


def a_trace(predicted: Sequence[object] | None) -> RoutingTrace:
    """Two tokens in three layers, top-2; the second makes one choice in layer 1."""
    ids = [[[0, 1], [2, 3], [4, 5]], [[0, 1], [2, NONE], [4, 5]]]
    return RoutingTrace(
        expert_ids=np.array(ids, np.uint16),
        request_id=np.zeros(2, np.int32),
        position=np.arange(2, dtype=np.int32),
        phase=np.ones(2, np.uint8),
        gate_weights=None,
        predicted_ids=None if predicted is None else np.array(predicted, np.uint16),
        metadata=TraceMetadata(None, 8, 2, (0, 1, 2), "by hand", "-", "none"),
    )


ONE = [[[NONE, NONE], [2, 0], [5, 4]], [[NONE, NONE], [2, 3], [4, 4]]]
TWO = [[[7, 7], [7, 7], [4, NONE]], [[7, 7], [7, 7], [NONE, NONE]]]


def test_one_distance_by_hand() -> None:
    """Layer 0 is not predicted. In layer 1 three choices, four named, two right; in layer 2 four
    choices, and three named, as an expert counts once, all right.
    """
    (found,) = predictions(a_trace(ONE))
    assert found.layers.tolist() == [1, 2]
    assert (found.recall(1), found.precision(1)) == (2 / 3, 2 / 4)
    assert (found.recall(2), found.precision(2)) == (3 / 4, 1.0)
    assert (found.recall(), found.precision()) == (5 / 7, 5 / 7)
    assert found.recall(0) is None


def test_further_ahead_the_first_layers_have_no_prediction() -> None:
    """Over two layers only layer 2: of four choices one is named. What stands there for layers that
    nothing runs before is never read.
    """
    both = np.stack([ONE, TWO], axis=1).tolist()
    one, two = predictions(a_trace(both))
    assert (one.recall(), one.precision()) == (5 / 7, 5 / 7)
    assert (two.distance, two.layers.tolist()) == (2, [2])
    assert (two.recall(), two.precision()) == (1 / 4, 1.0)


def test_statistics_say_it_for_people_and_programs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert statistics(a_trace(None))["predictions"] == []
    file = tmp_path / "x.parquet"
    write_trace(a_trace(np.stack([ONE, TWO], axis=1).tolist()), file)
    assert main(["trace", "stats", str(file), "--json"]) == 0
    one, two = json.loads(capsys.readouterr().out)["predictions"]
    assert one == {
        "distance": 1,
        "recall": 5 / 7,
        "precision": 5 / 7,
        "layers": [
            {"layer": 1, "recall": 2 / 3, "precision": 0.5},
            {"layer": 2, "recall": 0.75, "precision": 1.0},
        ],
    }
    assert two["layers"] == [{"layer": 2, "recall": 0.25, "precision": 1.0}]
    assert main(["trace", "stats", str(file), "--layers"]) == 0
    told = capsys.readouterr().out.partition("Recorded predictions")[2]
    rows = [line.split() for line in told.splitlines()]
    assert ["1", "1", "0.667", "0.500"] in rows
    assert ["2", "all", "0.250", "1.000"] in rows
