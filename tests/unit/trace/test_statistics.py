"""Statistics against closed forms, plain loops, and the known figures of the recorded trace."""

from __future__ import annotations

import json
import math
from itertools import chain, pairwise

import numpy as np
import pytest

from moesim.trace import Phase, read_trace
from moesim.trace.importing import import_trace
from moesim.trace.routing import NO_EXPERT
from moesim.trace.statistics import DEFINITIONS, statistics
from moesim.trace.statistics.batches import distinct_experts
from moesim.trace.statistics.correlation import (
    cramers_v,
    joint_counts,
    mutual_information_bits,
)
from moesim.trace.statistics.load import entropy_bits, expert_counts
from moesim.trace.statistics.overlap import overlap_previous, overlap_shuffled
from moesim.trace.statistics.reuse import reuse_distances
from moesim.trace.statistics.tables import tables


def sets(trace, layer):
    """For each request the sets of experts of its tokens, as a person would write them down."""
    used = [{e for e in row if e != NO_EXPERT} for row in trace.expert_ids[:, layer].tolist()]
    return [used[a:b] for a, b in pairwise(trace.request_offsets())]


class TestLoad:
    def test_entropy_of_known_shares(self):
        assert entropy_bits(np.array([[5, 5, 5, 5], [8, 0, 0, 0], [4, 2, 1, 1]])) == pytest.approx(
            [2, 0, 1.75]
        )

    def test_counts_leave_unused_slots_out(self, make):
        ids = [[[0, NO_EXPERT]], [[0, 3]], [[NO_EXPERT, NO_EXPERT]]]
        assert expert_counts(make(ids, [3], experts=4)).tolist() == [[2, 0, 0, 1]]

    def test_max_over_mean_and_variation(self, make):
        layer = statistics(make([[[0]], [[0]], [[0]], [[1]]], [4], experts=2))["layers"][0]
        assert layer["load_max_over_mean"] == pytest.approx(1.5)
        assert layer["load_cv"] == pytest.approx(0.5)


class TestOverlap:
    def test_agrees_with_sets(self, random_trace):
        for layer, share in enumerate(overlap_previous(random_trace)):
            pairs = [pair for request in sets(random_trace, layer) for pair in pairwise(request)]
            repeated = sum(len(before & now) for before, now in pairs)
            assert share == pytest.approx(repeated / sum(len(now) for _, now in pairs))

    def test_requests_of_one_token_have_none(self, make):
        trace = make([[[0, 1]], [[0, 1]]], [1, 1])
        assert np.isnan(overlap_previous(trace)).all()
        assert statistics(trace)["mean"]["overlap_previous"] is None

    def test_shuffled_is_the_mean_over_all_ordered_pairs(self, random_trace):
        expected = overlap_shuffled(expert_counts(random_trace), random_trace.tokens)
        for layer, share in enumerate(expected):
            used = [s for request in sets(random_trace, layer) for s in request]
            pairs = [(a, b) for i, a in enumerate(used) for j, b in enumerate(used) if i != j]
            repeated = sum(len(a & b) for a, b in pairs)
            assert share == pytest.approx(repeated / sum(len(b) for _, b in pairs))


class TestReuse:
    def test_by_hand(self, make):
        trace = make([[[0]], [[1]], [[2]], [[1]], [[0]], [[0]]], [6], experts=4)
        reuse = reuse_distances(trace)
        assert reuse.histogram.tolist() == [[1, 1, 1, 0]]  # 0 at once, 1 after {2}, 0 after {1, 2}
        assert reuse.first_uses.tolist() == [3]
        assert reuse.quantile(0.5).tolist() == [1]
        assert reuse.quantile(0.9).tolist() == [2]

    def test_agrees_with_sets(self, random_trace):
        reuse = reuse_distances(random_trace)
        for layer in range(random_trace.moe_layers):
            histogram, first = [0] * random_trace.experts, 0
            for request in sets(random_trace, layer):
                for now, used in enumerate(request):
                    for expert in used:
                        before = [t for t in range(now) if expert in request[t]]
                        if before:
                            between = set().union(*request[before[-1] + 1 : now])
                            histogram[len(between)] += 1
                        else:
                            first += 1
            assert reuse.histogram[layer].tolist() == histogram
            assert reuse.first_uses[layer] == first

    def test_no_reuse_has_no_median(self, make):
        layer = statistics(make([[[0]], [[1]]], [2]))["layers"][0]
        assert layer["reuse_distance_p50"] is None
        assert layer["first_use_share"] == 1


class TestBatches:
    def test_agrees_with_sets(self, random_trace):
        for row in distinct_experts(random_trace, expert_counts(random_trace)):
            sizes = []
            for layer in range(random_trace.moe_layers):
                requests = sets(random_trace, layer)
                for first in range(0, len(requests) - row.batch_size + 1, row.batch_size):
                    group = requests[first : first + row.batch_size]
                    sizes += [len(set().union(*step)) for step in zip(*group, strict=False)]
            assert row.mean == pytest.approx(np.mean(sizes))
            assert row.steps * random_trace.moe_layers == len(sizes)

    def test_random_routing_follows_the_uniform_formula(self, make):
        generator = np.random.default_rng(11)
        ids = np.argsort(generator.random((64 * 100, 2, 32)), axis=2)[:, :, :4]
        trace = make(ids, [100] * 64, experts=32)
        found = distinct_experts(trace, expert_counts(trace))
        assert [row.batch_size for row in found] == [1, 2, 4, 8, 16, 32, 64]
        for row in found:
            # a batch's number varies by less than sqrt(32) / 2 about its mean: four deviations
            assert row.uniform == pytest.approx(32 * (1 - (1 - 4 / 32) ** row.batch_size))
            assert row.mean == pytest.approx(row.uniform, abs=4 * 2.83 / math.sqrt(2 * row.steps))
            assert row.independent == pytest.approx(row.uniform, abs=0.02)

    def test_only_decode_tokens_are_batched(self, make):
        ids = [[[0]], [[1]], [[2]], [[0]], [[1]], [[2]]]
        trace = make(ids, [3, 3])
        trace.phase[[0, 1, 3]] = Phase.PREFILL
        # token 2 of the first request (expert 2) meets token 1 of the second (expert 1)
        two = distinct_experts(trace, expert_counts(trace))[1]
        assert (two.steps, two.mean) == (1, 2)


class TestCorrelation:
    def test_joint_counts_agree_with_sets(self, random_trace):
        joint = joint_counts(random_trace, 0)
        expected = np.zeros((8, 8), dtype=int)
        for here, after in zip(
            chain(*sets(random_trace, 0)), chain(*sets(random_trace, 1)), strict=True
        ):
            for a in here:
                for b in after:
                    expected[a, b] += 1
        assert joint.tolist() == expected.tolist()

    def test_a_copy_says_everything(self):
        joint = np.diag([4, 4, 4, 4])
        assert mutual_information_bits(joint) == pytest.approx(2)
        assert cramers_v(joint) == pytest.approx(1)

    def test_a_product_says_nothing(self):
        joint = np.outer([1, 2, 3], [4, 5, 6])
        assert mutual_information_bits(joint) == pytest.approx(0, abs=1e-12)
        assert cramers_v(joint) == pytest.approx(0, abs=1e-7)

    def test_cramers_v_agrees_with_scipy(self):
        from scipy.stats.contingency import association

        joint = np.random.default_rng(2).integers(0, 50, (6, 6))
        assert cramers_v(joint) == pytest.approx(association(joint, method="cramer"))

    def test_one_expert_has_no_correlation(self):
        assert cramers_v(np.array([[9, 0], [0, 0]])) == 0


class TestSummary:
    def test_json_and_tables_show_it_all(self, random_trace):
        result = statistics(random_trace)
        assert json.loads(json.dumps(result, allow_nan=False)) == result
        assert result["tokens_by_phase"] == {"prefill": 0, "decode": 61, "encode": 0}
        assert [row["layer"] for row in result["layers"]] == [0, 1, 2]
        assert len(tables(result, layers=True)) == 4
        explained = " ".join(DEFINITIONS)
        for name in result["mean"]:
            assert any(word in explained for word in (name, name.rsplit("_", 1)[0], name[:10]))

    def test_golden_figures_of_the_shipped_trace(self, quickstart):
        result = statistics(read_trace(quickstart))
        mean = {name: round(value, 4) for name, value in result["mean"].items()}
        assert mean == GOLDEN_MEAN
        distinct = [(row["batch_size"], row["steps"], round(row["mean"], 3)) for row in
                    result["distinct_experts"]]  # fmt: skip
        assert distinct == GOLDEN_DISTINCT

    def test_known_figures_of_the_whole_recording(self, recorded):
        trace = import_trace(recorded)
        result = statistics(trace)
        layers, mean = result["layers"], result["mean"]
        assert mean["entropy_bits"] == pytest.approx(4.573, abs=5e-4)
        assert layers[0]["entropy_bits"] == pytest.approx(4.853, abs=5e-4)
        assert layers[23]["entropy_bits"] == pytest.approx(4.348, abs=5e-4)
        assert mean["overlap_previous"] == pytest.approx(0.441, abs=5e-4)
        assert layers[0]["overlap_previous"] == pytest.approx(0.196, abs=5e-4)
        assert layers[23]["overlap_previous"] == pytest.approx(0.553, abs=5e-4)
        assert mean["overlap_shuffled"] == pytest.approx(0.19, abs=5e-3)

    def test_shuffling_the_recording_gives_the_shuffled_overlap(self, recorded):
        from dataclasses import replace

        trace = import_trace(recorded)
        order = np.random.default_rng(1).permutation(trace.tokens)
        shuffled = replace(trace, expert_ids=trace.expert_ids[order])
        expected = overlap_shuffled(expert_counts(trace), trace.tokens)
        assert overlap_previous(shuffled) == pytest.approx(expected, abs=5e-3)


GOLDEN_MEAN = {
    "entropy_bits": 4.5275,
    "load_max_over_mean": 2.6624,
    "load_cv": 0.7635,
    "overlap_previous": 0.4459,
    "overlap_shuffled": 0.1998,
    "reuse_distance_p50": 3.2917,
    "reuse_distance_p90": 14.0,
    "first_use_share": 0.0259,
    "next_layer_mutual_information_bits": 0.5438,
    "next_layer_cramers_v": 0.1678,
}
GOLDEN_DISTINCT = [
    (1, 5077, 4.0),
    (2, 2030, 7.074),
    (4, 487, 11.261),
    (8, 128, 15.901),
    (16, 57, 19.906),
]
