"""Collectives on several nodes: laws, and times by hand."""

from __future__ import annotations

from math import ceil
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.hardware import CostModel, HardwareProfile, load_hardware
from moesim.model import load_model

MODEL = load_model("small-moe")
V100, H100 = load_hardware("v100-sxm2-32gb"), load_hardware("h100-sxm")


def costs(profile: HardwareProfile, nodes: int, prices: Any = "auto") -> CostModel:
    return CostModel(profile, MODEL, prices, nodes=nodes)


def faster(profile: HardwareProfile, link: str) -> HardwareProfile:
    """The same with twice the bandwidth of one link."""

    def doubled(one: Any) -> Any:
        return one.model_copy(update={"value": 2 * one.value})

    network, sheet = profile.network, profile.datasheet
    assert network is not None
    if link == "network":
        network = network.model_copy(update={"bandwidth": doubled(network.bandwidth)})
    else:
        peers = sheet.peers.model_copy(update={"bandwidth": doubled(sheet.peers.bandwidth)})
        sheet = sheet.model_copy(update={"peers": peers})
    return profile.model_copy(update={"network": network, "datasheet": sheet})


def test_a_v100_node_by_hand() -> None:
    sent = np.zeros((1, 16, 16), np.int64)
    sent[0, 0, 1], sent[0, 0, 8], sent[0, 3, 9] = 4_000_000, 1_000_000, 2_000_000
    within, across = 4_000_000 / 40.05e9 * 1e9, 3_000_000 / 10e9 * 1e9
    assert within < across, "the one card of the node carries what both GPUs send"
    assert costs(V100, 2).all_to_all_ns(sent).tolist() == [180_000 + ceil(across)]
    sent[0, 0, 1] = 40_000_000
    found = costs(V100, 2).all_to_all_ns(sent).tolist()
    assert found == [180_000 + ceil(40_000_000 / 40_050_000_000 * 1e9)]


def test_cards_are_shared_by_neighbours() -> None:
    four = load_hardware("dgx-1-v100").network
    assert four is not None
    assert four.card_of(8).tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
    assert four.card_of(2).tolist() == [0, 1]
    assert H100.network is not None
    assert H100.network.card_of(8).tolist() == list(range(8))
    apart = np.zeros((1, 16, 16), np.int64)
    apart[0, 0, 8] = apart[0, 2, 9] = 10_000_000
    together = np.zeros((1, 16, 16), np.int64)
    together[0, 0, 8] = together[0, 1, 9] = 10_000_000
    dgx = costs(load_hardware("dgx-1-v100"), 2)
    assert dgx.all_to_all_ns(apart)[0] == 180_000 + 2_000_000, "in, by the two that share a card"
    assert dgx.all_to_all_ns(together)[0] == 180_000 + 2_000_000
    apart[0, 2, 9], apart[0, 2, 15] = 0, 10_000_000
    assert dgx.all_to_all_ns(apart)[0] == 180_000 + 1_000_000


def test_latency_grows_with_the_ranks() -> None:
    network = V100.network
    assert network is not None
    found = [network.latency_ns(gpus, 8, 90_000.0) for gpus in (8, 12, 16, 32, 48)]
    assert found == [90_000, 135_000, 180_000, 375_000, 375_000 + 16 * 12_187.5]
    assert network.latency_ns(128, 64, 90_000.0) == 90_000 + 64 * 12_187.5


matrices = st.tuples(
    st.sampled_from([(2, 2), (4, 2), (8, 4), (16, 2), (24, 3)]), st.integers(0, 99)
)


def matrix_of(gpus: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    sent = rng.integers(0, 3_000_000, (2, gpus, gpus)) * rng.integers(0, 2, (2, gpus, gpus))
    return np.asarray(sent, np.int64)


@given(matrices, st.sampled_from([V100, H100]), st.sampled_from(["network", "peers"]))
def test_a_faster_link_takes_no_longer(
    drawn: tuple[tuple[int, int], int], profile: HardwareProfile, link: str
) -> None:
    (gpus, nodes), seed = drawn
    sent = matrix_of(gpus, seed)
    now = costs(profile, nodes, "datasheet").all_to_all_ns(sent)
    assert (costs(faster(profile, link), nodes, "datasheet").all_to_all_ns(sent) <= now).all()


@given(matrices, st.sampled_from([V100, H100]))
def test_direction_does_not_matter_and_bytes_take_time(
    drawn: tuple[tuple[int, int], int], profile: HardwareProfile
) -> None:
    (gpus, nodes), seed = drawn
    sent, prices = matrix_of(gpus, seed), costs(profile, nodes)
    now = prices.all_to_all_ns(sent)
    assert (prices.all_to_all_ns(sent.transpose(0, 2, 1)) == now).all()
    assert (prices.all_to_all_ns(sent * 2) >= now).all()
    assert (prices.all_to_all_ns(np.zeros_like(sent)) <= now).all()
    shares = prices.provenance("all_to_all", now, sent)
    assert shares.sum() == pytest.approx(now.sum())


@pytest.mark.parametrize("name", ["v100-sxm2-32gb", "h100-sxm", "l40s"])
def test_an_all_reduce(name: str) -> None:
    prices = CostModel(load_hardware(name), MODEL)
    assert prices.all_reduce_ns(1, [5, 10**9]).tolist() == [0, 0]
    assert prices.all_reduce_ns(8, [0]).tolist() == [0]
    times = prices.all_reduce_ns(8, [1, 10**5, 10**7, 10**9])
    assert (np.diff(times) > 0).all()
    assert prices.provenance("all_reduce", times, 8, np.array([1, 10**5, 10**7, 10**9])).sum() > 0


def test_a_ring_by_hand() -> None:
    found = CostModel(V100, MODEL).all_reduce_ns(4, [80_000_000])
    assert found.tolist() == [40_000 + 1_000_000], "1.5 times the bytes over 120 GB/s"
