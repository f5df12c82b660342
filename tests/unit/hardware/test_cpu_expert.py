"""The price of an expert that the host computes."""

from __future__ import annotations

import numpy as np
import pytest

from moesim.hardware import CostModel, load_hardware
from moesim.hardware.operations.kernels.cpu_expert import CORE_RATE, START_NS
from moesim.model import load_model


@pytest.fixture(scope="module")
def layer():
    return load_model("mixtral-8x7b").moe_layers[0]


def costs(name, **choices):
    return CostModel(load_hardware(name), load_model("mixtral-8x7b"), **choices)


def test_few_rows_cost_their_weights_and_many_their_products(layer):
    host, expert = load_hardware("rtx-4090").host, layer.moe.expert
    one, many = costs("rtx-4090").cpu_expert_ns(layer, [1, 4096])
    read = expert.bytes * 1e9 / host.node_bytes_per_second
    assert one == pytest.approx(START_NS + read, abs=1)
    cores = host.cores.value / host.numa_nodes.value
    elements = 3 * expert.hidden_size * expert.intermediate_size
    assert many == pytest.approx(START_NS + 2 * elements * 4096 * 1e9 / (cores * CORE_RATE), abs=1)


def test_a_host_that_starts_once_a_layer_starts_no_expert(layer):
    parts = "{gpu: rtx-4090, host: ddr5-6000-2ch-64gb}"
    host, expert = load_hardware(parts).host, layer.moe.expert
    assert host.layer_start_ns == 8_000
    (one,) = costs(parts).cpu_expert_ns(layer, [1])
    assert one == pytest.approx(expert.bytes * 1e9 / (0.5 * 96e9), abs=1)


def test_gpus_of_a_node_share_its_cores_and_memory(layer):
    alone, shared = (costs("h100-sxm", gpus_per_node=n).cpu_expert_ns(layer, [1]) for n in (1, 4))
    assert shared - START_NS == pytest.approx(4 * (alone - START_NS), abs=4)


def test_more_rows_never_cost_less(layer):
    price = costs("rtx-3060-12gb").cpu_expert_ns(layer, np.arange(0, 3000, 7))
    assert (np.diff(price) >= 0).all()
