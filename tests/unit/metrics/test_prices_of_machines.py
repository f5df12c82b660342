"""What prices of cards, hosts, links, drives and software may be off by, in runs of them."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

import moesim
from moesim.calibrate.published.predict import judged_by_others
from moesim.config.files.paths import shipped_folder
from moesim.hardware import load_software
from moesim.hardware.described.reached import (
    EXPERT_PARALLEL,
    EXPERTS,
    FAULTS_BYTES_PER_S,
    VERSIONS,
    copies_reach,
    experts_reach,
    faults_reach,
)
from moesim.hardware.described.sourced import Ranged
from moesim.hardware.operations.experts.error import LEFT_OUT
from moesim.hardware.operations.kernels.cpu_expert import FITTED_OFF
from moesim.hardware.price_errors import _together, without_variant
from moesim.metrics.price_interval import (
    FROM_DRIVE,
    GUESSED,
    STAND_IN,
    STAND_IN_MISSES,
    speed_apart,
    speed_reason,
)
from moesim.metrics.priced_time import PricedTime, calls_of_copies, with_calls
from moesim.report.run.trust import price_interval_line, trust_lines
from moesim.results.result import Result

NEAR = 1e-4


def run(**changes):
    experiment = {
        "model": "gpt-oss-20b",
        "trace": "traces/quickstart.parquet",
        "workload": {"batching": {"kind": "static", "batch_size": 1}, "requests": 2},
        **changes,
    }
    return moesim.run(experiment).summary


def test_a_card_without_measurements_is_off_as_other_cards_were():
    found = run(hardware="rtx-4090", software="ideal")["price_interval"]
    (only,) = found["factors"]
    assert only["of"] == "datasheet of rtx-4090"
    assert only["share"] == pytest.approx(1)
    cards = 1 + np.median([p90 for _, p90 in LEFT_OUT.values()]) / 100
    assert (only["low"], only["high"]) == _together([(1 / cards, cards), VERSIONS])
    speed = found["output_throughput"]
    assert speed["low"] * only["high"] == pytest.approx(speed["value"], rel=NEAR)


def test_a_measured_card_is_off_as_its_fits_were():
    summary = run(hardware="h100-sxm")
    rows = summary["price_interval"]["factors"]
    assert sum(one["share"] for one in rows) == pytest.approx(1)
    measured = [one for one in rows if one["rests_on"] == "measured"]
    assert measured
    for one in measured:
        assert (one["low"], one["high"]) == pytest.approx(VERSIONS), "what another version changes"
    assert sum(one["share"] for one in measured) == pytest.approx(
        summary["price_share"]["measured"]
    )
    assert {one["of"].split()[0] for one in rows} >= {"experts", "attention", "datasheet"}
    line = price_interval_line(summary)[0]
    assert line.startswith("prices: ")
    assert "attention of h100-sxm (interpolated) -" in line
    assert "experts of h100-sxm (measured) -19 to +27 %" in line


def test_a_hosts_prior_is_its_range():
    machine = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb"}
    summary = run(hardware=machine, software="llama.cpp", experts={"on_cpu": {"layers": 24}})
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    host = rows["experts on the CPU of hosts with 2 channels of DDR4"]
    least, most = experts_reach()
    assert (least, most) == pytest.approx((0.2597, 1.0), abs=0.001), "ten hosts, 29 to 82 %"
    assert (host["low"], host["high"]) == pytest.approx((0.5 / most, 0.5 / least))
    own = rows["software llama.cpp"]
    assert (own["low"], own["high"]) == pytest.approx((0.5, 2.0)), "its waits, 5 to 20 of 10 us"


@pytest.mark.parametrize(
    ("source", "cores", "ends"),
    [
        ("measured, sums of 1 GiB", 16, (0.88, 1.35)),
        ("measured, sums of 1 GiB", 17, (0.88, 3.125)),
        ("my page", 16, (None, None)),
    ],
)
def test_of_a_host_whose_reads_were_measured_products_are_unsure(
    source: str, cores: int, ends: tuple[float | None, float | None]
) -> None:
    share = {"value": "60 %", "source": source}
    host = {"base": "ddr4-3200-2ch-64gb", "expert_fraction": share, "cores": cores}
    summary = run(
        hardware={"gpu": "rtx-3090", "host": host},
        software="llama.cpp",
        experts={"on_cpu": {"layers": 24}},
    )
    (row,) = (one for one in summary["price_interval"]["factors"] if "on the CPU" in one["of"])
    assert (row["low"], row["high"]) == pytest.approx(ends)


def test_a_host_is_judged_by_the_others():
    """Without the 7950X, which reaches most, nine are left, which reach less."""
    own = "ryzen-9-7950x-ddr5-5600-2ch"
    logs = np.log([one.share for one in EXPERTS if one.host != own])
    middle, width = logs.mean(), 1.8595 * logs.std(ddof=1) * np.sqrt(1 + 1 / 9)
    assert experts_reach(own) == pytest.approx((np.exp(middle - width), np.exp(middle + width)))
    machine = {"gpu": "rtx-5070", "host": "ddr5-5600-2ch-64gb"}
    summary = run(hardware=machine, software="llama.cpp", experts={"on_cpu": {"layers": 24}})
    assert judged_by_others(summary, "somebody's") is summary
    found = judged_by_others(summary, own)["price_interval"]
    (row,) = [one for one in found["factors"] if one["of"].startswith("experts on the CPU")]
    least, most = experts_reach(own)
    assert (row["low"], row["high"]) == pytest.approx((0.5 / most, 0.5 / least))
    before = summary["price_interval"]["output_throughput"]
    assert found["output_throughput"]["high"] < before["high"]
    assert found["output_throughput"]["value"] == before["value"]


def test_hosts_are_those_that_were_fitted():
    """But for those of packs that judge the range: their experiments are called 'offload-...'."""
    folder = shipped_folder() / "hardware_profiles" / "hosts"
    fitted = {}
    for path in folder.glob("*.yaml"):
        host = yaml.safe_load(path.read_text(encoding="utf-8"))
        share, given = host.get("expert_fraction"), " ".join(host["sources"].values())
        if share and share["source"] == "run" and "in the experiment offload-" not in given:
            fitted[path.stem] = float(share["value"].removesuffix(" %")) / 100
    assert fitted == pytest.approx({one.host: one.share for one in EXPERTS})


DDR5 = "ddr5-5600-2ch-96gb"


@pytest.mark.parametrize(
    ("host", "together"),
    [
        ("ddr5-6400-2ch-96gb", True),
        ({"base": DDR5, "memory_bandwidth": "102.4 GB/s"}, True),
        ({"base": DDR5, "cores": 16}, True),
        ({"base": DDR5, "cores": 8}, False),
        ({"base": DDR5, "memory_bandwidth": "460 GB/s"}, False),
        ("epyc-9004-1s", False),
    ],
)
def test_hosts_of_one_kind_are_off_together_however_they_are_written(host, together):
    """One question had two answers: ddr5-6400 by its name was not distinguishable from ddr5-5600,
    and by its bandwidth it was, as was a bandwidth of 460 GB/s, which no such memory has.
    """

    def made_on(of):
        machine = {"gpu": "rtx-4090", "host": of}
        layers = {"experts": {"on_cpu": {"layers": 24}}}
        return run(hardware=machine, software="llama.cpp", **layers)["price_interval"]

    low, high = speed_apart(10.0, made_on(host), made_on(DDR5)) or (0.0, 0.0)
    assert (low > 0) is together
    assert (high - low < 20) is together


def test_a_whole_machines_host_is_of_the_kind_that_stands_in_its_place():
    layers = {"software": "llama.cpp", "experts": {"on_cpu": {"layers": 24}}}
    for hardware, kind in (
        ("rtx-4090", "2 channels of DDR5"),
        ({"base": "rtx-4090", "host": "epyc-7003-1s"}, "8 channels of DDR4"),
        ({"base": "rtx-4090", "host": {"memory_bandwidth": "96 GB/s"}}, "2 channels of DDR5"),
    ):
        rows = run(hardware=hardware, **layers)["price_interval"]["factors"]
        (found,) = (one["of"] for one in rows if one["of"].startswith("experts on the CPU"))
        assert found == f"experts on the CPU of hosts with {kind}"


def test_variants_of_one_software_are_off_together_and_versions_apart():
    """llama.cpp and llama.cpp-no-mmap had been as unlike as two engines."""
    names = ("llama.cpp-no-mmap", "llama.cpp", "llama.cpp@b8xxx", "hf-eager", "my-own")
    assert [without_variant(name) for name in names] == ["llama.cpp", *names[1:]]


def test_a_nearly_full_host_may_read_from_its_drive():
    """9.5 GiB of experts in 12, of which a system may take 4: 15 % of them by page faults."""
    host = {"base": "ddr4-3200-2ch-64gb", "memory": "12 GiB"}
    machine = {"gpu": "rtx-3090", "host": host}
    layers = {"software": "llama.cpp", "experts": {"on_cpu": {"layers": 24}}}
    summary = run(hardware=machine, **layers)
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    found, cpu = rows[FROM_DRIVE], rows["experts on the CPU of hosts with 2 channels of DDR4"]
    needed = summary["host_memory_bytes"]
    assert needed == pytest.approx(24 * 32 * 3 * 2880 * 2880 * 17 / 32, rel=0.01)
    times = 1 + (1 - 8 * 2**30 / needed) * 0.5 * 51.2e9 / FAULTS_BYTES_PER_S
    assert (found["low"], found["high"]) == pytest.approx((1.0, times), rel=1e-3)
    assert found["share"] == pytest.approx(cpu["share"])
    assert (
        f"9.5 of its 12.0 GiB, and no drive is named: with 4 GiB for its system some are read by"
        f" page faults, and they may take up to {times:.1f} times as long"
        in summary["host_notes"][1]
    )
    roomy = {"gpu": "rtx-3090", "host": {**host, "memory": "16 GiB"}}
    summary = run(hardware=roomy, **layers)
    assert FROM_DRIVE not in {one["of"] for one in summary["price_interval"]["factors"]}
    assert "drive" not in "".join(summary["host_notes"])


def test_page_faults_are_off_as_those_of_other_drives_were():
    """A quarter of the experts in memory; 230 MB/s of 9.3 GB/s were seen, and 5.5 of 12.4. Reads of
    the engine's own, and a rate that the user gives, have no error that is known.
    """
    least, most = faults_reach()
    assert (least, most) == pytest.approx((0.0247, 0.4435), abs=1e-4)

    def rows_of(path, **storage):
        machine = {**MACHINE, "storage": {"base": "nvme-pcie4", **storage}}
        host = {"capacity": "25 %", "path": path}
        experts = {"on_cpu": {"layers": 24}, "host": host}
        summary = run(hardware=machine, software="llama.cpp", experts=experts)
        return {one["of"]: one for one in summary["price_interval"]["factors"]}

    found, share = rows_of("auto")["page faults on storage"], 3.1 / 7
    assert (found["low"], found["high"]) == pytest.approx((share / most, share / least))
    assert found["share"] > 0.2
    assert rows_of("direct")["storage"]["low"] is None
    own = {"mapped_bandwidth": {"value": "2 GB/s", "source": "fio of 12 May, 16 threads"}}
    assert rows_of("auto", **own)["page faults on storage"]["low"] is None


def test_a_gpus_part_of_the_experts_is_off_as_tables_of_parts_say():
    """Beside what another version of an engine changes."""
    of = "experts of h100-sxm"
    shared = run(hardware="h100-sxm", parallelism={"expert": 2})["price_interval"]["factors"]
    measured = {one["rests_on"]: one for one in shared if one["of"] == of}
    ends = _together([VERSIONS, EXPERT_PARALLEL])
    assert (measured["measured"]["low"], measured["measured"]["high"]) == pytest.approx(ends)


def test_so_it_is_on_a_card_without_measurements():
    shared = run(hardware="rtx-4090", software="ideal", parallelism={"expert": 2})
    rows = {one["of"]: (one["low"], one["high"]) for one in shared["price_interval"]["factors"]}
    ends = _together([rows["datasheet of rtx-4090"], EXPERT_PARALLEL])
    assert rows["datasheet of rtx-4090, parts of experts"] == pytest.approx(ends)


MACHINE = {"gpu": "rtx-3090", "host": "ddr4-3200-2ch-64gb", "link": "pcie4-x16"}


def link_of(summary):
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    return rows["link of rtx-3090 and hosts with 2 channels of DDR4"]


def test_a_link_is_off_as_other_machines_were():
    """26.2 of 31.5 GB/s pinned where others had 39 to 88 %; pageable 10.3 where they had 3.75 to
    22.7 GB/s; a number that the user gives counts as right."""
    experts = {"capacity": "8 slots/layer"}
    least, most = copies_reach(31.5, pinned=True)
    assert (least, most) == pytest.approx((12.3, 31.5 * 55.63 / 63))
    found = link_of(run(hardware=MACHINE, experts=experts, software="ideal"))
    assert (found["low"], found["high"]) == pytest.approx((26.2 / most, 26.2 / least))
    found = link_of(run(hardware=MACHINE, experts=experts, software="hf-eager"))
    assert (found["low"], found["high"]) == pytest.approx((10.3 / 22.7, 10.3 / 3.75))
    own = {"base": "pcie4-x16", "copies": {"h2d": {"pinned": {"bandwidth": "25 GB/s"}}}}
    found = link_of(run(hardware={**MACHINE, "link": own}, experts=experts, software="ideal"))
    assert found["low"] is None


def test_pageable_copies_reach_what_a_thread_stages_whatever_the_slot():
    """13.1 GB/s over eight lanes of PCIe 4.0 could be 2.8, less than any machine had, and was past
    what any had as a share of its slot. No copy is faster than a pinned one.
    """
    assert copies_reach(15.75, pinned=False) == pytest.approx((3.75, 15.75 * 55.63 / 63))
    assert copies_reach(63.0, pinned=False) == (3.75, 22.7)
    assert copies_reach(3.94, pinned=False) == copies_reach(3.94, pinned=True)
    machine = {"gpu": "rtx-4060-8gb", "host": "ddr5-5600-2ch-64gb"}
    summary = run(hardware=machine, experts={"capacity": "8 slots/layer"}, software="hf-eager")
    (found,) = (one for one in summary["price_interval"]["factors"] if "link" in one["of"])
    ends = 13.1 * 63 / 55.63 / 15.75, 13.1 / 3.75
    assert (found["low"], found["high"]) == pytest.approx(ends)


def test_calls_of_copies_that_are_waited_for_are_the_softwares():
    spent = PricedTime({"copy": np.array([0.0, 0, 0, 60, 0]), "gate": np.array([30.0] * 5)}, 10.0)
    found = with_calls(spent, calls_of_copies(spent, 45))
    assert float(found.priced["copy"].sum()) == 15
    assert (found.host, found.total) == (55, spent.total)
    assert with_calls(spent, calls_of_copies(spent, 100)).priced["copy"].sum() == 0
    assert with_calls(PricedTime({}, 5.0), calls_of_copies(PricedTime({}, 5.0), 100)).host == 5
    waits = {"hardware": MACHINE, "software": "imp@1365", "experts": {"capacity": "8 slots/layer"}}
    summary = run(**waits)
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    tokens_ns = 1e6 * summary["duration_ms"]
    calls = 3 * 99_000 * summary["misses"] / tokens_ns
    assert rows["software imp@1365"]["share"] == pytest.approx(
        calls + summary["time_share"]["host"], rel=0.01
    )


def test_a_stand_in_may_miss_more_or_less_than_the_trace_would():
    cached = {"hardware": MACHINE, "software": "ideal", "experts": {"capacity": "8 slots/layer"}}
    summary = run(**cached, trace="stand-in:qwen3-30b-a3b")
    rows, missed = summary["price_interval"]["factors"], 1 - summary["hit_ratio_per_expert"]
    (found,) = [one for one in rows if one["of"] == STAND_IN]
    copies = [one for one in rows if one["of"].startswith("link")]
    assert found["share"] == pytest.approx(sum(one["share"] for one in copies))
    low, high = STAND_IN_MISSES
    assert (found["low"], found["high"]) == (low, min(high, 1 / missed))
    experts = {"capacity": "8 slots/layer", "policy": {"kind": "stream"}}
    streamed = {**cached, "experts": experts}
    rows = run(**streamed, trace="stand-in:qwen3-30b-a3b")["price_interval"]["factors"]
    assert STAND_IN not in {one["of"] for one in rows}, "all miss, whatever the trace"
    for there in ({"host_layers": 24}, {"experts": {"on_cpu": {"layers": 24}}}):
        machine = {"hardware": MACHINE, "software": "ideal", "trace": "stand-in:qwen3-30b-a3b"}
        found = [
            one
            for one in run(**machine, **there)["price_interval"]["factors"]
            if one["of"] == STAND_IN
        ]
        assert sum(one["share"] for one in found) == 0, "all are the CPU's, whatever the trace"
    real = run(**cached)["price_interval"]["factors"]
    assert STAND_IN not in {one["of"] for one in real}


def test_a_miss_has_its_calls_too():
    """Where the host waits for each copy, most of a miss is its calls, which are the software's."""
    waits = {"hardware": MACHINE, "software": "imp@1365", "experts": {"capacity": "8 slots/layer"}}
    summary = run(**waits, trace="stand-in:qwen3-30b-a3b")
    rows = {one["of"]: one for one in summary["price_interval"]["factors"]}
    waited = summary["time_share"]["waiting_for_weights"]
    assert rows[STAND_IN]["share"] == pytest.approx(waited, rel=0.01)
    assert rows["link of rtx-3090 and hosts with 2 channels of DDR4"]["share"] < waited


def test_the_softwares_own_range_is_that_of_what_it_does():
    known = load_software("vllm")
    assert known.range_of(serves=False) == pytest.approx((1, 100 / 30))
    assert known.range_of(serves=True) == pytest.approx((0.5, 2))
    assert load_software("ideal").range_of(serves=False) is None
    with pytest.raises(ValueError, match="do not ascend"):
        Ranged[float](value=3.0, low=4.0, source="a")


def test_a_card_of_a_maker_of_whom_nothing_was_measured_has_no_interval() -> None:
    def run(gpu: str, slots: int = 8) -> Result:
        machine = {"hardware": {"gpu": gpu, "host": "ddr5-6000-2ch-64gb"}}
        source = {"model": "small-moe", "trace": "traces/small-moe.parquet", "software": "ideal"}
        return moesim.run(source | machine | {"experts": {"capacity": f"{slots} slots/layer"}})

    amd, slower, nvidia = run("rx-7900-xtx", 32), run("rx-7900-xtx", 31), run("rtx-3090", 32)
    made = amd.summary["price_interval"]
    assert made["reason"] == GUESSED
    assert made["output_throughput"]["low"] is None
    assert made["unknown_share"] > 0.9
    assert nvidia.summary["price_interval"]["output_throughput"]["low"] is not None
    told = "\n".join(trust_lines(amd.summary))
    assert "warning: datasheet prices; kernels of AMD's GPUs: too few" in told
    without_matrix_units = run("p40", 32).summary
    assert without_matrix_units["price_interval"]["output_throughput"]["low"] is None
    assert "kernels of GPUs without matrix units" in "\n".join(trust_lines(without_matrix_units))
    prices = [one.summary["price_interval"] for one in (amd, slower, nvidia)]
    assert speed_reason(prices[0], prices[1]) is None  # both are off by as much
    assert speed_reason(prices[0], prices[2]) == GUESSED


def test_a_host_fitted_to_a_run_is_off_by_what_its_other_runs_are() -> None:
    """Such a run had an interval of less than a percent, with 99 % of its time left out."""
    host = "ryzen-9-7950x-ddr5-5600-2ch"
    source = {
        "model": "small-moe", "trace": "small-moe", "software": "ideal",
        "hardware": {"gpu": "rtx-3090", "host": host}, "experts": {"on_cpu": {"layers": 6}},
    }  # fmt: skip
    made = moesim.run(source).summary["price_interval"]
    (row,) = [one for one in made["factors"] if one["of"] == f"experts on the CPU of {host}"]
    assert (row["low"], row["high"]) == FITTED_OFF
    assert row["share"] > 0.2
    speed = made["output_throughput"]
    assert speed["low"] < speed["value"] * (1 - 0.4 * row["share"])
    assert speed["high"] > speed["value"] * (1 + 0.4 * row["share"])


@pytest.mark.parametrize("fitted", [True, False])
def test_a_drive_and_a_gpu_fitted_to_a_run_are_off_as_hosts_are(fitted: bool) -> None:
    """A phone's reads had counted as right, and its kernels as those of NVIDIA's cards."""
    source = "fitted to one run: 2 tokens/s" if fitted else "measured"
    machine = {
        "gpu": {"base": "phone-12gb", "bandwidth_fraction": {"value": "15 %", "source": source}},
        "storage": {"base": "ufs-4", "latency": {"value": "850 us", "source": source}},
    }
    run = moesim.run({
        "model": "qwen3-30b-a3b@q4_k_m", "hardware": machine, "trace": "qwen3-30b-a3b",
        "software": "ideal", "workload": {"requests": 1, "phase": "decode"},
        "experts": {"capacity": "4 GB", "policy": {"kind": "lru", "scope": "global"}},
    }, records="summary")  # fmt: skip
    rows = {
        row["of"]: (row["low"], row["high"]) for row in run.summary["price_interval"]["factors"]
    }
    assert rows["storage"] == (FITTED_OFF if fitted else (None, None))
    assert (rows["datasheet of phone-12gb"] == FITTED_OFF) is fitted


def test_a_machine_of_one_name_is_named_once() -> None:
    """It was the link of rtx-4060-8gb and rtx-4060-8gb."""
    given = {"model": "small-moe", "trace": "small-moe", "hardware": "rtx-4060-8gb"}
    summary = moesim.run(given | {"experts": {"capacity": "8 slots/layer"}}).summary
    assert "link of rtx-4060-8gb" in [row["of"] for row in summary["price_interval"]["factors"]]
