"""The study's node and software under given assumptions."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from moesim.config.amounts.sizes import GIB
from moesim.hardware import HardwareProfile, SoftwareProfile, load_hardware, load_software
from moesim.hardware.described.software_memory import SoftwareMemory
from moesim.reproduce.parameters import Assumptions, number

CARD, NODE, SOFTWARE = "v100-sxm2-32gb", "dgx-1-v100", "fairseq"
FP16_TFLOPS, MEMORY_GBPS = 125.0, 900.0
LINK_GBPS, PRODUCT_GBPS = 150.0, 750.0
PAIR_GBPS = 12e9
NCCL_CHANNELS = 12
"""Of the profile's buffers for collectives."""
READ_COPY_NS, NETWORK_KERNELS = 7000.0, 5
"""The copy of a read of counts, which has a price of its own; a dense network's kernels."""
ASSUMED = "assumed"


_hardware, _software = lru_cache(load_hardware), lru_cache(load_software)


def hardware_of(values: Assumptions) -> HardwareProfile:
    """Eight V100 of a DGX-1, with the study's host."""
    card, node = _hardware(CARD), _hardware(NODE)
    sheet = card.datasheet
    rate = number(values, "all_to_all_gbps") / LINK_GBPS
    peers = sheet.peers.model_copy(
        update={
            "all_to_all_fraction": _set(sheet.peers.all_to_all_fraction, rate),
            "latency": _set(sheet.peers.latency, 1e3 * number(values, "all_to_all_latency_us")),
        }
    )
    shares = {
        "compute_fraction": number(values, "gemm_tflops") / FP16_TFLOPS,
        "bandwidth_fraction": PRODUCT_GBPS / MEMORY_GBPS,
        "activation_bandwidth_fraction": number(values, "elementwise_gbps") / MEMORY_GBPS,
        "half_efficient_rows": round(number(values, "half_efficient_rows")),
        "context_reserve": round(number(values, "cuda_context_gib") * GIB),
        "kernel_start": 1e3 * number(values, "kernel_start_us"),
    }
    changed = {name: _set(getattr(sheet, name), value) for name, value in shares.items()}
    return card.model_copy(
        update={
            "datasheet": sheet.model_copy(update={**changed, "peers": peers}),
            "topology": _topology(node, values),
            "network": _network(card, values),
            "calibrated": None,
        }
    )


def _topology(node: HardwareProfile, values: Assumptions) -> Any:
    """The node's wiring; a pair of GPUs has 12 GB/s, or each GPU has."""
    topology = node.topology
    assert topology is not None, "a DGX-1 is wired"
    uplink = PAIR_GBPS * (2 if values["pcie"] == "gpu" else 1)
    switches = tuple(
        one.model_copy(update={"uplink": _set(one.uplink, uplink)}) for one in topology.switches
    )
    return topology.model_copy(update={"switches": switches})


def _network(card: HardwareProfile, values: Assumptions) -> Any:
    """What a node's card reaches; latencies of more ranks are in proportion to one node's."""
    network, known = card.network, card.datasheet.peers.latency.value
    assert network is not None, "the study has several nodes"
    longer = 1e3 * number(values, "all_to_all_latency_us") / known
    latency = tuple(_set(point, point.value * longer) for point in network.latency)
    return network.model_copy(
        update={
            "bandwidth": _set(network.bandwidth, 1e9 * number(values, "network_gbps")),
            "all_to_all_fraction": _set(network.all_to_all_fraction, 1.0),
            "nics": _set(network.nics, 1),
            "latency": latency,
        }
    )


def software_of(values: Assumptions) -> SoftwareProfile:
    """Fairseq in eager mode."""
    software, launch = _software(SOFTWARE), 1e3 * number(values, "launch_us")
    kernels = software.kernels.model_copy(
        update={
            "gate": round(number(values, "dynamic_gate_kernels")),
            "sequence": round(number(values, "encoder_layer_kernels")) - NETWORK_KERNELS,
        }
    )
    read = max(0.0, 1e3 * number(values, "count_read_us") - READ_COPY_NS)
    return software.model_copy(
        update={
            "kernels": kernels,
            "launch_ns": launch,
            "host_per_copy_ns": launch,
            "synchronisation_ns": read,
            "calls_empty": values["empty_experts"] == "called",
            "memory": _memory(software, values),
        }
    )


def _memory(software: SoftwareProfile, values: Assumptions) -> SoftwareMemory:
    """What it holds of a GPU's memory."""
    if values["ledger"] == "tensors":
        return SoftwareMemory()
    known = software.memory.collective_bytes
    wider = known * round(number(values, "nccl_channels")) // NCCL_CHANNELS
    return software.memory.model_copy(update={"collective_bytes": wider})


def _set(entry: Any, value: Any) -> Any:
    return entry.model_copy(update={"value": value, "source": ASSUMED})
