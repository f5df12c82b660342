"""InfMoE's schedule (arXiv 2106.10715): two buffers, an expert copied while another computes."""

from __future__ import annotations

import pytest

import moesim
from moesim.reproduce.systems.load import systems_folder

SETTINGS = ("workload.requests=16", "workload.batching.batch_size=8", "engine=des")


@pytest.mark.parametrize("more", [(), ("workload.phase=decode",)])
def test_a_layer_takes_load_1_and_the_longer_of_each_pair_and_compute_n(more):
    path = systems_folder() / "infmoe" / "experiment.yaml"
    found = moesim.run(path, overrides=[*SETTINGS, *more], records="expert")
    assert found.spans is not None
    spans = found.spans[found.spans["layer"] >= 0]
    groups = 0
    for _, one in spans.groupby(["step", "layer"]):
        loads = one[one["category"] == "copy"].sort_values("start_ns")
        computes = one[one["category"] == "experts"].sort_values("start_ns")
        load = (loads["end_ns"] - loads["start_ns"]).tolist()
        compute = (computes["end_ns"] - computes["start_ns"]).tolist()
        pairs = zip(compute, load[1:], strict=False)
        whole = load[0] + sum(max(pair) for pair in pairs) + compute[-1]
        assert computes["end_ns"].max() - loads["start_ns"].min() == whole
        groups += len(load) > 1
    assert groups > 20
