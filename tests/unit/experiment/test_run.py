"""What a change of the experiment must do to the result, whatever the prices are."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
import yaml

import moesim
from moesim.config.files.paths import shipped_folder
from moesim.results.files import plain
from moesim.results.shape import Summary, check_shape

STEPS = 40
EXPERTS = {"capacity": "8 slots/layer"}
BASE = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 2},
    "experts": EXPERTS,
}
BATCH_4 = {"requests": 6, "batching": {"kind": "refill", "batch_size": 4}}
TIMES = ("duration_ms", "output_throughput", "mean_tpot_ms", "stall_ms", "hits", "misses")


def run(limit_steps=STEPS, **choices):
    result = moesim.run({**BASE, **choices}, limit_steps=limit_steps)
    assert result.status == "ok", result.summary["reason"]
    return result


def same(one, other):
    """Equal in every number and table; only the engine and the wall clock differ."""
    numbers = [
        {k: v for k, v in r.summary.items() if not k.startswith("engine")} for r in (one, other)
    ]
    assert numbers[0] == numbers[1]
    for table in ("steps", "layers", "requests", "memory"):
        assert getattr(one, table).equals(getattr(other, table)), table


def with_link(folder, bandwidth):
    """The 8 GB card with other copies into it; the path of its profile."""
    profile = yaml.safe_load((shipped_folder() / "hardware_profiles/rtx-4060-8gb.yaml").read_text())
    copies = profile["datasheet"]["copies"]["h2d"]
    for kind in ("pinned", "pageable"):
        copies[kind]["bandwidth"]["value"] = f"{bandwidth} GB/s"
    path = folder / f"link-{bandwidth}.yaml"
    path.write_text(yaml.safe_dump(profile, explicit_end=True))
    return str(path)


@pytest.mark.parametrize("workload", [{"requests": 2}, BATCH_4], ids=["batch 1", "batch 4"])
@pytest.mark.parametrize("software", ["ideal", "hf-eager"])
def test_a_faster_link_is_never_slower(tmp_path, workload, software):
    links = [with_link(tmp_path, rate) for rate in (2, 5, 9, 15)]
    results = [run(hardware=link, workload=workload, software=software) for link in links]
    for slow, fast in pairwise(results):
        assert (fast.steps.end_ns <= slow.steps.end_ns).all()
        assert fast.summary["duration_ms"] < slow.summary["duration_ms"]
        assert fast.summary["misses"] == slow.summary["misses"]  # decisions never read the clock


def test_a_card_that_holds_all_experts_never_misses():
    summary = run(hardware="h100-sxm", experts={"capacity": "all"}, workload=BATCH_4).summary
    assert (summary["misses"], summary["bytes_h2d"], summary["stall_ms"]) == (0, 0, 0)
    assert summary["hit_ratio_per_expert"] == 1
    assert summary["memory_bytes"]["expert_slots"] == 0
    assert summary["host_memory_bytes"] == 0


def test_all_is_all_experts_in_slots():
    every = [
        {"capacity": capacity} for capacity in ("all", "100 %", "32 slots/layer", "99 slots/layer")
    ]
    results = [run(hardware="h100-sxm", experts=experts) for experts in every]
    for one, other in pairwise(results):
        same(one, other)


def test_more_slots_under_lru_never_miss_more():
    """Batch 1 needs four experts: LRU's inclusion holds from four slots on."""
    runs = [run(experts={"capacity": f"{n} slots/layer"}).summary for n in range(4, 14)]
    assert all(b["misses"] <= a["misses"] for a, b in pairwise(runs))
    assert runs[-1]["misses"] < runs[0]["misses"]
    assert all(b["peak_memory_bytes"] > a["peak_memory_bytes"] for a, b in pairwise(runs))


def test_min_misses_least():
    misses = {
        kind: run(experts={**EXPERTS, "policy": {"kind": kind}}).summary["misses"]
        for kind in ("min", "lru", "lfu", "fifo", "lifo", "random", "static")
    }
    assert min(misses, key=lambda kind: misses[kind]) == "min"


def test_software_that_costs_the_host_is_never_faster():
    for workload in (BASE["workload"], BATCH_4):
        ideal, eager = (run(software=s, workload=workload) for s in ("ideal", "hf-eager"))
        assert (ideal.steps.end_ns <= eager.steps.end_ns).all()
        assert ideal.summary["misses"] == eager.summary["misses"]


def test_eager_launches_are_never_faster_than_captured_ones():
    device = {"software": "hf-eager", "decide": "device"}
    ways = [run(**device, execution=way) for way in ("graph", "piecewise", "eager")]
    for fewer, more in pairwise(ways):
        assert fewer.summary["duration_ms"] <= more.summary["duration_ms"]


def test_serial_kernels_compute_what_grouped_ones_do():
    grouped, serial = (
        run(workload=BATCH_4, experts={**EXPERTS, "kernels": kernels})
        for kernels in ("grouped", "serial")
    )
    for name in ("hits", "misses", "tokens", "layer_steps"):
        assert grouped.summary[name] == serial.summary[name], name


def test_resident_experts_first_hit_no_less():
    """Where all fit, the order within a step decides nothing about who hits in that step."""
    orders = [run(experts={**EXPERTS, "order": order}) for order in ("id", "resident_first")]
    assert orders[0].steps.hits[0] == orders[1].steps.hits[0] == 0  # caches start empty
    assert orders[0].summary["hits"] + orders[0].summary["misses"] == (
        orders[1].summary["hits"] + orders[1].summary["misses"]
    )


def test_dropping_gating_drops_and_dynamic_does_not():
    workload = {"requests": 8, "batching": {"kind": "static", "batch_size": 8}}
    static, dynamic = (
        run(workload=workload, hardware="h100-sxm", experts={"capacity": "all"}, gating=gating)
        for gating in ({"kind": "static", "capacity_fraction": "25 %"}, {"kind": "dynamic"})
    )
    assert dynamic.summary["dropped_choices"] == dynamic.summary["padding_ratio"] == 0
    kept = int(static.steps.accesses.sum())
    assert kept + static.summary["dropped_choices"] == dynamic.steps.accesses.sum()
    # 32 experts x ceil(8 / 4) rows in each of 24 layers, while 8 requests are live
    rows = sum(32 * -(-live // 4) * 24 for live in static.steps.live_requests)
    assert static.summary["padding_ratio"] == pytest.approx(1 - kept / rows, rel=1e-12)


def test_the_order_of_keys_is_irrelevant():
    turned = {key: BASE[key] for key in reversed(BASE)}
    same(run(), moesim.run(turned, limit_steps=STEPS))


@pytest.mark.parametrize("policy", ["lru", "random"])
def test_the_same_seed_gives_the_same_result(policy):
    experts = {**EXPERTS, "policy": {"kind": policy}}
    same(run(experts=experts, seed=3), run(experts=experts, seed=3))


def test_another_seed_changes_random_replacement_only():
    random, lru = ({**EXPERTS, "policy": {"kind": kind}} for kind in ("random", "lru"))
    steps = [run(experts=random, seed=seed).steps.misses.tolist() for seed in (1, 2)]
    assert steps[0] != steps[1]
    same(run(experts=lru, seed=1), run(experts=lru, seed=2))


def test_one_gpu_more_holds_more_and_misses_less():
    """Two GPUs with 8 slots each hold 16 of a layer's experts between them."""
    one, two = (run(parallelism={"expert": gpus}).summary for gpus in (1, 2))
    assert two["misses"] < one["misses"]
    assert two["slots_per_layer"] == one["slots_per_layer"] == 8
    assert (one["local_experts"], two["local_experts"]) == (32, 16)


def test_limited_steps_are_the_first_ones():
    whole, part = run(30), run(12)
    assert whole.steps[:12].equals(part.steps)
    assert part.summary["steps"] == 12


def test_checking_changes_nothing():
    unchecked = run(workload=BATCH_4)
    checked = moesim.run({**BASE, "workload": BATCH_4}, limit_steps=STEPS, check=True)
    assert checked.summary.pop("checks")["copies"] == unchecked.summary["misses"]
    same(unchecked, checked)


def test_what_does_not_fit_is_a_result_with_the_same_keys():
    fits = run().summary
    result = moesim.run({**BASE, "experts": {"capacity": "all"}}, limit_steps=STEPS)
    assert result.status == "out_of_memory"
    assert "weights" in result.summary["reason"]
    assert result.summary["misses"] is None
    assert set(TIMES) <= set(result.summary)
    assert set(fits) == set(result.summary) | (set(fits) & {"requests"})


@pytest.mark.parametrize(
    "choices",
    [
        {"engine": "des"},
        {"experts": {**EXPERTS, "prefetch": {"kind": "oracle"}}},
        {"experts": {"capacity": "all"}},
    ],
    ids=["checked", "prefetch", "out of memory"],
)
def test_every_kind_of_summary_has_the_shape_that_is_read(choices):
    result = moesim.run({**BASE, **choices}, limit_steps=3, check="engine" in choices)
    check_shape(plain(result.summary), Summary, "summary.json")


def test_what_is_played_again_for_a_range_needs_no_records_of_its_own(monkeypatch):
    """A run with records of experts was played three times by the slow engine, which they want."""
    from moesim.engine.des import run as module

    played, plain = [], module.run_des

    def counted(case, **how):
        played.append(how["records"])
        return plain(case, **how)

    monkeypatch.setattr(module, "run_des", counted)
    workload = {
        "requests": 4,
        "arrivals": {"kind": "poisson", "request_rate": "50 requests/s"},
        "lengths": {"kind": "fixed", "input_len": 8, "output_len": 8},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous"},
    }
    asked: dict[str, Any] = {"model": "small-moe", "hardware": "rtx-4060-8gb"}
    asked |= {"trace": "small-moe", "workload": workload, "serving": {"price_interval": "always"}}
    found = moesim.run({**asked, "records": "expert"}).summary["price_interval"]
    assert played == ["expert"]
    assert found == moesim.run({**asked, "records": "layer"}).summary["price_interval"]
    assert found["mean_ttft_ms"]["low"] is not None
