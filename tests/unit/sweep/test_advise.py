"""Advice: its choices, limits, upgrades, and one from the command line."""

from __future__ import annotations

import json
import shlex
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from pydantic import BaseModel

import moesim
from moesim.cli.main import main
from moesim.cli.progress import INTERRUPTED
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.hardware import CostModel, load_hardware, load_software, software_names
from moesim.hardware.described.sourced import Sourced
from moesim.hardware.engine_fits import with_engine
from moesim.hardware.load import PARTS
from moesim.memory.misses import registry as misses
from moesim.metrics.blocks import Blocks
from moesim.model import load_model
from moesim.report.advice.figure import advice_figures, read_advice
from moesim.report.advice.tables import choices_table, sentences
from moesim.results.overwrite import BEFORE, check_replaceable
from moesim.results.result import BLOCKS
from moesim.sweep.advise import begin_anew
from moesim.sweep.advise.advice import Advice, End, Fit, Gain
from moesim.sweep.advise.choices import (
    EVICTING,
    OFFLINE,
    PREFETCHES,
    RESIDENT,
    Choice,
    allowed,
    choices_of,
    launching,
)
from moesim.sweep.advise.limits import host_limit, limits, mean_rows
from moesim.sweep.advise.profiles import KEPT, upgrade_text, write_software, write_upgrade
from moesim.sweep.advise.room import (
    Room,
    first_requests,
    prefetches_by_events,
    room_of,
)
from moesim.sweep.advise.run import upgrades_of
from moesim.sweep.advise.scored import Scored
from moesim.sweep.advise.upgrades import UPGRADES, changed
from moesim.sweep.runs import Runs
from moesim.sweep.table import summary_of

pytestmark = pytest.mark.usefixtures("unrendered")

SMALL = {
    "name": "small",
    "model": "small-moe",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/small-moe.parquet",
}
WHOLE = ("rtx-4090", "dgx-1-v100", "quadro-rtx-6000", "a100-sxm-80gb")
UPGRADED = [key for key, upgrade in UPGRADES.items() if upgrade.change and not upgrade.near]


def test_every_miss_has_each_of_its_policies_with_all_the_room_there_is() -> None:
    choices = choices_of(13)
    rooms = ["auto", "6 slots/layer", "3 slots/layer"]
    expected = {(m, p, r) for m, policies in EVICTING.items() for p in policies for r in rooms}
    expected -= {("cheapest", p, r) for p in EVICTING["cheapest"][1:] for r in rooms[1:]}
    expected -= {(miss, "lru", r) for miss in ("split", "background") for r in rooms[1:]}
    plain = [c for c in choices if c.prefetch == "none"]
    assert {(c.miss, c.policy, c.capacity) for c in plain} == expected
    assert len(plain) == len(expected)
    ahead = {(c.miss, c.prefetch, c.policy, c.capacity) for c in choices if c not in plain}
    assert ahead == {
        (miss, prefetch, "lru", "auto")
        for miss, prefetches in PREFETCHES.items()
        for prefetch in prefetches
    }
    assert {c.policy for c in plain if c.offline} == {OFFLINE}
    assert {c.prefetch for c in choices if c.offline} == {"none", "oracle"}
    assert {c.miss for c in plain if c.offline} == {"load"}


@pytest.mark.parametrize(("slots", "fewer"), [(1, 0), (2, 1), (3, 1), (4, 2)])
def test_no_room_is_named_twice_or_empty(slots: int, fewer: int) -> None:
    rooms = {c.capacity for c in choices_of(slots, "2 GiB")} - {"2 GiB"}
    assert len(rooms) == fewer
    assert "0 slots/layer" not in rooms


def test_a_choice_is_the_experiment_with_its_settings() -> None:
    base = load_experiment(SMALL).experiment
    made, left_out = allowed(base, [Choice("cheapest", "s3fifo", "8 slots/layer")])
    (choice, experiment), *_ = made
    assert not left_out
    assert experiment.experts.miss.kind == "cheapest"  # type: ignore[attr-defined]
    assert experiment.experts.policy.kind == "s3fifo"  # type: ignore[attr-defined]
    assert str(experiment.experts.capacity) == choice.capacity
    assert experiment.folders == base.folders


def test_a_choice_that_the_rules_forbid_is_left_out_with_the_reason() -> None:
    base = load_experiment({**SMALL, "execution": "graph"}).experiment
    resident = Choice("load", "lru", "all")
    made, left_out = allowed(base, [resident, Choice("cpu", "lru", "8 slots/layer")])
    assert [choice for choice, _ in made] == [resident]
    assert "graph" in left_out["cpu"]
    with pytest.raises(InputError, match="graph"):
        allowed(base, [Choice("cpu", "lru", "8 slots/layer")])


CAPTURING = {**SMALL, "software": "vllm"}
AUTO = (("execution", "auto"),)
DEVICE = (*AUTO, ("decide", "device"))
EIGHT_GPUS = {**CAPTURING, "hardware": "dgx-h100", "parallelism": {"expert": 8}}


@pytest.mark.parametrize(
    ("source", "room", "beside"),
    [
        (CAPTURING, "all", ()),
        ({**CAPTURING, "execution": "eager"}, "all", AUTO),
        ({**CAPTURING, "execution": "eager"}, "8 slots/layer", AUTO),
        ({**CAPTURING, "execution": "graph"}, "8 slots/layer", AUTO),  # cannot load as it stands
        ({**SMALL, "software": "hf-eager", "execution": "eager"}, "all", ()),
        (EIGHT_GPUS, "all", DEVICE),
        ({**EIGHT_GPUS, "decide": "device"}, "all", ()),
    ],
)
def test_settings_that_capture_more_are_choices(source: Any, room: str, beside: Any) -> None:
    base = load_experiment(source).experiment
    assert launching(base, room) == beside
    others = [c for c in choices_of(4, room, beside) if c.beside]
    assert {c.miss for c in others} == (set(EVICTING) if beside else set())
    assert all(dict(beside).items() <= c.settings.items() for c in others)


def fit(room: Room) -> Fit:
    """What fits in a question of no interest."""
    return Fit("m", "h", "s", None, room)


@pytest.mark.parametrize(
    ("software", "told"),
    [
        ("llama.cpp-no-mmap", "llama.cpp itself cannot do that: this is what it would bring; the"),
        ("vllm", "vllm itself cannot do that: this is what it would bring."),
        ("ktransformers@0.2", ""),
        ("ideal", ""),
    ],
)
def test_what_the_engine_of_a_file_cannot_do_is_said(software: str, told: str) -> None:
    layers = Scored(Choice("on_cpu", "lru", "all", layers=5), {"output_throughput": 32.0})
    cpu = Scored(Choice("cpu", "lru", "auto"), {"output_throughput": 54.0, "slots_per_layer": 4})
    room = replace(fit(Room(4, 8)), software=software)
    advice = Advice("n", Path("f"), room, 1, 1, (layers, cpu), {}, {}, ())
    said = [line for line in sentences(advice) if "itself" in line]
    assert [line[: len(told)] for line in said] == [told] * bool(told)
    assert not said or ("32" in said[0]) == (software == "llama.cpp-no-mmap")


def test_upgrades_are_over_the_best_setting() -> None:
    as_it_is = Scored(RESIDENT, {"output_throughput": 120.0, "execution": "eager"})
    best = Scored(
        replace(RESIDENT, beside=AUTO), {"output_throughput": 199.0, "execution": "graph"}
    )
    gain = Gain(UPGRADES["no_software"], best, before=199.0)
    advice = Advice("n", Path("f"), fit(Room(8, 8)), 1, 1, (as_it_is, best), {}, {}, (gain,))
    assert advice.chosen == [best]
    assert advice.over_best(gain) == 1.0
    told = list(sentences(advice))
    assert any(x.startswith("Set execution: auto (graph instead of eager): x 1.66") for x in told)
    assert "No single upgrade" in told[-1]


@pytest.mark.parametrize(
    ("share", "host", "first"),
    [
        ({"waiting_for_weights": 0.7, "experts": 0.3}, "CPU", "link"),
        ({"waiting_for_cpu": 0.5, "attention": 0.3, "experts": 0.2}, "DRAM", "DRAM"),
        ({"waiting_for_cpu": 0.5, "attention": 0.3, "experts": 0.2}, "CPU", "CPU"),
        ({"experts": 0.3, "gate": 0.2, "attention": 0.4, "host": 0.1}, "CPU", "kernels"),
        ({"host": 0.9, "attention": 0.1}, "CPU", "software"),
        ({"attention": 0.6, "waiting_for_gpus": 0.4}, "CPU", "attention"),
        ({"idle": 1.0}, "CPU", "idle time"),
    ],
)
def test_the_limit_is_where_most_time_goes(share: dict[str, float], host: Any, first: str) -> None:
    found = limits(share, host)
    assert next(iter(found)) == first
    assert sum(found.values()) == pytest.approx(1.0)
    assert list(found.values()) == sorted(found.values(), reverse=True)


def test_idle_gpus_of_a_service_wait_for_its_arrivals() -> None:
    assert limits({"idle": 0.7, "experts": 0.3}, served=True) == {"arrivals": 0.7, "kernels": 0.3}


def test_few_rows_on_the_host_wait_for_dram_and_many_for_cores() -> None:
    machine, model = load_hardware("rtx-4090"), load_model("gpt-oss-20b")
    assert host_limit(machine, model, rows=1) == "DRAM"
    assert host_limit(machine, model, rows=4096) == "CPU"


def test_mean_rows_are_choices_over_activations() -> None:
    assert mean_rows({"tokens": 100, "hits": 150, "misses": 50}, layers=8, top_k=4) == 16
    assert mean_rows({"tokens": 0, "hits": 0, "misses": 0}, layers=8, top_k=4) == 1


def differences(before: Any, after: Any, path: str = "") -> dict[str, tuple[Any, Any]]:
    """The numbers in which two parts of profiles differ; texts of sources are left out."""
    if isinstance(before, BaseModel):
        names = type(before).model_fields
        pairs = [(name, getattr(before, name), getattr(after, name)) for name in names]
    elif isinstance(before, tuple):
        pairs = [(str(i), *both) for i, both in enumerate(zip(before, after, strict=True))]
    else:
        same = before == after or path.endswith(".source")
        return {} if same else {path: (before, after)}
    found = (differences(a, b, f"{path}.{name}") for name, a, b in pairs)
    return {place: values for part in found for place, values in part.items()}


PARTLY = (
    "gb10",
    "{gpu: rtx-3090, host: ddr4-3200-2ch-64gb}",
    "{gpu: rtx-3090, host: {base: epyc-7003-1s, threads: 16}}",
)
DRIVE = "{gpu: rtx-3090, host: ddr4-3200-2ch-64gb, storage: nvme-pcie4}"
EXPECTED = {
    "next_pcie": ("pcie", "copies", "peers.bandwidth", "switches"),
    "twice_dram": ("host.memory_bandwidth",),
    "twice_cores": ("host.cores", "host.threads"),
    "memory_x1.5": ("datasheet.memory.",),
    "memory_x2": ("datasheet.memory.",),
    "twice_gpu_bandwidth": ("memory_bandwidth", "calibrated"),
    "twice_gpu_cores": ("datasheet.compute.", "datasheet.multiprocessors", "calibrated"),
    "twice_host_memory": ("host.memory.",),
    "twice_drive": ("host.storage.bandwidth", "host.storage.mapped_bandwidth"),
}


@pytest.mark.parametrize(
    ("key", "machine"),
    [*product(sorted({*UPGRADED} - {"twice_drive"}), [*WHOLE, *PARTLY]), ("twice_drive", DRIVE)],
)
def test_an_upgrade_is_a_profile_that_differs_only_there(
    tmp_path: Path, key: str, machine: str
) -> None:
    base = load_experiment({**SMALL, "hardware": machine}).experiment
    before = load_hardware(machine)
    path = write_upgrade(tmp_path, base, before, UPGRADES[key])
    after = load_hardware(path)
    parts = (differences(getattr(before, p), getattr(after, p), f".{p}") for p in PARTS)
    found = {place: values for part in parts for place, values in part.items()}
    assert found
    assert all(any(name in place for name in EXPECTED[key]) for place in found)
    assert all(new > old for old, new in found.values())


def test_more_cores_shorten_attention_that_reads_from_caches() -> None:
    """Behind 32k tokens on an M4 Max, where twice the memory's bandwidth brings next to nothing."""
    model, software = load_model("glm-4.5-air@q4_k_m"), load_software("llama.cpp")
    machines = [load_hardware("m4-max-128gb")]
    for key in ("twice_gpu_cores", "twice_gpu_bandwidth"):
        change = UPGRADES[key].change
        assert change is not None
        machines.append(change(machines[0]))
    layer, keys = model.layers[-1], 32_768
    prices = [CostModel(with_engine(machine, software), model) for machine in machines]
    before, cores, bandwidth = (int(one.attention_ns(layer, 1, keys, keys)) for one in prices)
    assert cores < 0.6 * before
    assert bandwidth > 0.8 * before


@pytest.mark.parametrize("software", software_names())
def test_no_software_cost_keeps_the_kernels(tmp_path: Path, software: str) -> None:
    """Others, of another framework's fits, had made it slower than with its costs."""
    base = load_experiment({**SMALL, "software": software}).experiment
    before, free = load_software(software), load_software("ideal")
    after = load_software(write_software(tmp_path, base, UPGRADES["no_software"]))
    kernels = list(KEPT)
    if before.start_cycles is not None:  # whose count of kernels is what the GPU takes for them
        kernels += ["kernels"]
    own, kept = ({key: getattr(one, key) for key in kernels} for one in (before, after))
    assert kept == own
    names = {"name", "title", "sources", *kernels}
    assert after.model_dump(exclude=names) == free.model_dump(exclude=names)


def test_copies_of_the_next_generation_are_no_faster_than_dram() -> None:
    before = load_hardware("rtx-3060-12gb")
    upgrade = UPGRADES["next_pcie"].change
    assert upgrade is not None
    copy = upgrade(before).datasheet.copy_of("h2d")
    assert copy.bandwidth.value == before.host.node_bytes_per_second
    slow = upgrade(load_hardware("rtx-4060-8gb")).datasheet.copy_of("h2d")
    assert slow.bandwidth.value == pytest.approx(2 * 13.1e9)


def test_an_upgrade_of_an_upgrade_keeps_both_sources(tmp_path: Path) -> None:
    base = load_experiment(SMALL).experiment
    once = write_upgrade(tmp_path, base, load_hardware("rtx-4060-8gb"), UPGRADES["twice_dram"])
    again = base.model_copy(update={"hardware": once})
    path = write_upgrade(tmp_path / "again", again, load_hardware(once), UPGRADES["memory_x2"])
    both = load_hardware(path)
    assert both.host.memory_bandwidth == Sourced[Any](value=102.4e9, source="upgrade")
    assert both.datasheet.memory.value == 16 * 2**30
    assert "2 x GPU memory" in both.sources[both.datasheet.memory.source]


def test_an_upgrade_keeps_what_computes_near_the_memory(tmp_path: Path) -> None:
    """No file of a machine has a device: without it, a run whose misses it computes was refused."""
    device = "near_memory: {base: monde, memory: 1 TiB}"
    near = f"{{gpu: a100-pcie-40gb, host: ddr5-4800-8ch-512gb, {device}}}"
    base = load_experiment({**SMALL, "hardware": near}).experiment
    before = load_hardware(base.hardware)
    after = load_hardware(write_upgrade(tmp_path, base, before, UPGRADES["twice_dram"]))
    assert after.near_memory == before.near_memory is not None
    assert after.host.memory_bandwidth.value == 2 * before.host.memory_bandwidth.value


@pytest.mark.parametrize("device", ["monde", {"base": "monde", "memory": "1 TiB"}])
def test_upgrades_of_what_computes_near_the_memory(device: Any, tmp_path: Path) -> None:
    """Each doubles its own, and the machine stays."""
    machine = {"gpu": "a100-pcie-40gb", "host": "ddr5-4800-8ch-512gb", "near_memory": device}
    base = load_experiment({**SMALL, "hardware": machine}).experiment
    before = load_hardware(base.hardware)
    found = {
        key: load_hardware(write_upgrade(tmp_path, base, before, UPGRADES[key]))
        for key in ("twice_near_bandwidth", "twice_near_rate")
    }
    own, faster, more = (one.near_memory for one in (before, *found.values()))
    assert own is not None
    assert faster is not None
    assert more is not None
    assert faster.bandwidth.value == 2 * own.bandwidth.value
    assert faster.peak("bf16") == own.peak("bf16")
    assert more.bandwidth.value == own.bandwidth.value
    assert more.peak("bf16") == 2 * own.peak("bf16")
    assert {one.memory.value for one in (own, faster, more)} == {own.memory.value}
    same = before.host.memory_bandwidth.value
    assert all(one.host.memory_bandwidth.value == same for one in found.values())


def test_a_near_memory_device_has_upgrades_and_the_cpu_beside_it_none() -> None:
    machine = {"gpu": "a100-pcie-40gb", "near_memory": "monde"}
    near = {"miss": {"kind": "cpu", "computed_by": "near_memory"}, "capacity": "4 slots/layer"}
    keys = {}
    for name, experts in (("host", {"capacity": "4 slots/layer"}), ("near", near)):
        base = load_experiment({**SMALL, "hardware": machine, "experts": experts}).experiment
        keys[name] = {one.key for one in upgrades_of(base, Room(4, 8), resize=True)}
    assert keys["near"] - keys["host"] == {"twice_near_bandwidth", "twice_near_rate"}
    assert keys["host"] - keys["near"] == {"twice_dram", "twice_cores"}


def scored(miss: str, policy: str, speed: float | None) -> Scored:
    status = "ok" if speed else "failed"
    return Scored(Choice(miss, policy, "auto"), {"status": status, "output_throughput": speed})


def test_what_knows_the_future_is_never_the_best_and_gains_are_over_the_best() -> None:
    runs = (scored("load", "lru", 10.0), scored("load", "min", 40.0), scored("cpu", "lru", 20.0))
    upgrade = UPGRADES["memory_x2"]
    gain = Gain(upgrade, scored("load", "lru", 30.0), before=10.0)
    advice = Advice("n", Path("f"), fit(Room(4, 8)), 1, 2, runs, {}, {"link": 1.0}, (gain,))
    assert advice.best is runs[2]
    assert advice.offline is runs[1]
    assert advice.chosen == [runs[2], runs[0]]
    assert (gain.ratio, advice.over_best(gain)) == (3.0, 1.5)
    assert advice.to_dict()["over_plain_lru"] == 2.0


CPU, CHEAP = (Choice(miss, "lru", "auto") for miss in ("cpu", "cheapest"))


def at_end(share: float, cpu: float, cheap: float, gains: dict[str, float]) -> End:
    """With upgrades of the CPU's, by key, and their tokens a second."""
    found = [Gain(UPGRADES[key], scored("cpu", "lru", one), cpu) for key, one in gains.items()]
    return End(share, {CPU: cpu, CHEAP: cheap}, tuple(found))


def test_nothing_is_ranked_inside_the_hosts_range() -> None:
    """'2 x GPU memory, x 1.41' had been told flatly, of a host at whose upper end another upgrade
    helps more, and at whose lower end another choice is better.
    """
    runs = (scored("cpu", "lru", 40.0), scored("cheapest", "lru", 39.0))
    memory, bandwidth = "memory_x2", "twice_gpu_bandwidth"
    gains = at_end(0.5, 40.0, 39.0, {memory: 56.0, bandwidth: 52.0}).gains
    least = at_end(0.26, 30.0, 33.0, {memory: 60.0, bandwidth: 36.0})
    most = at_end(1.0, 50.0, 48.0, {memory: 56.0, bandwidth: 70.0})
    room = fit(Room(4, 8))
    plain = Advice("n", Path("f"), room, 1, 1, runs, {}, {"CPU": 1.0}, gains)
    made = replace(plain, ends=(least, most))
    choice, _, upgrade = list(sentences(made))[2:]
    of, first = "depends on the host's share of its DRAM peak:", "measure it first: moesim"
    assert choice == f"The best choice {of} cheapest with lru at 26 %; {first} calibrate host."
    here = "here 2 x GPU memory, x 1.40 (1.12 to 2.00)"
    other = "2 x GPU memory bandwidth, x 1.40, at 100 %"
    assert upgrade == f"Most useful upgrade: {of} {here}; {other}; {first} calibrate host."
    assert made.to_dict()["upgrades"][0]["ratio_ends"] == pytest.approx((1.12, 2.0))
    certain = replace(made, ends=(least, replace(most, gains=least.gains)))
    *_, told = sentences(certain)
    assert told == "Most useful upgrade: 2 x GPU memory, x 1.40 (1.40 to 2.00) (now: cpu)."
    *_, told = sentences(plain)
    assert told == "Most useful upgrade: 2 x GPU memory, x 1.40 (now: cpu)."


def test_the_table_has_a_column_of_prefetches_only_where_one_is_compared() -> None:
    plain = (scored("load", "lru", 10.0), scored("cpu", "lru", 20.0))
    ahead = Scored(Choice("load", "lru", "auto", "next_layer"), {"output_throughput": 9.0})
    for runs, prefetching in ((plain, False), ((*plain, ahead), True)):
        advice = Advice("n", Path("f"), fit(Room(4, 8)), 1, 2, runs, {}, {}, ())
        headings = [column.header for column in choices_table(advice).columns]
        assert ("prefetch" in headings) is prefetching
        assert headings[0] == "miss"
        assert headings[2 if prefetching else 1] == "policy"


def test_an_oracle_is_run_only_where_every_miss_is_loaded() -> None:
    assert {c.miss for c in choices_of(4) if c.prefetch == "oracle"} == {"load"}


def test_no_choice_leaves_experts_out():
    """It would be the fastest, of another model."""
    assert [c for c in choices_of(4) if misses.get(c.miss)().skips] == []


def with_blocks(miss: str, policy: str, speed: float) -> Scored:
    """A choice whose twelve batches of ten steps all run at ``speed`` tokens/s."""
    steps = np.full(12, 10)
    columns = {"duration_ns": np.rint(steps / speed * 1e9), "first_step": steps.cumsum() - steps}
    sums = pd.DataFrame({name: columns.get(name, steps) for name in BLOCKS})
    return replace(scored(miss, policy, speed), blocks=Blocks(sums, "batch"))


def test_the_best_is_compared_with_the_next_and_with_the_plain_cache() -> None:
    runs = (
        with_blocks("load", "lru", 10.0),
        with_blocks("load", "min", 40.0),
        with_blocks("load", "s3fifo", 16.0),
        with_blocks("cpu", "lru", 20.0),
    )
    advice = Advice("n", Path("f"), fit(Room(4, 8)), 1, 2, runs, {}, {"link": 1.0}, ())
    assert advice.next_best is runs[2]
    over = advice.to_dict()["best_over"]
    for name, of, percent in (
        ("next_best", "load with s3fifo", 25.0),
        ("plain_lru", "load with lru", 100.0),
    ):
        assert over[name]["of"] == of
        assert [over[name][key] for key in ("value", "low", "high")] == pytest.approx([percent] * 3)
        assert over[name]["paired"]
    told = [line for line in sentences(advice) if line.startswith("After the warm-up")]
    head, tail = "After the warm-up: cpu beats load with", "(95 %, 12 batches, paired)."
    assert told == [
        f"{head} s3fifo by 25.0 % [25.0, 25.0] {tail}",
        f"{head} lru by 100.0 % [100.0, 100.0] {tail}",
    ]


def test_equally_fast_choices_give_the_simplest_one() -> None:
    slow = scored("load", "lru", 1.0)
    equal = tuple(
        Scored(choice, {"status": "ok", "output_throughput": 2.0})
        for choice in choices_of(1)
        if choice.miss != "load"
    )
    advice = Advice("n", Path("f"), fit(Room(1, 8)), 1, 2, (slow, *equal), {}, {}, ())
    assert advice.best.choice == Choice("cpu", "lru", "auto")


def test_the_room_is_what_the_card_has_or_what_was_said() -> None:
    base = load_experiment(SMALL).experiment
    assert room_of(base, "auto") == Room(32, 32, 8)
    assert room_of(base, "8 slots/layer") == Room(8, 32, 8)
    big = load_experiment({**SMALL, "model": "gpt-oss-20b", "trace": "traces/quickstart.parquet"})
    room = room_of(big.experiment, "auto")
    assert 1 <= room.slots < room.local == 32
    assert not room.fits


def test_the_requests_make_a_full_batch_and_never_more_than_the_file_says() -> None:
    base = load_experiment({**SMALL, "workload": {"phase": "decode", "requests": 3}}).experiment
    assert first_requests(base) == 3
    assert first_requests(load_experiment(SMALL).experiment) == 32
    few = 64 * 8 * 4 * 3 + 1
    for batch, requests in ((1, 3), (2, 2), (3, 3), (16, 16)):
        batching = {"kind": "static", "batch_size": batch}
        data = {"workload": {"phase": "decode", "batching": batching}}
        assert first_requests(load_experiment({**SMALL, **data}).experiment, few) == requests
    data = {"workload": {"phase": "decode", "batching": {"kind": "static", "batch_size": 12}}}
    assert first_requests(load_experiment({**SMALL, **data}).experiment) == 24


SLOW_DRAM = {
    "gpu": "rtx-4090", "host": {"base": "ddr4-3200-2ch-64gb", "expert_fraction": "80 %"}
}  # fmt: skip
"""Copies and experts on the CPU read more together than there is."""


@pytest.mark.parametrize(
    ("source", "events"),
    [
        ({}, ()),
        ({"hardware": SLOW_DRAM, "software": "llama.cpp"}, ()),  # which copies nothing ahead
        ({"hardware": SLOW_DRAM, "software": "vllm"}, ("cheapest",)),
        ({"hardware": "dgx-h100", "parallelism": {"expert": 8}}, ("load", "cheapest")),
    ],
)
def test_only_prefetches_over_shared_links_are_played_by_events(
    source: dict[str, Any], events: tuple[str, ...]
) -> None:
    own_port = {"hardware": {"gpu": "rtx-3090", "host": "ddr5-6000-2ch-64gb"}}
    base = load_experiment({**SMALL, **own_port, **source}).experiment
    assert prefetches_by_events(base) == events


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "small.yaml"
    path.write_text("".join(f"{key}: {value}\n" for key, value in SMALL.items()))
    return path


@pytest.mark.usefixtures("rendered")
def test_advice_from_the_command_line(small: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["advise", str(small), "-j", "1", "--requests", "1", "--capacity", "1 slots/layer"]
    assert main(options) == 0
    told = capsys.readouterr().out
    folder = Path("results/small-advice")
    advice = json.loads((folder / "advice.json").read_text())
    assert "Fits? No: 1 of 32" in told
    assert "Most useful upgrade" in told or "No single upgrade" in told
    assert "(now: " in told or "(with: " in told
    assert (folder / "advice.png").stat().st_size > 0
    assert main(["plot", str(folder), "--format", "pdf", "--size", "3.5x2.8"]) == 0
    assert [Path(path).name for path in capsys.readouterr().out.split()] == [
        f"advice_{part}.{suffix}" for part in ("choices", "upgrades") for suffix in ("csv", "pdf")
    ]
    check_replaceable(folder)  # as --overwrite does
    assert len(advice["choices"]) == len(choices_of(1))
    assert all(choice["status"] == "ok" for choice in advice["choices"])
    speeds = [c["throughput_tokens_per_s"] for c in advice["choices"] if not c["offline"]]
    assert advice["best"]["throughput_tokens_per_s"] == max(speeds)
    assert sum(advice["limits"].values()) == pytest.approx(1.0)
    assert advice["best_over"]["next_best"]["reason"].startswith("1 block after the warm-up")

    line = next(line for line in told.splitlines() if line.startswith("again:"))
    assert main([*shlex.split(line)[2:], "--out", "again"]) == 0
    summary = json.loads(Path("again/summary.json").read_text())
    assert summary["output_throughput"] == advice["best"]["throughput_tokens_per_s"]

    capsys.readouterr()
    assert main([*options, "--json", "--no-report"]) == 0
    assert json.loads(capsys.readouterr().out) == advice
    again = [*options, "--requests", "2", "--no-report"]
    assert main(again) == 2
    assert "workload.requests" in capsys.readouterr().err
    (folder / "mine.txt").touch()
    assert main([*again, "--overwrite"]) == 2
    assert "mine.txt" in capsys.readouterr().err
    (folder / "mine.txt").unlink()
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(f"{Runs.__module__}.run_sweep", interrupted)
        assert main([*again, "--overwrite"]) == INTERRUPTED
    assert capsys.readouterr().err.endswith(
        f"stopped; the finished runs stay in {folder}: the same command without --overwrite goes "
        f"on; what was there before stays in {folder / BEFORE} until then\n"
    )
    assert [path.name for path in folder.iterdir()] == [BEFORE]
    assert json.loads((folder / BEFORE / "advice.json").read_text()) == advice
    assert main(again) == 0
    assert not (folder / BEFORE).exists()


def test_an_advice_that_is_stopped_before_it_begins_anew_goes_on_as_it_was_asked(
    small: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(f"{begin_anew.__module__}.check_replaceable", interrupted)
    assert main(["advise", str(small), "--overwrite", "-o", "out"]) == INTERRUPTED
    told = "stopped; the finished runs stay in out: the same command goes on\n"
    assert capsys.readouterr().err.endswith(told)


def interrupted(*_: Any, **__: Any) -> Any:
    raise KeyboardInterrupt


def test_of_requests_that_are_served_all_that_are_asked_for_are_counted(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 40, which take the experts of 32 recorded ones, 32 were replayed: fewer than the clients
    that the file may have.
    """
    lengths = "lengths: {kind: fixed, input_len: 8, output_len: 4}, routing: {kind: draw}"
    served = f"workload: {{requests: 40, {lengths}, batching: {{kind: continuous}}}}\n"
    small.write_text(small.read_text().replace("rtx-4060-8gb", "rtx-4090") + served)
    asked = ["advise", str(small), "--json", "--no-report", "-o"]
    for more, replayed in (([], 40), (["--requests", "36"], 36)):
        assert main([*asked, f"out-{replayed}", *more]) == 0
        found = json.loads(capsys.readouterr().out)
        assert (found["requests"], found["recorded_requests"]) == (replayed, 40)


@pytest.mark.usefixtures("played_again")
def test_where_requests_come_when_they_come_speeds_are_those_of_one(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """All choices had the tokens/s of the arrivals, and the best was one of those by chance."""
    lengths = "lengths: {kind: fixed, input_len: 8, output_len: 8}, routing: {kind: draw}"
    arrivals = "arrivals: {kind: poisson, request_rate: 20 requests/s}"
    served = f"workload: {{requests: 5, {arrivals}, {lengths}, batching: {{kind: continuous}}}}\n"
    small.write_text(small.read_text() + served)
    asked = ["advise", str(small), "--capacity", "1 slots/layer", "-o", "out", "-j", "1"]
    assert main(asked) == 0
    told = capsys.readouterr().out
    page = Path("out/report.html").read_text()
    for text in (told, page):
        assert " tokens/s a request" in text
        assert "which set the tokens/s of all together; compared" in " ".join(text.split())
    assert "'moesim search'" in told
    assert "prices: mean TTFT" in told
    assert "runs:   out/choices, out/best, out/upgrades" in told
    ends = [summary_of(Path("out", name), 0)["price_interval"] for name in ("choices", "best")]
    assert ["mean_e2el_ms" in one for one in ends] == [False, True]  # of the best alone
    found = read_advice(Path("out"))
    rows = [one for one in found["choices"] if one["throughput_tokens_per_s"]]
    speeds = {one["throughput_tokens_per_s"] for one in rows}
    assert max(speeds) > 1.05 * min(speeds)
    assert found["unit"] == "tokens/s a request"
    own = max(one["throughput_tokens_per_s"] for one in rows if not one["offline"])
    best = found["best"]
    assert best["throughput_tokens_per_s"] == own == pytest.approx(_alone(found, small), rel=0.01)
    assert advice_figures(Path("out"))[0].prepare(Path("out"))["unit"].unique() == [found["unit"]]


def _alone(found: dict[str, Any], file: Path) -> float:
    """Of the best choice by what became of each request: all answers have as many tokens."""
    best = found["best"]
    sets = [f"experts.capacity={best['capacity']}", f"experts.miss.kind={best['miss']}"]
    sets += [f"experts.policy.kind={best['policy']}", f"experts.prefetch.kind={best['prefetch']}"]
    sets += [f"{key}={value}" for key, value in best["set"].items()]
    sets += ["experts.initial=most_used", f"workload.requests={found['requests']}"]
    result = moesim.run(str(file), overrides=sets)
    assert result.requests is not None
    return float(8e3 / result.requests["e2el_ms"].mean())


def test_the_progress_counts_all_runs_of_an_advice(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    base = load_experiment({**SMALL, "records": "summary", "workload": {"requests": 1}}).experiment
    runs = Runs(tmp_path, progress=lambda finished, total: told.append((finished, total)))
    runs.summaries(base, [({"seed": 0}, base)], "choices", after=3)
    runs.summaries(base, [({"seed": 0}, base)], "upgrades", before=1)
    assert told == [(0, 4), (1, 4), (1, 2), (2, 2)]


def test_points_of_a_sweep_are_not_looked_at(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small.write_text(small.read_text() + "sweep: {experts.capacity: [all, 9 walruses]}\n")
    for command in ("place", "fit"):
        assert main([command, str(small)]) == 0
    assert main(["advise", str(small), "--capacity", "8 turtles"]) == 2
    assert "walruses" not in capsys.readouterr().err
    assert main(["check", str(small)]) == 2
    assert "walruses" in capsys.readouterr().err


def test_what_fits_is_said_first_and_briefly(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", str(small), "-j", "1", "--requests", "1"]) == 0
    told = capsys.readouterr().out
    assert "Fits: all 32 experts of a layer stay on the GPU" in told
    assert "zero_copy" not in told
    assert len(json.loads(Path("results/small-advice/advice.json").read_text())["choices"]) == 1


@pytest.mark.parametrize(
    ("options", "named"),
    [
        (["--capacity", "8 turtles"], "turtles"),
        (["--set", "hardware=no-such-card"], "no-such-card"),
        (["--set", "trace=traces/quickstart.parquet"], "MoE layers"),
        (["--requests", "0"], "requests"),
    ],
)
def test_mistakes_take_one_line(
    small: Path, options: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["advise", str(small), *options]) == 2
    told = capsys.readouterr().err
    assert named in told
    assert "Traceback" not in told


def test_a_model_of_which_not_one_slot_fits_is_told(
    small: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = {"model": "gpt-oss-20b", "trace": "traces/quickstart.parquet"}
    options = [x for k, v in values.items() for x in ("--set", f"{k}={v}")]
    tiny = small.parent / "tiny.yaml"
    base = load_hardware("rtx-4060-8gb")
    sheet = base.datasheet
    memory = changed(sheet.memory, value=2 * 2**30)
    less = changed(base, datasheet=changed(sheet, memory=memory))
    tiny.write_text(upgrade_text(base, less, "less memory", "rtx-4060-8gb"))
    assert main(["advise", str(small), *options, "--set", f"hardware={tiny}"]) == 2
    told = capsys.readouterr().err
    assert "experts.capacity: auto" in told
    assert len(told.strip().splitlines()) == 1
