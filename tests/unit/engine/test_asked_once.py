"""Prices of what is alike, asked once: equal to those of each by itself."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.engine.case import Case
from moesim.engine.pricing import ragged_launches
from moesim.engine.pricing.provenance import Provenance
from moesim.engine.pricing.ragged_launches import RaggedLaunches
from moesim.engine.replay.activation_index import Finder
from moesim.engine.replay.collectives import Collectives
from moesim.engine.routing import Routing
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model
from moesim.placement.base import plan_of_gpus, rows_between_gpus
from moesim.placement.mapping import Placement
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

BASE = build(
    load_experiment(
        {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": "traces/quickstart.parquet"}
    ).experiment,
    1,
).case
PASSES = 30


def case_of(hardware: str, gpus: int, nodes: int, batch: int) -> Case:
    """The quickstart's decode on ``gpus`` of several ``nodes``."""
    requests = Requests.of(BASE.trace, "decode")
    experts = BASE.placement.physical
    plan = plan_of_gpus(np.arange(experts) * gpus // experts, len(BASE.model.moe_layers))
    return replace(
        BASE, gpus=gpus, nodes=nodes, placement=Placement.of(plan, gpus),
        prices=CostModel(load_hardware(hardware), BASE.model, nodes=nodes),
        schedule=Schedule.of(requests, Static(batch_size=batch).seats(requests), BASE.trace, gpus),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("hardware", "gpus", "nodes"),
    [("h100-sxm", 2, 1), ("h100-sxm", 8, 1), ("l40s", 4, 1), ("h100-sxm", 8, 2),
     ("v100-sxm2-32gb", 16, 2)],
)  # fmt: skip
@pytest.mark.parametrize("batch", [1, 5, 64])
def test_exchanges_cost_what_each_costs(hardware: str, gpus: int, nodes: int, batch: int) -> None:
    case = case_of(hardware, gpus, nodes, batch)
    routing = Routing(case)
    provenance, plain = Provenance(case.prices), Provenance(case.prices)
    collectives = Collectives(case, Finder(case, routing, by_layer=True), provenance)
    assert collectives.by_busiest == (nodes == 1)
    last = min(PASSES, case.schedule.passes)
    found = [np.concatenate(part, axis=1) for part in zip(
        collectives.prices(0, last // 3), collectives.prices(last // 3, last), strict=True
    )]  # fmt: skip
    collectives.settle()
    row_bytes = case.model.hidden_size * case.model.activation_bytes
    counts = np.swapaxes(routing.counts(0, last), 0, 1)
    sent = rows_between_gpus(counts, case.placement.gpu_of_expert) * row_bytes
    for prices, matrix in zip(found, (sent, np.swapaxes(sent, 2, 3)), strict=True):
        flat = matrix.reshape(-1, gpus, gpus)
        each = plain.add("all_to_all", case.prices.all_to_all_ns(flat), flat)
        np.testing.assert_array_equal(prices, each.reshape(prices.shape))
    mine, theirs = (of.totals()["dispatch_combine", "all_to_all"] for of in (provenance, plain))
    np.testing.assert_allclose(mine, theirs)


launches = st.lists(st.lists(st.integers(1, 6) | st.integers(1, 900), min_size=1, max_size=32),
                 min_size=1, max_size=30)  # fmt: skip


@given(
    st.lists(launches, min_size=1, max_size=3),
    st.sampled_from(["gpt-oss-20b", "qwen3-30b-a3b", "mixtral-8x7b"]),
    st.sampled_from(["h100-sxm", "b200-sxm", "a100-sxm-80gb", "rtx-4060-8gb"]),
    st.booleans(),
    st.sampled_from([1, 1 << 14]),
)
def test_launches_cost_what_each_costs(
    drawn: list[list[list[int]]], name: str, hardware: str, serial: bool, most: int
) -> None:
    model = load_model(name)
    costs = CostModel(load_hardware(hardware), model, serial=serial)
    case, layer = replace(BASE, model=model, prices=costs), model.moe_layers[0]
    provenance, plain = Provenance(costs), Provenance(costs)
    kept = RaggedLaunches(case, layer)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ragged_launches, "MOST", most)
        for part in drawn:
            runs = [[rows] for launch in part for rows in launch] if serial else part
            rows = np.concatenate([np.array(launch) for launch in runs])
            starts = np.cumsum([0, *(len(launch) for launch in runs[:-1])])
            each = plain.add("experts", costs.experts_ns(layer, rows, starts), layer, rows, starts)
            np.testing.assert_array_equal(kept.prices(provenance, rows, starts), each)
        kept.settle(provenance)
    np.testing.assert_allclose(
        provenance.by_operation["experts", "experts"], plain.by_operation["experts", "experts"]
    )


def test_a_launch_that_is_like_one_before_is_not_asked_for() -> None:
    """Rows 3, 1 and 1, 3 share tiles; one expert with 4 rows does not."""
    kept = RaggedLaunches(BASE, BASE.model.moe_layers[0])
    provenance = Provenance(BASE.prices)
    kept.prices(provenance, np.array([3, 1, 4, 1, 3]), np.array([0, 2, 3]))
    kept.prices(provenance, np.array([1, 3]), np.array([0]))
    assert kept.price(np.array([1, 3])) == kept.price(np.array([3, 1]))
    assert [one.values.tolist() for one in kept.examples] == [[3, 1, 4], [0, 2]]
    assert kept.known.kept.used[:2].tolist() == [3, 1]


@pytest.mark.parametrize(("most", "told"), [(50, 0), (51, 2)])
def test_among_many_rows_few_are_still_alike(most: int, told: int) -> None:
    """A launch with 50 rows: beyond those that are told all are asked for."""
    kept, costs = RaggedLaunches(BASE, BASE.model.moe_layers[0]), BASE.prices
    rows, starts = np.array([3, 1, 49, 1, 1, 3]), np.array([0, 2, 4])
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(ragged_launches, "FEW_ROWS", 8)
        patched.setattr(ragged_launches, "MANY_ROWS", most)
        found = kept.prices(Provenance(costs), rows, starts)
    assert found.tolist() == costs.experts_ns(kept.spec, rows, starts).tolist()
    assert len(kept.known) == told


def test_batched_products_are_asked_for_one_by_one() -> None:
    """Their tiles follow each expert's rows."""
    costs = CostModel(load_hardware("rtx-4060-8gb"), BASE.model, batched=True)
    assert costs.expert_tiles(BASE.model.moe_layers[0], np.arange(9)) is None
