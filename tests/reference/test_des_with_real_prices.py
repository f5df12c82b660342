"""The engine against the reference at real prices: gpt-oss-20b on a slice of the shipped trace."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from moesim.config.files.paths import shipped_folder
from moesim.engine import case as engine
from moesim.engine.des.run import run_des
from moesim.experiment.building.planning import neighbours
from moesim.gating import registry as gatings
from moesim.gating.base import Gating
from moesim.gating.dynamic import Dynamic
from moesim.hardware import CostModel, SoftwareProfile, load_hardware, load_software
from moesim.hardware.charge import CHARGES
from moesim.memory.misses import registry as misses
from moesim.memory.policies.lru import Lru
from moesim.model import load_model
from moesim.trace import RoutingTrace, read_trace
from moesim.trace.slicing import slice_trace
from moesim.workload.batching.refill import Refill
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule

from .prices import ScalarPrices
from .reference import reference
from .reference_words import Config, Kernels, Layer, Model, Software, Trace

BATCH, SLOTS = 4, 5


def reference_software(profile: SoftwareProfile) -> Software:
    """The profile in the reference's words; an expert of gpt-oss has three matrices."""
    counts = {name: getattr(profile.kernels, name) for name in vars(Kernels())}
    times = ("launch_ns", "host_per_layer_ns", "host_per_copy_ns", "synchronisation_ns")
    names = (*times, "count_reads", "calls_empty")
    return Software(
        kernels=Kernels(**counts),
        copies_per_expert=1 if profile.copied == "expert" else 3,
        pinned=profile.pinned,
        states_pinned=profile.pins_states,
        blocking=profile.blocking,
        copies_back=profile.copies_back,
        logits_to_host=profile.logits_to_host,
        input_copies=profile.input_copies,
        synchronisations=profile.synchronisations,
        **{name: getattr(profile, name) for name in names},
    )


def reference_trace(trace: RoutingTrace) -> Trace:
    names = ("expert_ids", "request_id", "position", "phase")
    return {name: getattr(trace, name).tolist() for name in names}


@pytest.mark.parametrize("software", ["ideal", "hf-eager"])
@pytest.mark.parametrize(("gpus", "miss"), [(1, "load"), (2, "load"), (1, "cheapest"), (2, "cpu")])
def test_the_engine_agrees_with_the_reference_at_real_prices(
    gpus: int, miss: str, software: str
) -> None:
    compared({"gpus": gpus, "miss": miss, "slots": SLOTS}, software, Dynamic())


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize(
    ("kind", "kernels", "choices"),
    [
        ("dynamic", "serial", {}),
        ("dynamic", "block_sparse", {}),
        ("static", "serial", {"capacity_fraction": 0.5}),
        ("static", "batched", {"capacity_fraction": 0.5}),
        ("gshard", "grouped", {"factor": 1.25, "min_capacity": 1}),
        ("no_drop", "batched", {}),
        ("tutel", "serial", {"capacity_fraction": 0.5}),
        ("tutel", "batched", {"no_drop": True}),
    ],
)
def test_gatings_and_kernels_agree_at_real_prices(
    gpus: int, kind: str, kernels: str, choices: dict[str, Any]
) -> None:
    given: dict[str, Any] = dict(choices)
    if "capacity_fraction" in given:
        given["capacity_fraction"] = "50 %"
    if given.pop("no_drop", False):
        given["capacity"] = "no_drop"
    gating = gatings.get(kind)(**given)
    told = {"gpus": gpus, "slots": None, "gating": kind, "kernels": kernels, **choices}
    compared(told, "fairseq", gating)


def compared(choices: dict[str, Any], software: str, gating: Gating) -> None:
    """A run of both with the reference's ``choices``."""
    config = Config(batching="refill", batch_size=BATCH, **choices)
    gpus, slots = config.gpus, 32 if config.slots is None else SLOTS
    model, hardware = load_model("gpt-oss-20b"), load_hardware("rtx-4060-8gb")
    forms: dict[str, Any] = {form: config.kernels == form for form in ("serial", "batched")}
    profile, costs = load_software(software), CostModel(hardware, model, **forms)
    whole = read_trace(shipped_folder() / "traces" / "quickstart.parquet")
    trace = slice_trace(whole, slice(0, 6), tokens=3)
    requests = Requests.of(trace, "decode")
    seats = Refill(batch_size=BATCH).seats(requests)
    case = engine.Case(
        trace=trace,
        model=model,
        prices=costs,
        software=profile,
        schedule=Schedule.of(requests, seats, trace, gpus),
        gating=gating,
        placement=neighbours(model, gpus),
        gpus=gpus,
        slots=np.full((gpus, len(model.moe_layers)), slots),
        policy=Lru(),
        miss=misses.get(config.miss)(),
        kernels=config.kernels,  # type: ignore[arg-type]
    )
    config = replace(config, software=reference_software(profile))
    expert = model.layers[0].moe
    assert expert is not None
    layers = [Layer(x.index, moe=True, window=x.attention.window) for x in model.layers]
    words = Model(layers, 32, 4, model.hidden_size, model.activation_bytes, expert.expert.bytes)
    verdict = reference(reference_trace(trace), words, config, ScalarPrices(costs, model.layers))
    outcome = run_des(case, check=True)
    assert outcome.ends.max(axis=1).tolist() == [step["end_ns"] for step in verdict.steps]
    assert int(outcome.counts.misses.sum()) == verdict.misses
    assert (verdict.misses > 0) == (config.slots is not None)
    assert int(outcome.counts.hosted.sum()) == verdict.host_activations
    charged: Any = dict(zip(CHARGES, outcome.charges.sum(axis=(0, 1)).tolist(), strict=True))
    assert charged == {name: verdict.time_ns[name] for name in CHARGES}
