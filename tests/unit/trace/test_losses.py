"""What a transformed trace says that it lost: by hand, through files, and transformed again."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from moesim.config.errors import InputError
from moesim.trace import NO_EXPERT, RoutingTrace, read_trace, write_trace
from moesim.trace.losses import Losses
from moesim.trace.mapped import map_arrays, write_arrays
from moesim.trace.metadata import decode_metadata
from moesim.trace.routing import TraceMetadata
from moesim.trace.rules import read_rules
from moesim.trace.slicing import slice_trace
from moesim.trace.statistics import statistics
from moesim.trace.statistics.tables import tables
from moesim.trace.transforming import transform

NONE = NO_EXPERT
TOP_3, TOP_2, TOP_1 = ("{kind: top_k, k: %d}" % k for k in (3, 2, 1))  # noqa: UP031
HALF = "{kind: prune, keep: 50 %, learn: 50 %, then: drop}"


def a_trace() -> RoutingTrace:
    """Two requests of two tokens, two layers, the second of which only the first two run."""
    ids = np.full((4, 2, 4), NONE, np.uint16)
    weights = np.zeros(ids.shape, np.float16)
    ids[:, 0] = [[0, 1, 2, 3], [1, 0, 3, 2], [1, 2, 0, 3], [2, 1, 3, 0]]
    weights[:2, 0] = [[0.5, 0.25, 0.125, 0.125], [0.75, 0.125, 0.0625, 0.0625]]
    weights[2:, 0] = [[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0]]
    ids[:2, 1] = [[0, 1, 2, 3], [3, 2, 1, 0]]
    weights[:2, 1] = [[0.25, 0.25, 0.25, 0.25], [0.5, 0.25, 0.25, 0.0]]
    return RoutingTrace(
        expert_ids=ids,
        request_id=np.array([0, 0, 1, 1], np.int32),
        position=np.array([0, 1, 0, 1], np.int32),
        phase=np.ones(4, np.uint8),
        gate_weights=weights,
        predicted_ids=None,
        metadata=TraceMetadata(None, 4, 4, (0, 1), "by hand", "-", "none"),
    )


def by(trace: RoutingTrace, *rules: str) -> RoutingTrace:
    return transform(trace, read_rules(f"[{', '.join(rules)}]")).trace


def losses_of(trace: RoutingTrace) -> Losses:
    assert trace.metadata.losses is not None
    return trace.metadata.losses


def numbers(losses: Losses) -> dict[str, object]:
    return {key: one for key, one in losses.summary().items() if key != "routing_notes"}


def test_means_are_of_tokens_that_run_a_layer() -> None:
    """Layer 1 has two tokens of four: 2 choices of 4 in six pairs, not 1.5 of 3."""
    losses = losses_of(by(a_trace(), TOP_2))
    assert (losses.mean_choices, losses.recorded_choices) == (2.0, 4.0)
    assert losses.mean_by_layer == [2.0, 2.0]
    assert losses.gate_weight_lost == (0.25 + 0.125 + 0.5 + 0.5 + 0.25) / 6
    assert losses.lost_by_layer == [0.875 / 4, 0.75 / 2]
    assert losses.cut_share == losses.gate_weight_lost
    assert losses.rules == ("{kind: top_k, k: 2}",)


def test_a_token_without_a_choice_left_counts() -> None:
    losses = losses_of(by(a_trace(), "{kind: threshold, epsilon: 3}"))  # of three quarters or more
    assert losses.mean_by_layer == [2 / 4, 0.0]
    assert losses.mean_choices == 2 / 6


def test_files_keep_them_and_older_versions_read_the_rest(tmp_path: Path) -> None:
    trace, file = by(a_trace(), HALF), tmp_path / "x.parquet"
    write_trace(trace, file)
    assert read_trace(file).metadata == trace.metadata
    write_arrays(trace, tmp_path / "arrays")
    assert map_arrays(tmp_path / "arrays").metadata == trace.metadata
    said = pq.read_schema(file).metadata
    assert "losses" not in json.loads(said[b"moesim"])
    assert decode_metadata(said[b"moesim"]) == replace(trace.metadata, losses=None)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda said: said.update(rules="top_k"), "rules: Input should be a valid"),
        (lambda said: said.update(learnt=2.0), "learnt: Input should be less than or equal to 1"),
        (lambda said: said["layers"].pop(), "losses are of 1 MoE layer: must be of each of the 2"),
        (lambda said: said.pop("layers"), "layers: Field required"),
    ],
)
def test_what_is_no_record_is_told(tmp_path: Path, change: object, what: str) -> None:
    assert callable(change)
    trace, file = by(a_trace(), TOP_2), tmp_path / "x.parquet"
    write_trace(trace, file)
    table = pq.read_table(file)
    said = json.loads(json.dumps(asdict(losses_of(trace))))
    change(said)
    told = {**table.schema.metadata, b"moesim.losses": json.dumps(said).encode()}
    pq.write_table(table.replace_schema_metadata(told), file)
    with pytest.raises(InputError, match=what):
        read_trace(file)


@pytest.mark.parametrize(
    "rules", [(TOP_3, TOP_1), (TOP_2, "{kind: top_p, p: 70 %}"), (HALF, TOP_1)]
)
def test_one_after_the_other_is_both_at_once(rules: tuple[str, str]) -> None:
    apart, at_once = by(by(a_trace(), rules[0]), rules[1]), by(a_trace(), *rules)
    assert np.array_equal(apart.expert_ids, at_once.expert_ids)
    one, other = losses_of(apart), losses_of(at_once)
    assert one.layers == other.layers
    assert one.rules == other.rules
    assert one.cut_share == other.cut_share
    if rules[0] != HALF:
        assert numbers(one) == numbers(other)
        return
    assert (one.learnt, one.held_out) == (None, None)
    assert one.notes[-1].startswith("the gate weight lost in tokens learnt from is not known")


def test_of_changed_weights_it_is_not_known_what_more_is_lost() -> None:
    pruned = by(a_trace(), HALF.replace("drop", "renormalise"))
    first, then = losses_of(pruned), losses_of(by(pruned, TOP_1))
    assert not first.as_recorded
    assert then.gate_weight_lost is None
    assert "an earlier rule changed the weights" in then.notes[-1]
    assert then.cut_share == max(first.cut_share or 0, 1 - then.mean_choices / 4)
    nothing = transform(pruned, read_rules(TOP_2)).losses
    assert numbers(nothing) == numbers(first)


def test_a_part_says_what_the_whole_lost() -> None:
    trace = by(a_trace(), HALF)
    assert losses_of(slice_trace(trace)) == losses_of(trace)
    layer = losses_of(slice_trace(trace, layers=slice(1, 2)))
    assert layer.gate_weight_lost == losses_of(trace).lost_by_layer[1]
    assert layer.held_out is None
    part = slice_trace(trace, requests=slice(1, 2))
    assert losses_of(part) == replace(losses_of(trace), whole=False)
    more = losses_of(by(part, TOP_1))
    assert more.gate_weight_lost is None
    assert "the trace is a part of one that was transformed" in more.notes[-1]
    assert more.recorded_choices == 4


def test_statistics_tell_it() -> None:
    assert "transformed" not in statistics(a_trace())
    found = statistics(by(a_trace(), TOP_2))
    assert found["transformed"]["rules"] == [TOP_2]
    assert found["transformed"]["mean_choices"] == 2
    (first, *_) = tables(found, layers=False)
    assert f"{TOP_2}: 2 of 4 choices, 27.1% of gate weight lost" in list(first.columns[1].cells)


def test_without_weights_choices_are_counted() -> None:
    losses = losses_of(by(by(replace(a_trace(), gate_weights=None), TOP_3), TOP_2))
    assert losses.gate_weight_lost is None
    assert losses.cut_share == 0.5
    assert not [one for one in losses.notes if "not known" in one]
