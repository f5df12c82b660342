"""The price of an expert that the host computes."""

from __future__ import annotations

from math import hypot

import numpy as np
import pytest

from moesim.calibrate.prices.explain import explained
from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.hardware.choice import text_of
from moesim.hardware.described.host import LAYER_START_NS
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.load import load_software
from moesim.hardware.operations.kernels.host_work import CORE_RATE
from moesim.model import load_model


@pytest.fixture(scope="module")
def layer():
    return load_model("mixtral-8x7b").moe_layers[0]


def products(expert):
    """Operations of a row."""
    return 2 * 3 * expert.hidden_size * expert.intermediate_size


def costs(name, **choices):
    return CostModel(load_hardware(name), load_model("mixtral-8x7b"), **choices)


def test_few_rows_cost_their_weights_and_many_their_products(layer):
    host, expert = load_hardware("rtx-4090").host, layer.moe.expert
    one, many = costs("rtx-4090").cpu_expert_ns(layer, [1, 4096])
    read = expert.bytes * 1e9 / (host.memory_bandwidth.value / 2)
    cores = host.cores.value / host.numa_nodes.value
    row = products(expert) * 1e9 / CORE_RATE / cores
    assert one == pytest.approx(hypot(read, row), abs=1)
    assert one < 1.1 * read
    assert many == pytest.approx(hypot(read, 4096 * row), abs=1)
    assert many < 1.01 * 4096 * row


def test_a_host_that_says_less_starts_as_others_do_and_reads_as_copies_do(layer):
    named = {"memory": "64 GiB", "numa_nodes": 1, "memory_bandwidth": "100 GB/s", "cores": 16}
    parts = text_of({"gpu": "rtx-3090", "host": {**named, "memory_fraction": "80 %"}})
    (one,) = costs(parts).cpu_expert_ns(layer, [1])
    expert = layer.moe.expert
    row = products(expert) * 1e9 / CORE_RATE / 16
    assert one == pytest.approx(hypot(expert.bytes / 80, row), abs=1)
    assert load_hardware(parts).experts_start_ns == LAYER_START_NS


@pytest.mark.parametrize(
    ("software", "threads", "start_ns"),
    [("ideal", 16, 5_000), ("llama.cpp", 16, 4 * 120 * 16), ("llama.cpp", 64, 4 * 120 * 64)],
)
def test_a_layers_experts_start_by_their_kernels_where_the_software_has_waits(
    software, threads, start_ns
):
    machine = load_hardware(host(layer_start="5 us", cores=64, threads=threads))
    assert with_engine(machine, load_software(software)).experts_start_ns == start_ns


def test_gpus_of_a_node_share_its_cores_and_memory(layer):
    alone, shared = (costs("h100-sxm", gpus_per_node=n).cpu_expert_ns(layer, [1]) for n in (1, 4))
    assert shared == pytest.approx(4 * alone, abs=4)


def test_more_rows_never_cost_less(layer):
    price = costs("rtx-3060-12gb").cpu_expert_ns(layer, np.arange(0, 3000, 7))
    assert (np.diff(price) >= 0).all()


def host(**numbers):
    """A host of 4 cores and 100 GB/s a NUMA node, of which experts reach half; starts are free,
    and nearly so is what a thread reads and computes.
    """
    own = {"memory": "64 GiB", "numa_nodes": 1, "memory_bandwidth": "100 GB/s", "cores": 4,
           "memory_fraction": "80 %", "expert_fraction": "50 %", "layer_start": "0 us",
           "core_rate": "100 TFLOP/s", "thread_bandwidth": "1 TB/s", **numbers}  # fmt: skip
    return text_of({"gpu": "rtx-3090", "host": own})


TEN = {"thread_bandwidth": "10 GB/s"}


def read_ns(layer, **numbers):
    return costs(host(**numbers)).cpu_expert_ns(layer, [1])[0]


def test_threads_cap_what_is_read(layer):
    size = layer.moe.expert.bytes
    assert read_ns(layer) == pytest.approx(size / 50, abs=1)
    assert read_ns(layer, **TEN) == pytest.approx(size / 40, rel=1e-3)
    assert read_ns(layer, thread_bandwidth="20 GB/s") == pytest.approx(size / 50, abs=1)
    assert read_ns(layer, **TEN, threads=3) == pytest.approx(size / 30, rel=1e-3)
    many = read_ns(layer, **TEN, threads=8)
    assert many == pytest.approx(size / 40, rel=1e-3), "a thread a core counts"
    two = read_ns(layer, **TEN, cores=8, numa_nodes=2)
    assert two == pytest.approx(size / 40, rel=1e-3), "the cores of one node"


@pytest.mark.parametrize(
    ("dtype", "cycle", "both"),
    [
        ("q2_k", 15.8, 7.7), ("q4_k", 14.0, 10.7), ("q6_k", 12.3, 12.7), ("q8_0", 13.0, 15.0),
        ("q4_0", 10.4, 8.5), ("mxfp4", 10.1, 7.9), ("iq3_s", 4.4, 3.0), ("bf16", 7.1, 15.2),
        ("fp16", 12.1, 18.0),
    ],
)  # fmt: skip
def test_a_thread_reads_and_computes(dtype: str, cycle: float, both: float) -> None:
    """What docs/hardware.md's few threads are told, in GB/s: one that reads 20.3 by itself and does
    so many operations in a cycle of 3.21 GHz.
    """
    one = {"thread_bandwidth": "20.3 GB/s", "core_rate": f"{cycle * 3.21:.3f} GFLOP/s", "cores": 1}
    model = load_model(f"qwen3-30b-a3b@experts={dtype}")
    moe_layer = model.moe_layers[0]
    assert moe_layer.moe is not None
    (taken,) = CostModel(load_hardware(host(**one)), model).cpu_expert_ns(moe_layer, [1])
    assert moe_layer.moe.expert.bytes / taken == pytest.approx(both, abs=0.051)


def test_threads_are_what_computes(layer):
    each, read = products(layer.moe.expert), layer.moe.expert.bytes / 50
    slow = {"core_rate": "1 GFLOP/s"}
    assert read_ns(layer, **slow) == pytest.approx(hypot(each / 4, read), abs=1)
    assert read_ns(layer, threads=2, **slow) == pytest.approx(hypot(each / 2, read), abs=1)
    both = {"cores": 8, "numa_nodes": 2, "threads": 6, **slow}
    assert read_ns(layer, **both) == pytest.approx(hypot(each / 6, read), abs=1)


def test_other_numa_nodes_add_their_share_of_memory_and_cores(layer):
    size, expert = layer.moe.expert.bytes, layer.moe.expert
    two = {"numa_nodes": 2, "cores": 8}
    assert read_ns(layer, **two) == pytest.approx(size / 50, abs=1), "experts lie on one"
    assert read_ns(layer, remote_node_fraction="60 %", **two) == pytest.approx(size / 80, abs=1)
    assert read_ns(layer, remote_node_fraction="0 %", **two) == read_ns(layer, **two)
    four = {"numa_nodes": 4, "cores": 16, "remote_node_fraction": "100 %"}
    assert read_ns(layer, **four) == pytest.approx(size / 200, abs=1)
    slow = {**two, "remote_node_fraction": "50 %", "core_rate": "1 GFLOP/s"}
    assert read_ns(layer, **slow) == pytest.approx(hypot(products(expert) / 6, size / 75), abs=1)


@pytest.mark.parametrize(
    ("numbers", "what"),
    [
        ({"threads": 0}, "threads"),
        ({"thread_bandwidth": "2 TB/s"}, "thread_bandwidth"),
        ({"thread_bandwidth": "12 MB/s"}, "thread_bandwidth"),
        ({"remote_node_fraction": "50 %"}, "'numa_nodes' is 1"),
        ({"remote_node_fraction": "101 %", "numa_nodes": 2}, "remote_node_fraction"),
    ],
)
def test_hosts_that_cannot_be(numbers, what):
    with pytest.raises(InputError, match=what):
        load_hardware(host(**numbers))


@pytest.mark.parametrize(
    ("numbers", "bound"),
    [
        ({}, "memory (reads)"),
        (TEN, "threads (what they read)"),
        ({"thread_bandwidth": "20 GB/s"}, "memory (reads)"),
        ({"core_rate": "1 GFLOP/s"}, "compute (products)"),
    ],
)
def test_explain_says_what_binds(layer, numbers, bound):
    values = {"op": "cpu_expert", "tokens": 1, "hidden": 4096, "inter": 14336, "dtype": "bf16"}
    table = explained(load_hardware(host(**numbers)), values, "auto")
    terms = list(table.columns[0].cells)
    assert list(table.columns[2].cells)[terms.index("bound by")] == bound
    price = float(str(list(table.columns[1].cells)[terms.index("price")]))
    longest = bound.partition("(")[2].rstrip(")").replace("what they read", "reads of threads")
    taken = {
        name: float(str(list(table.columns[1].cells)[terms.index(f"  {name}")]))
        for name in ("reads", "reads of threads", "products")
    }
    assert max(taken, key=lambda name: taken[name]) == longest
    read = max(taken["reads"], taken["reads of threads"])
    assert hypot(read, taken["products"]) == pytest.approx(price, rel=1e-6)
    told = list(table.columns[3].cells)[terms.index("bound by")]
    assert told == "which hides a part of the others"
