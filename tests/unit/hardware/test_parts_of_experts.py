"""What an expert of several parts costs, beside the same experts alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.model.in_parts import Neurons, joined
from moesim.model.spec import FfnSpec, LayerSpec

from .small import layer, network, small_model

ROWS, STARTS = np.array([1, 3, 70, 1]), np.array([0, 2])
QUARTER, REST, NONE = Fraction(1, 4), Fraction(3, 4), Fraction(0)


def holding(expert: FfnSpec, experts: int = 32) -> LayerSpec:
    one = layer()
    assert one.moe is not None
    return replace(one, moe=replace(one.moe, expert=expert, experts=experts, top_k=min(4, experts)))


def prices(machine: str = "rtx-4090", *, serial: bool = False) -> CostModel:
    return CostModel(load_hardware(machine), small_model(layer()), serial=serial)


def test_a_quarter_of_the_neurons_by_hand() -> None:
    quarter = Neurons(QUARTER).of(network())
    assert (quarter.intermediate_size, quarter.bytes) == (1024, 2 * 1024 * 1024 * 3)
    assert quarter == network(inner=1024)


def test_low_rank_by_hand() -> None:
    """BERT's network: 25 % whole and the rest of rank 80 are 35 % of it (arXiv 2401.04044)."""
    whole = network(hidden=768, inner=3072, gated=False)
    heavy, rest = Neurons(QUARTER).of(whole), Neurons(REST, 80).of(whole)
    assert heavy.parameters == 2 * 768 * 768
    assert rest.parameters == 2 * 80 * (768 + 2304)
    assert (heavy.bytes + rest.bytes) / whole.bytes == pytest.approx(0.354, abs=0.001)


def test_a_rank_that_saves_nothing_is_refused() -> None:
    most = (768 * 2304 - 1) // (768 + 2304)
    assert Neurons(REST, most).of(network(hidden=768, inner=3072)).rank == most == 575
    with pytest.raises(InputError, match=r"rank: 576 saves nothing of 2304 neurons.* 575 or less"):
        Neurons(REST, 576).of(network(hidden=768, inner=3072))


@pytest.mark.parametrize("machine", ["rtx-4090", "a100-sxm-80gb"])
@pytest.mark.parametrize("experts", [32, 1])
@pytest.mark.parametrize("serial", [False, True])
def test_parts_cost_what_each_costs_alone(machine: str, experts: int, serial: bool) -> None:
    """Datasheet or fitted, of experts to choose from or one, grouped or one by one."""
    model = prices(machine, serial=serial)
    parts = [Neurons(QUARTER).of(network()), Neurons(REST, 100).of(network())]
    rows, starts = (ROWS, STARTS) if experts > 1 else (np.array([5]), np.array([0]))
    both = model.experts_ns(
        holding(joined(parts, [NONE, NONE], [NONE, NONE]), experts), rows, starts
    )
    alone = [model.experts_ns(holding(one, experts), rows, starts) for one in parts]
    assert np.abs(both - sum(alone)).max() <= 1  # rounded once
    assert (both > alone[0]).all()


@pytest.mark.parametrize("machine", ["rtx-4090", "a100-sxm-80gb"])
def test_what_parts_rest_on_adds_up_to_their_price(machine: str) -> None:
    operation = prices(machine).operations["experts"]
    parts = [Neurons(QUARTER).of(network()), Neurons(REST, 100).of(network())]
    shape = (holding(joined(parts, [NONE, NONE], [NONE, NONE])), ROWS, STARTS)
    price = operation.price(*shape)
    found = operation.provenance(price, *shape)
    assert found.sum() == pytest.approx(price.sum())
    if machine == "a100-sxm-80gb":  # the kernels of low rank alone are by the datasheet
        low = operation.price(holding(parts[1]), ROWS, STARTS).sum()
        assert found[3] == pytest.approx(low)


def test_low_rank_by_the_roofline() -> None:
    """One row of one expert is bound by its bytes, and has two starts more."""
    model = prices()
    whole, low = network(), Neurons(Fraction(1), 64).of(network())
    price = [
        model.experts_ns(holding(one), np.array([1]), np.array([0]))[0] for one in (whole, low)
    ]
    gpu = model.operations["experts"].gpu
    saved = gpu.weights_ns(whole.bytes - low.bytes) - 2 * gpu.start_ns
    more = gpu.activations_ns(2 * 3 * 64 * 2)
    assert price[0] - price[1] == pytest.approx(float(saved - more), abs=1)


def test_what_is_resident_is_no_part_of_a_copy() -> None:
    parts = [Neurons(QUARTER).of(network()), Neurons(REST).of(network())]
    one = joined(parts, [Fraction(1), Fraction(1, 4)], [NONE, Fraction(1, 4)])
    assert one.bytes == parts[1].bytes // 2
    assert one.stored_bytes == 3 * parts[1].bytes // 4
    assert one.resident_bytes + one.bytes == network().bytes
    assert (
        holding(one).bytes
        == holding(network()).bytes
        == holding(one).expert_bytes + (layer().bytes - layer().expert_bytes)
    )
