"""Reads from storage, by hand."""

from __future__ import annotations

from dataclasses import replace
from math import ceil
from typing import Any

import numpy as np
import pytest

from moesim.api import host_curve
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.engine.des.drive import Drive
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.building.derived import derived
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.run import run
from moesim.hardware import CostModel, load_hardware
from moesim.memory.activations import ActiveExperts
from moesim.memory.host.host_cache import HostCache
from moesim.memory.host.host_residency import HostResidency
from moesim.memory.policies.lru import Lru
from moesim.model import load_model

ONE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "{base: rtx-4060-8gb, storage: nvme-pcie4}",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "experts": {"capacity": "8 slots/layer", "host": {"capacity": "30 %"}},
    "records": "summary",
}


MAPPED = {"software": "llama.cpp"}
VARIANTS = {"high": {"capacity": "50 %"}, "low": {"format": "q2_k"}}


def with_experts(**experts: Any) -> dict[str, Any]:
    return ONE | {"experts": {"capacity": "8 slots/layer", **experts}}


@pytest.mark.parametrize(
    ("drive", "changed", "path"),
    [
        ("nvme-pcie4", {}, "direct"),
        ("nvme-pcie4", {"software": "llama.cpp"}, "mmap"),
        ("sata-ssd", {"software": "llama.cpp"}, "direct"),
    ],
)
def test_software_that_maps_its_file_waits_for_page_faults(
    drive: str, changed: dict[str, Any], path: str
) -> None:
    """Unless nobody knows what they reach of a drive, or the experiment says otherwise."""
    asked = ONE | {"hardware": f"{{base: rtx-4060-8gb, storage: {drive}}}"} | changed
    own = load_experiment(asked).experiment
    shown, origins = derived(own)
    assert shown.experts.host.path == path
    assert f"software {own.software}: it" in origins["experts.host.path"]
    numbers = run(asked).summary
    assert numbers["storage_path"] == path
    faults = [
        one for one in numbers.get("host_notes", ()) if "faults, at 3.1 of the drive's 7" in one
    ]
    assert len(faults) == (path == "mmap")
    written = load_experiment(asked, [f"experts.host.path={path}"]).experiment
    assert "experts.host.path" not in derived(written)[1]
    again = run(asked, overrides=[f"experts.host.path={path}"]).summary
    assert again["duration_ms"] == numbers["duration_ms"]
    read = run(asked, overrides=["experts.host.path=direct"]).summary
    assert (read["duration_ms"] < numbers["duration_ms"]) is (path == "mmap")


def test_an_lru_host_of_two_slots() -> None:
    """1, 2 are read; 1 is there; 3 takes the place of 2, 2 that of 1, as 3 is wanted with it."""
    host = HostResidency(
        HostCache(2, Lru()), np.zeros(4, np.int64), (1, 1), np.random.default_rng(0), None
    )
    needs = ActiveExperts(np.array([0, 2, 3, 4, 6]), np.array([1, 2, 1, 3, 2, 3]))
    assert host.hits(needs).tolist() == [False, False, True, False, False, True]


def test_a_host_by_bytes_reads_one_over_several() -> None:
    """3 bytes: 1 and 2 of one each are read; 0 of three takes the place of both."""
    host = HostResidency(
        HostCache(1, Lru(), limit=3), np.zeros(4, np.int64), (1, 1), np.random.default_rng(0),
        None, np.array([3, 1, 1, 1]),
    )  # fmt: skip
    needs = ActiveExperts(np.array([0, 2, 3, 4, 5]), np.array([1, 2, 1, 0, 2]))
    assert host.hits(needs).tolist() == [False, False, True, False, False]


MIXED: dict[str, Any] = {
    "model": {"base": "qwen3-30b-a3b", "format": "q4_k_m"},
    "hardware": "{base: rtx-4060-8gb, storage: nvme-pcie4}",
    "trace": "qwen3-30b-a3b",
    "records": "summary",
}


@pytest.mark.parametrize("policy", ["lru", "lfu"])
def test_a_host_goes_by_bytes_where_layers_differ(policy: str) -> None:
    """So that it holds more than in slots as large as the largest expert, and takes what it is
    given; another policy has such slots.
    """

    def built_with(policy: str) -> Built:
        host = {"capacity": "4 GiB", "policy": {"kind": policy}}
        room = {"capacity": "8 slots/layer", "host": host}
        return build(load_experiment(MIXED | {"experts": room}).experiment)

    by_bytes, in_slots = built_with(policy), built_with("arc")
    mine, other = by_bytes.case.host_cache, in_slots.case.host_cache
    assert mine is not None
    assert other is not None
    assert (mine.limit, other.limit) == (4 << 30, None)
    assert mine.slots == other.slots == (4 << 30) // 3_059_712
    assert by_bytes.footprint.host - in_slots.footprint.host == (4 << 30) % 3_059_712
    slotted = replace(by_bytes.case, host_cache=replace(mine, limit=None))
    hits = [int(run_replay(case).counts.host_hits.sum()) for case in (by_bytes.case, slotted)]
    assert hits[0] > hits[1]


def test_a_host_with_room_for_all_bytes_is_none() -> None:
    whole = 128 * 24 * (3_059_712 + 2_654_208)
    for room, cached in ((whole, False), (whole - 1, True)):
        experts = {"capacity": "8 slots/layer", "host": {"capacity": f"{room} B"}}
        built = build(load_experiment(MIXED | {"experts": experts}).experiment)
        assert (built.case.host_cache is not None) == cached


def test_a_read_by_hand() -> None:
    """7 MB at 7 GB/s take 1 ms and the latency of 100 us, which other reads hide; 3.1 MB at the 3.1
    GB/s of page faults 1 ms, and 256 KiB around each place 84.6 us.
    """
    costs = CostModel(load_hardware(ONE["hardware"]), load_model("gpt-oss-20b"))
    assert int(costs.price("storage_read", 7_000_000)) == 1_100_000
    assert int(costs.price("storage_read", 7_000_000, 1, False, True)) == 1_000_000
    assert int(costs.price("storage_read", 70_000, 1, False, True)) == 10_000
    assert int(costs.price("storage_read", 7_000, 1, False, True)) == 3157  # 101 us / 32
    around = 2 * 128 * 1024 / 3.1
    assert costs.price("storage_read", 3_100_000, 1, True) == 1_000_000 + ceil(around)
    assert costs.price("storage_read", 3_100_000, 3, True) == 1_000_000 + ceil(3 * around)
    assert costs.price("storage_read", 0, 3, True) == 0


def test_a_mapped_expert_is_read_at_as_many_places_as_it_has_matrices() -> None:
    """Unless the experiment says in how many; other reads are one."""

    def requests(**host: Any) -> int:
        cache = build(
            load_experiment(with_experts(host={"capacity": "2 GiB"} | host)).experiment
        ).case.host_cache
        assert cache is not None
        return cache.requests

    assert requests(path="mmap") == 3
    assert requests(path="mmap", reads=1) == 1
    assert requests(path="direct") == 1
    assert requests(path="direct", reads=3) == 3


def test_the_drive_turns_to_gpus_in_order() -> None:
    import simpy

    env = simpy.Environment()
    drive = Drive(env, 2)
    second = drive.ask(1, 5, 100)
    assert not second.triggered
    first = drive.ask(0, 20, 30)
    assert (first.value, second.value, drive.end) == (20, 50, 150)


def expert_bytes(model: str = "gpt-oss-20b") -> int:
    (moe,) = {layer.moe for layer in load_model(model).moe_layers}
    assert moe is not None
    return moe.expert.bytes


def waits_of_one_token(machine: str) -> float:
    """ms: four reads in each of 24 layers, one behind the other, and the latency of the last."""
    model = load_model("gpt-oss-20b")
    prices = CostModel(load_hardware(machine), model)
    (moe,) = {layer.moe for layer in model.moe_layers}
    assert moe is not None
    busy, alone = (
        int(prices.price("storage_read", moe.expert.bytes, 1, False, queued))
        for queued in (True, False)
    )
    return 24 * (3 * busy + alone) / 1e6


def test_one_token_by_hand() -> None:
    """Every read of a step with an empty host is waited for."""
    found = run(ONE, limit_steps=1).summary
    assert (found["host_hits"], found["misses"]) == (0, 24 * 4)
    assert found["storage_wait_ms"] == waits_of_one_token(ONE["hardware"])


def test_more_memory_reads_less_and_all_of_it_nothing() -> None:
    few, more = (run(with_experts(host={"capacity": size})).summary for size in ("20 %", "60 %"))
    assert few["bytes_storage"] > more["bytes_storage"] > 0
    assert few["misses"] == more["misses"]
    assert "bytes_storage" not in run(with_experts(host={"capacity": "100 %"})).summary


def test_engines_agree_on_a_real_model() -> None:
    host = {"capacity": "20 %", "chunk": "2 MB", "reads": 3}
    des, replay = (
        run(with_experts(host=host) | {"engine": engine}, limit_steps=40).summary
        for engine in ("des", "replay")
    )
    for name in ("duration_ms", "storage_wait_ms", "stall_ms", "bytes_storage", "host_hits"):
        assert des[name] == replay[name]


SLOTS: dict[str, Any] = {"capacity": "8 slots/layer"}
ONE_MEMORY = ONE | {
    "hardware": "{base: strix-halo-128gb, storage: nvme-pcie4}",
    "experts": SLOTS,
}


def test_one_memory_reads_every_miss_and_copies_nothing() -> None:
    found = run(ONE_MEMORY, limit_steps=20).summary
    (moe,) = {layer.moe for layer in load_model("gpt-oss-20b").moe_layers}
    assert moe is not None
    assert found["bytes_storage"] == found["misses"] * moe.expert.bytes > 0
    assert (found["bytes_h2d"], found["stall_ms"], found["host_hit_ratio"]) == (0, 0, None)
    whole = run(ONE_MEMORY | {"experts": {"capacity": "all"}}, limit_steps=20).summary
    waited = found["duration_ms"] - found["storage_wait_ms"]
    assert waited == pytest.approx(whole["duration_ms"], rel=1e-3)  # but for the decisions


def test_one_token_of_one_memory_by_hand() -> None:
    found = run(ONE_MEMORY, limit_steps=1).summary
    assert found["misses"] == 24 * 4
    assert found["storage_wait_ms"] == waits_of_one_token(ONE_MEMORY["hardware"])


def test_nothing_is_kept_in_host_memory() -> None:
    """Every miss is read and copied; a copy that follows its read in chunks saves time."""
    host = {"capacity": "none"}
    whole, chunks = (
        run(with_experts(host=host | more), limit_steps=20).summary
        for more in ({}, {"chunk": "1 MiB"})
    )
    assert whole["bytes_storage"] == whole["bytes_h2d"] > 0
    assert (whole["host_hits"], whole["host_hit_ratio"], whole["host_memory_bytes"]) == (0, None, 0)
    assert chunks["duration_ms"] < whole["duration_ms"]


def test_reads_ahead_take_from_the_waits() -> None:
    """An oracle reads the bytes of no prefetch, in part ahead, and waits less."""
    ways = [{"kind": "none"}, {"kind": "oracle"}]
    host = {"capacity": "30 %"}
    found = [
        run(with_experts(host=host, prefetch=way) | {"engine": engine}, limit_steps=40).summary
        for way in ways
        for engine in ("des", "replay")
    ]
    assert found[0]["bytes_storage_ahead"] == 0
    for name in ("duration_ms", "storage_wait_ms", "bytes_storage", "bytes_storage_ahead"):
        assert found[0][name] == found[1][name]
        assert found[2][name] == found[3][name]
    assert 0 < found[2]["bytes_storage_ahead"] <= found[2]["bytes_storage"]
    assert found[2]["storage_wait_ms"] < found[0]["storage_wait_ms"]


def test_a_window_reads_whole_layers() -> None:
    """7 layers of 32 experts fit in 30 % of 24: two rooms, and five that stay."""
    host = {"capacity": "30 %", "layers_ahead": 1}
    des, replay = (
        run(with_experts(host=host) | {"engine": engine}, limit_steps=20).summary
        for engine in ("des", "replay")
    )
    assert des["bytes_storage"] == 20 * (24 - 5) * 32 * expert_bytes()
    for name in ("duration_ms", "storage_wait_ms", "bytes_storage", "host_hits"):
        assert des[name] == replay[name]


def test_a_layer_that_streams_reads_what_memory_has_not() -> None:
    """The prompt's pass wants all experts of all layers; nothing is kept."""
    prompt = {"requests": 1, "phase": "prefill", "prefill": {"experts": "stream"}}
    change = {"model": "gpt-oss-120b", "trace": "traces/gpt-oss-120b.parquet", "workload": prompt}
    change["hardware"] = "{base: rtx-4090, storage: nvme-pcie4}"
    des, replay = (
        run(with_experts(host={"capacity": "none"}) | change | {"engine": engine}).summary
        for engine in ("des", "replay")
    )
    assert des["bytes_storage"] == des["bytes_h2d"] == 36 * 128 * expert_bytes("gpt-oss-120b")
    for name in ("duration_ms", "storage_wait_ms", "stall_ms"):
        assert des[name] == replay[name]


def test_only_host_memory_may_be_none() -> None:
    with pytest.raises(InputError, match="'none' is not a capacity"):
        run(ONE | {"experts": {"capacity": "none"}})


def test_each_gpu_reads_its_part_of_a_sliced_expert() -> None:
    """Two GPUs read together what one reads alone, and keep it as parts."""
    sliced = {"parallelism": {"expert": 2, "experts": "tensor"}}
    for host in ({"capacity": "none"}, {"capacity": "30 %"}):
        one, two = (
            run(with_experts(host=host) | more, limit_steps=20).summary for more in ({}, sliced)
        )
        assert two["bytes_storage"] == one["bytes_storage"]
        assert two["host_hit_ratio"] == one["host_hit_ratio"]


def test_memory_behind_cxl_is_nearer_than_a_drive() -> None:
    near, far = (
        run(with_experts(host={"capacity": "none"}) | {"hardware": machine}, limit_steps=20).summary
        for machine in (
            "{base: rtx-4060-8gb, storage: cxl-ddr5-x8}",
            "{base: rtx-4060-8gb, storage: nvme-pcie5}",
        )
    )
    assert near["bytes_storage"] == far["bytes_storage"]
    assert near["storage_wait_ms"] < far["storage_wait_ms"]


def curves_of(experiment: dict[str, Any], policy: str, *columns: str) -> list[dict[int, float]]:
    """By experts that memory has room for."""
    curve = host_curve(experiment, policy=[policy])
    room = curve["experts"].tolist()
    return [dict(zip(room, curve[column].tolist(), strict=True)) for column in columns]


@pytest.mark.parametrize("policy", ["lru", "lfu", "fifo", "static"])
def test_a_curve_has_the_hits_of_runs(policy: str) -> None:
    hits, reads, size = curves_of(ONE, policy, "hit_ratio", "reads_per_token", "bytes")
    for room in (20, 300):
        host = {"capacity": f"{int(size[room])} B", "policy": {"kind": policy}}
        found = run(with_experts(host=host)).summary
        assert found["host_hit_ratio"] == pytest.approx(hits[room], abs=1e-12)
        read = found["bytes_storage"] / size[1] / found["tokens"]
        assert read == pytest.approx(reads[room])


def test_a_curve_reads_as_the_run_does() -> None:
    """By page faults where the software maps its file, around each of an expert's three matrices,
    and in as many requests as are asked for.
    """
    read, faulted = (
        curves_of(one, "lru", "read_ms_per_token")[0][20] for one in (ONE, ONE | MAPPED)
    )
    around = 1 + 3 * 2 * 128 * 1024 / expert_bytes()
    assert faulted / read == pytest.approx(around * 7 / 3.1, rel=1e-3)
    small = with_experts(host={"reads": 1024})
    assert curves_of(small, "lru", "read_ms_per_token")[0][20] > 1.2 * read


def test_a_policy_that_is_asked_for_twice_has_one_curve() -> None:
    assert host_curve(ONE, policy=["lru", "lru"]).equals(host_curve(ONE, policy=["lru"]))


def test_a_curve_of_one_memory_has_the_hits_of_a_pool() -> None:
    """And LRU's cliff is where a pass fits: 24 layers of 4 experts."""
    hits, size = curves_of(ONE_MEMORY, "lru", "hit_ratio", "bytes")
    policy = {"kind": "lru", "scope": "global"}
    for room in (30, 300):
        pool = {"capacity": f"{int(size[room])} B", "policy": policy}
        found = run(ONE_MEMORY | {"experts": pool}).summary
        assert found["hit_ratio_per_expert"] == pytest.approx(hits[room])
    assert hits[92] < 0.01
    assert hits[100] > 0.4


@pytest.mark.parametrize(
    ("change", "policy", "said"),
    [
        ({}, "arc", "'arc' has no curve of all sizes; write some of lru"),
        ({"experts": {"capacity": "all"}}, "lru", "want nothing from the host"),
        ({"experts": {"capacity": "25 %", "prefetch": {"kind": "history"}}}, "lru", "write none"),
        ({"experts": {"capacity": "25 %", "variants": VARIANTS}}, "lru", "is of one format"),
        ({"offload_layers": 2, "experts": {"capacity": "25 %"}}, "lru", "copied whole from host"),
    ],
)
def test_what_has_no_curve_is_said(change: dict[str, Any], policy: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        host_curve(ONE | change, policy=[policy])


def test_a_figure_that_cannot_be_is_said_before_the_curve(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["host-curve", "nothing.yaml", "--out", "x.txt"]) == 2
    assert "--out: 'x.txt' must be a file that ends in .png or .svg" in capsys.readouterr().err


def test_one_memory_without_a_drive_is_said() -> None:
    with pytest.raises(InputError, match="has one memory to load them from and to; write all"):
        run(ONE_MEMORY | {"hardware": "strix-halo-128gb"})


@pytest.mark.parametrize(
    ("experts", "said"),
    [
        ({"host": {"capacity": "50 %"}}, "whose room for experts is experts.capacity"),
        ({"host": {"chunk": "1 MB"}}, "into which experts are read one by one"),
        ({"host": {"layers_ahead": 1}}, "into which experts are read one by one"),
        ({"miss": {"kind": "cpu"}}, "'cpu' uses experts in a memory of the host"),
        ({"miss": {"kind": "zero_copy"}}, "'zero_copy' uses experts in a memory of the host"),
        ({"on_cpu": {"layers": 2}, "miss": {"kind": "cpu"}}, "in a memory of the host"),
    ],
)
def test_what_one_memory_cannot_is_said(experts: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(ONE_MEMORY | {"experts": SLOTS | experts})


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"hardware": "rtx-4060-8gb"}, "base: rtx-4060-8gb, storage: nvme-pcie4"),
        (with_experts(host={"capacity": "4 slots/layer"}), "the host's room is one for all"),
        (with_experts(host={"capacity": "30 %", "policy": {"kind": "min"}}), "needs to know more"),
        (
            with_experts(host={"capacity": "5 %", "layers_ahead": 1}),
            "38 experts are less than 2 layers",
        ),
        (
            with_experts(host={"capacity": "30 %", "layers_ahead": 1, "policy": {"kind": "lfu"}}),
            "no policy chooses what makes room",
        ),
        (
            with_experts(
                host={"capacity": "30 %", "layers_ahead": 1}, prefetch={"kind": "history"}
            ),
            "layers are read ahead without prefetch",
        ),
        (
            with_experts(
                host={"capacity": "30 %", "policy": {"kind": "arc"}}, prefetch={"kind": "history"}
            ),
            "keeps lists of what is in memory",
        ),
        (
            {"hardware": "{base: rtx-4060-8gb, storage: {base: nvme-pcie4, capacity: 1 GB}}"},
            "holds 1 GB, and the experts have 10 GB",
        ),
        ({"hardware": "{base: rtx-4060-8gb, storage: nvme-pcie9}"}, "neither a known storage"),
    ],
)
def test_what_cannot_be_is_said(change: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        run(ONE | change)
