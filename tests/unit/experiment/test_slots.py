"""``capacity: auto`` and slots by layer, on the shipped trace."""

from __future__ import annotations

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import moesim
from moesim.config.files.paths import shipped_folder
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment

LAYERS = 24
BASE = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 2},
    "experts": {"capacity": "auto"},
}


def built(**choices):
    return build(load_experiment({**BASE, **choices}).experiment)


def card(folder, memory, host="64 GiB"):
    """The 8 GB card with other memory, and with another host's; the path of its profile."""
    profile = yaml.safe_load((shipped_folder() / "hardware_profiles/rtx-4060-8gb.yaml").read_text())
    profile["datasheet"]["memory"]["value"] = memory
    profile["host"]["memory"]["value"] = host
    path = folder / f"{memory}-{host}.yaml".replace(" ", "")
    path.write_text(yaml.safe_dump(profile, explicit_end=True))
    return str(path)


@pytest.fixture(scope="module")
def cards(tmp_path_factory):
    return tmp_path_factory.mktemp("cards")


workloads = st.builds(
    lambda kind, size: {"requests": 8, "batching": {"kind": kind, "batch_size": size}},
    st.sampled_from(["static", "refill"]),
    st.integers(1, 8),
)


@settings(suppress_health_check=list(HealthCheck))
@given(st.integers(4200, 16_000), workloads, st.integers(1, 2))
def test_auto_fits_and_one_slot_more_would_not(cards, mebibytes, workload, gpus):
    choices = {
        "hardware": card(cards, f"{mebibytes} MiB"),
        "workload": workload,
        "parallelism": {"expert": gpus},
    }
    one = built(**choices)
    slots, local = one.case.slots[:, 0].tolist(), 32 // gpus
    fewest = built(**choices, experts={"capacity": "1 slots/layer"})
    if fewest.out_of_memory is not None:
        assert 1 in slots
        assert one.out_of_memory is not None
        return
    assert one.out_of_memory is None
    for gpu, have in enumerate(slots):
        more = built(**choices, experts={"capacity": f"{have + 1} slots/layer"})
        fits = bool((more.footprint.total[:, gpu] <= more.limit_bytes).all())
        assert fits == (have == local)


def test_auto_holds_all_where_all_fit():
    one = built(hardware="h100-sxm")
    assert (one.slots_per_layer, one.case.offloaded) == ([32], False)
    assert one.footprint.host == 0


def test_auto_of_the_first_steps_is_auto_of_the_run(cards):
    """A card that just holds 13 slots in the first steps has no room for them later on."""
    first = build(load_experiment(BASE, ["experts.capacity=13 slots/layer"]).experiment, 3)
    memory = int(first.footprint.total.max()) + first.hardware.context_bytes
    experiment = load_experiment({**BASE, "hardware": card(cards, f"{memory} B")}).experiment
    whole, part = build(experiment), build(experiment, 3)
    assert whole.slots_per_layer == part.slots_per_layer == [12]
    assert (part.case.schedule.passes, whole.out_of_memory) == (3, None)


def test_an_impossible_auto_names_what_does_not_fit(cards):
    hardware = card(cards, "4 GiB")
    summary = moesim.run({**BASE, "hardware": hardware}, limit_steps=2).summary
    assert (summary["status"], summary["slots_per_layer"]) == ("out_of_memory", 1)
    assert "weights 3.35 GiB" in summary["reason"]
    assert "expert slots" in summary["reason"]


@pytest.mark.parametrize(("software", "word"), [("ideal", "pinned"), ("hf-eager", "pageable")])
def test_the_host_can_be_too_small(cards, software, word):
    hardware = card(cards, "8 GiB", host="8 GiB")
    choices = {**BASE, "hardware": hardware, "software": software}
    summary = moesim.run(choices, limit_steps=2).summary
    assert summary["status"] == "out_of_memory"
    assert f"of {word} memory do not fit in the host's 8.00 GiB" in summary["reason"]
    assert summary["host_memory_bytes"] > summary["host_memory_capacity_bytes"] == 8 * 2**30
    assert summary["pinned_memory_bytes"] == summary["host_memory_bytes"] * (word == "pinned")


def with_slots(kind, slots, **more):
    return {"capacity": f"{slots} slots/layer", "slots": {"kind": kind, **more}}


@pytest.mark.parametrize("gpus", [1, 2])
@pytest.mark.parametrize("slots", [2, 6, 12])
def test_slots_by_layer_take_the_bytes_of_equal_ones(gpus, slots):
    equal, shared = (
        built(experts=with_slots(kind, slots), parallelism={"expert": gpus})
        for kind in ("equal", "by_layer")
    )
    assert shared.case.slots.shape == (gpus, LAYERS)
    assert shared.case.slots.sum(axis=1).tolist() == [slots * LAYERS] * gpus
    assert shared.footprint.total.max() <= equal.footprint.total.max()
    assert shared.slots_per_layer == equal.slots_per_layer == [slots] * gpus
    assert equal.slots_by_layer is None
    assert shared.slots_by_layer == shared.case.slots.tolist()


def test_slots_learnt_from_the_whole_run_miss_no_more():
    """The curves are then the run's own misses under LRU."""
    equal, shared = (
        moesim.run({**BASE, "experts": with_slots(kind, 6, **more)}).summary
        for kind, more in (("equal", {}), ("by_layer", {"first_part": "100 %"}))
    )
    assert shared["misses"] < equal["misses"]
    assert shared["peak_memory_bytes"] == equal["peak_memory_bytes"]
    assert equal["slots_by_layer"] is None
    assert sum(shared["slots_by_layer"][0]) == 6 * LAYERS


def test_slots_for_all_experts_are_the_same_by_layer():
    one = built(hardware="h100-sxm", experts=with_slots("by_layer", 32))
    assert (one.case.slots == np.full((1, LAYERS), 32)).all()
    assert not one.case.offloaded


@pytest.mark.parametrize("experts", ["bypass", "stream"])
def test_slots_by_layer_do_not_learn_from_prompts_around_the_caches(experts):
    small = {
        "model": "small-moe",
        "trace": "traces/small-moe.parquet",
        "experts": {"capacity": "8 slots/layer", "slots": {"kind": "by_layer"}},
    }
    around = built(**small, workload={"phase": "all", "prefill": {"experts": experts}})
    decode = built(**small, workload={"phase": "decode"})
    through = built(**small, workload={"phase": "all"})
    assert around.case.slots.tolist() == decode.case.slots.tolist()
    assert around.case.slots.tolist() != through.case.slots.tolist()
    prompts = built(**small, workload={"phase": "prefill", "prefill": {"experts": experts}})
    assert prompts.case.slots.tolist() == [[8] * 8]


@pytest.mark.parametrize(
    ("experts", "slots"),
    [(100, [5] * 4 + [4] * 20), (3, [1] * LAYERS), (24 * 32 - 1, [31] * 24), (24 * 32, [32] * 24)],
)
def test_bytes_of_one_pool_are_whole_slots_of_it(experts, slots):
    each = built().case.model.moe_layers[0].moe.expert.bytes
    policy = {"kind": "lru", "scope": "global"}
    capacity = f"{experts * each + 5} B"
    found = built(experts={"capacity": capacity, "policy": policy}, hardware="h200-sxm")
    assert found.case.slots.tolist() == [slots]


MIXED = {"base": "qwen3-30b-a3b", "format": "q4_k_m"}
PHONE = {"model": MIXED, "trace": "qwen3-30b-a3b", "workload": {"phase": "all"}}


def mixed(capacity):
    """Qwen3 in Q4_K_M, whose layers have experts of two sizes, in one pool."""
    policy = {"kind": "lru", "scope": "global"}
    choices = PHONE | {"experts": {"capacity": capacity, "policy": policy}}
    return built(**choices, hardware="h200-sxm")


OF_EVERY_LAYER = 24 * (3_059_712 + 2_654_208)
"""Bytes of one expert of every layer of it."""


@pytest.mark.parametrize(
    ("capacity", "slots", "pool"),
    [
        ("4000 MiB", 30, 4000 << 20),
        ("1 MiB", 1, OF_EVERY_LAYER),
        (f"{128 * OF_EVERY_LAYER - 1} B", 127, 128 * OF_EVERY_LAYER - 1),
        ("30 slots/layer", 30, 30 * OF_EVERY_LAYER),
        ("25 %", 32, 32 * OF_EVERY_LAYER),
    ],
)
def test_a_pool_by_bytes_has_the_bytes_that_are_asked_for(capacity, slots, pool):
    """At least one expert of every layer; the footprint has them, and nothing for slots."""
    found = mixed(capacity)
    assert found.case.slots.tolist() == [[slots] * 48]
    room = found.case.room(0)
    assert room is not None
    assert room.limit == pool
    assert found.footprint.parts["expert_slots"].max() == pool
    assert sum(room.sizes) == 128 * OF_EVERY_LAYER


def test_a_pool_of_all_bytes_holds_all_experts():
    found = mixed(f"{128 * OF_EVERY_LAYER} B")
    assert not found.case.offloaded
    assert found.footprint.parts["expert_slots"].max() == 0


def test_auto_gives_a_pool_by_bytes_all_that_is_left_and_fit_counts_whole_experts_of_every_layer():
    policy = {"kind": "lru", "scope": "global"}
    choices = PHONE | {"experts": {"capacity": "auto", "policy": policy}}
    found = built(**choices)
    (slots,) = set(found.case.slots.ravel().tolist())
    room = found.case.room(0)
    assert room is not None
    assert slots == room.limit // OF_EVERY_LAYER
    assert found.footprint.total.max() == found.limit_bytes
    fits = moesim.fit({**BASE, **choices})
    assert (fits["largest_slots"], fits["capacity_bytes"]) == (slots, slots * OF_EVERY_LAYER)
    by_bytes = choices | {"experts": {"capacity": "2 GiB", "policy": policy}}
    assert moesim.fit({**BASE, **by_bytes})["largest_slots"] == slots


def test_auto_of_a_pool_by_bytes_leaves_room_for_blocks_of_the_allocator():
    policy = {"kind": "lru", "scope": "global"}
    experts = {"capacity": "auto", "policy": policy}
    found = built(**PHONE, software="fairseq", experts=experts)
    assert found.out_of_memory is None
    assert found.footprint.at_peak()["allocator_blocks"] > 0


POOL = {"kind": "lru", "scope": "global"}
MACHINE = {"gpu": "rtx-4090", "host": "ddr4-3200-8ch-256gb", "link": "pcie4-x16"}
MIXTRAL = {
    "model": "mixtral-8x7b",
    "hardware": MACHINE,
    "trace": "experiments/systems/hobbit/trace.yaml",
}
ALONE = {"workload": {"requests": 1, "batching": {"kind": "static", "batch_size": 1}}}


def pooled(capacity, scope="global", **more):
    """Mixtral on a card that holds 62 of its 256 experts in fp16, in one pool by default."""
    experts = {"capacity": capacity, "policy": POOL | {"scope": scope}, **more}
    return build(load_experiment({**MIXTRAL, **ALONE, "experts": experts}).experiment, 2)


def pools(found):
    return (
        found.case.slots.sum()
        if found.case.variants is None
        else (found.case.variants.slots.sum(axis=(1, 2)).tolist())
    )


def test_auto_of_one_pool_is_as_many_whole_experts_as_fit():
    """One more does not; layers of their own have as many each."""
    found, each = pooled("auto"), 336 << 20
    left = found.limit_bytes - found.footprint.total.max()
    assert pools(found) == 62
    assert 0 <= left < each
    assert found.case.slots.tolist() == pooled("20.5 GiB").case.slots.tolist()
    assert pools(pooled("auto", scope="layer")) == 32


@pytest.mark.parametrize(
    ("capacity", "slots"),
    [("22.5 %", 57), ("25 %", 64), ("1 %", 32), ("99.9 %", 224), ("100 %", 256), ("all", 256),
     ("18.7 GiB", 56), ("2 slots/layer", 64)],
)  # fmt: skip
def test_a_part_of_one_pool_is_whole_experts_of_it(capacity, slots):
    """57.6 and 64 of 256; one of each layer at least, and one a layer less than all but for all."""
    assert pools(pooled(capacity)) == slots


@pytest.mark.parametrize(
    ("high", "low", "slots"),
    [
        ("70 %", "30 %", [39, 64]),
        ("90 %", "10 %", [51, 21]),
        ("11.3 GiB", "1 GiB", [34, 11]),
        ("13 GiB", "1 MiB", [39, 1]),
        ("2 slots/layer", "1 slots/layer", [64, 32]),
        ("1 %", "99 %", [32, 212]),
        ("100 GiB", "1 GiB", [256, 11]),
    ],
)
def test_the_pool_of_a_variant_is_whole_experts_of_it(high, low, slots):
    """Of 18.7 GiB; fp16 has 336 MiB, int4 with a scale for 64 weights 89.25 of them. What is not
    best may have less than one of each layer.
    """
    formats = {"high": {"capacity": high}, "low": {"format": "int4", "group": 64, "capacity": low}}
    assert pools(pooled("18.7 GiB", variants=formats)) == slots


def test_auto_of_two_pools_fills_what_is_left_but_for_less_than_an_expert_of_each():
    formats = {"high": {"capacity": "90 %"}, "low": {"format": "int4", "group": 64}}
    found = pooled("auto", variants=formats)
    left = found.limit_bytes - found.footprint.total.max()
    assert pools(found) == [56, 23]
    assert found.out_of_memory is None
    assert 0 <= left < (336 + 89.25) * 2**20
    assert found.footprint.at_peak()["expert_slots"] == (56 * 336 + 23 * 89.25) * 2**20
    by_layer = pooled("auto", scope="layer", variants=formats)
    assert pools(by_layer) == [32, 32]


def test_a_result_tells_the_slots_of_pools():
    formats = {"high": {"capacity": "70 %"}, "low": {"format": "int4", "group": 64}}
    experts = {"capacity": "18.7 GiB", "policy": POOL, "variants": formats}
    summary = moesim.run({**MIXTRAL, **ALONE, "experts": experts}, limit_steps=2).summary
    assert summary["slots_by_variant"] == {"high": 39, "low": 64}
    assert summary["slots_per_layer"] == 1
    assert summary["slots_by_layer"] == [[2] * 7 + [1] * 25]


def test_fit_tells_what_one_pool_holds_beside_slots_a_layer():
    choices = {**MIXTRAL, **ALONE, "experts": {"capacity": "auto", "policy": POOL}}
    found = moesim.fit(choices)
    assert (found["largest_slots"], found["slots_per_layer"]) == (1, 1)
    assert any("holds 62 of 256 experts at most" in note for note in found["notes"])
    by_layer = moesim.fit({**choices, "experts": {"capacity": "auto"}})
    assert not any("one pool" in note for note in by_layer["notes"])
