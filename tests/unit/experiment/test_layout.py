"""GPUs on nodes, and the dense part split over them."""

from __future__ import annotations

import pytest

from moesim.config.errors import InputError
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import run
from moesim.hardware import load_hardware
from moesim.model import load_model
from moesim.model.slicing import sliced

BASE = {
    "model": "gpt-oss-20b",
    "hardware": "h100-sxm",
    "trace": "traces/quickstart.parquet",
    "workload": {"batching": {"kind": "static", "batch_size": 16}, "requests": 16},
}


def experiment(**parallelism):
    return load_experiment({**BASE, "parallelism": parallelism}).experiment


@pytest.mark.parametrize(
    ("parallelism", "said"),
    [
        ({"expert": 9}, "expert: 9 GPUs are not the same number"),
        ({"expert": 16, "nodes": 1}, "nodes: 1 node of 'h100-sxm' has 8 GPUs; write 2"),
        ({"expert": 4, "nodes": 8}, "nodes: 8 nodes for 4 GPUs"),
        ({"expert": 6, "dense": "tensor"}, "dense: 6 GPUs of a node cannot share the 64 heads"),
    ],
)
def test_what_cannot_be(parallelism, said) -> None:
    with pytest.raises(InputError, match=said):
        experiment(**parallelism)


def test_as_few_nodes_as_hold_the_gpus() -> None:
    for gpus, nodes in ((8, 1), (16, 2), (32, 4)):
        assert build(experiment(expert=gpus)).case.nodes == nodes


def test_nodes_of_one_gpu_each_take_longer_than_one_node() -> None:
    one, four = (run(experiment(expert=4, nodes=nodes), limit_steps=20).summary for nodes in (1, 4))
    assert four["duration_ms"] > one["duration_ms"]
    assert four["memory_bytes"] == one["memory_bytes"]
    assert four["misses"] == one["misses"]


def test_each_node_has_its_own_host_and_links() -> None:
    offloaded = {**BASE, "hardware": "dgx-h100", "experts": {"capacity": "1 slots/layer"}}
    found = {}
    for gpus in (8, 16):
        source = {**offloaded, "parallelism": {"expert": gpus}}
        found[gpus] = build(load_experiment(source).experiment)
    links = found[16].case.links
    assert links is not None
    assert links.h2d[9] == ("node 1 gpu 1 h2d", "node 1 switch 0 h2d", "node 1 numa 0 memory")
    assert links.h2d[1] == ("gpu 1 h2d", "switch 0 h2d", "numa 0 memory")
    assert len(links.shared("h2d")) == 8
    assert found[8].footprint.host == 2 * found[16].footprint.host, "of the fullest node"


def test_a_slice_is_a_part_of_the_model() -> None:
    for name in ("gpt-oss-20b", "deepseek-v3", "nllb-moe-54b"):
        model = load_model(name)
        part = sliced(model, 8)
        assert sliced(model, 1) == model
        for whole, own in zip(model.layers, part.layers, strict=True):
            assert own.attention.heads * 8 == whole.attention.heads
            assert 8 * own.attention.bytes - whole.attention.bytes in range(8)
            assert own.norm_bytes == whole.norm_bytes
            if whole.moe and own.moe:
                assert own.moe.expert == whole.moe.expert
    latent = load_model("deepseek-v3")
    kept = sliced(latent, 8).layers[0].attention.kv_bytes_per_token
    assert kept == latent.layers[0].attention.kv_bytes_per_token, "all heads read the latent"


def test_tensor_divides_weights_and_joins_tokens() -> None:
    data, tensor = (
        build(experiment(expert=8, dense=dense), limit_steps=20) for dense in ("data", "tensor")
    )
    assert tensor.case.group == 8
    for name in ("weights", "kv_cache"):
        less = tensor.footprint.parts[name] < data.footprint.parts[name]
        assert less[:, 0].all()
    assert (tensor.footprint.parts["kv_cache"] == tensor.footprint.parts["kv_cache"][:, :1]).all()
    one_gpu = build(experiment(expert=1, dense="tensor"), limit_steps=5).case
    assert one_gpu.group == 1
    assert one_gpu.model == load_model("gpt-oss-20b")


def test_a_profile_without_a_network_has_one_node() -> None:
    assert load_hardware("rtx-4090").network is None
    with pytest.raises(InputError, match="no network and 8 GPUs at most; write expert: 8"):
        load_experiment({**BASE, "hardware": "rtx-4090", "parallelism": {"expert": 16}})
