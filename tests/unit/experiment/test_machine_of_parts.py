"""``hardware`` as a GPU, a host and a link: in files, sweeps, ``--set`` and results."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder
from moesim.experiment.loading.inputs import inputs_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running.cache import key_of
from moesim.experiment.running.run import simulate
from moesim.experiment.schema.json_schema import json_schema
from moesim.experiment.schema.text import mapping_text
from moesim.hardware import load_hardware
from moesim.report.run.trust import trust_lines

HOST = "ddr4-3200-2ch-64gb"
PARTS = {"gpu": "rtx-3090", "host": HOST, "link": "pcie4-x16"}
TRACE = str(shipped_folder() / "traces" / "quickstart.parquet")


def asked(hardware: Any, **more: Any) -> dict[str, Any]:
    workload = {"requests": 1}
    return {"model": "gpt-oss-20b", "trace": TRACE, "hardware": hardware, "workload": workload,
            "experts": {"capacity": "8 slots/layer"}, **more}  # fmt: skip


def problems(source: Any, overrides: tuple[str, ...] = ()) -> list[str]:
    with pytest.raises(InputError) as caught:
        load_experiment(source, overrides)
    return [str(problem) for problem in caught.value.problems]


def test_parts_are_one_name_that_reads_back(tmp_path: Path) -> None:
    experiment = load_experiment(asked(PARTS)).experiment
    assert experiment.hardware == f"{{gpu: rtx-3090, host: {HOST}, link: pcie4-x16}}"
    path = tmp_path / "again.yaml"
    path.write_text(mapping_text(experiment.model_dump(mode="json")), encoding="utf-8")
    assert load_experiment(path).experiment.hardware == experiment.hardware


def test_a_run_on_parts_is_that_on_the_whole() -> None:
    """The parts of a shipped profile, put together again."""
    whole = load_hardware("rtx-4090")
    dumped = whole.host.model_dump(mode="json", exclude_none=True)
    host = {key: entry["value"] for key, entry in dumped.items()}
    one = simulate(load_experiment(asked("rtx-4090")).experiment)
    two = simulate(load_experiment(asked({"gpu": "rtx-4090", "host": host})).experiment)
    assert one.summary["mean_tpot_ms"] == two.summary["mean_tpot_ms"] > 0
    slow = simulate(load_experiment(asked({**PARTS, "link": "pcie3-x4"})).experiment)
    fast = simulate(load_experiment(asked(PARTS)).experiment)
    ratio = fast.summary["mean_tpot_ms"] / slow.summary["mean_tpot_ms"]
    assert 2.975 / 26.2 < ratio < 0.5
    assert "on rtx-3090 + ddr4-3200-2ch-64gb + pcie4-x16, quickstart" in repr(fast)


def test_axes_over_parts() -> None:
    fast = {"base": "ddr5-6000-2ch-64gb", "cores": 24}
    sweep = {"hardware.gpu": ["rtx-3090", "rtx-5070"], "hardware.host": [HOST, fast]}
    points = load_experiment(asked(PARTS, sweep=sweep)).points
    assert [point.hardware for _, point in points] == [
        f"{{gpu: {gpu}, host: {host}, link: pcie4-x16}}"
        for gpu in ("rtx-3090", "rtx-5070")
        for host in (HOST, "{base: ddr5-6000-2ch-64gb, cores: 24}")
    ]
    cores = load_experiment(asked("rtx-4090", sweep={"hardware.host.cores": [8, 24]})).points
    assert cores[1][1].hardware == "{base: rtx-4090, host: {cores: 24}}"
    wrong = problems(asked(PARTS, sweep={"hardware.gpu": ["rtx-3090", "rtx-390"]}))
    assert wrong[0].startswith("experiment: sweep.hardware.gpu: 'rtx-390' is neither a known gpu")
    assert (
        "no key 'gpus' under 'hardware'" in problems(asked(PARTS, sweep={"hardware.gpus": [1]}))[0]
    )
    slower = {"hardware.link": ["pcie4-x16", "pcie5-x16"]}
    assert "does not take 'pcie5-x16'" in problems(asked(PARTS, sweep=slower))[0]


def test_one_number_by_option() -> None:
    found = load_experiment(asked("rtx-4090"), ("hardware.host.memory=96 GiB",)).experiment
    assert found.hardware == "{base: rtx-4090, host: {memory: 96 GiB}}"
    found = load_experiment(asked(PARTS), ("hardware.host.cores=24",)).experiment
    host = load_hardware(found.hardware).host
    assert (host.cores.value, host.memory_bandwidth.value) == (24, 51.2e9)
    wrong = problems(asked(PARTS), ("hardware.host.memory=96",))
    assert len(wrong) == 1
    assert wrong[0].startswith("--set hardware.host.memory=96: hardware.host.memory: 96 has no uni")


def test_mistakes_are_told_at_their_lines(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    path.write_text(
        f"model: gpt-oss-20b\ntrace: {TRACE}\nhardware:\n  gpu: rtx-390\n  host:\n"
        f"    base: {HOST}\n    memory: 96\n  link: nvlink\n",
        encoding="utf-8",
    )
    found = problems(path)
    places = [text.partition(": ")[0].rpartition("mine.yaml:")[2] for text in found]
    assert places == ["4:8", "7:13", "8:9"]
    assert ["hardware.gpu" in found[0], "hardware.host.memory" in found[1]] == [True, True]


def test_a_gpu_alone_says_which_host_is_assumed_where_one_is_used() -> None:
    notes = {}
    for capacity in ("8 slots/layer", "all"):
        experiment = load_experiment(asked("rtx-3090", experts={"capacity": capacity})).experiment
        notes[capacity] = simulate(experiment).summary.get("host_notes")
    told = "ddr5-6000-2ch-64gb is assumed, as none is named; hardware.host names yours"
    assert notes == {"8 slots/layer": [f"{told} ('moesim list hosts')"], "all": None}


def test_the_cache_tells_numbers_apart() -> None:
    keys = set()
    for cores in (8, 24):
        hardware = {**PARTS, "host": {"base": HOST, "cores": cores}}
        experiment = load_experiment(asked(hardware)).experiment
        inputs = inputs_of([experiment])
        keys.add(key_of(experiment, inputs))
    assert len(keys) == 2
    names = {
        file.path.name for (key, _), files in inputs.items() if key == "hardware" for file in files
    }
    assert names == {"gpu.yaml", "rtx-3090.yaml", f"{HOST}.yaml", "pcie4-x16.yaml"}


def test_one_memory_loads_nothing() -> None:
    (what,) = problems(asked("gb10"))
    assert what == (
        "experiment: experts.capacity: '8 slots/layer' leaves experts out, and gb10 has one memory "
        "to load them from and to; write all, or a drive that they are read from, as in hardware: "
        "{base: gb10, storage: nvme-pcie4}"
    )
    result = simulate(load_experiment(asked("gb10", experts={"capacity": "all"})).experiment)
    assert result.status == "ok"
    assert result.summary["bytes_h2d"] == 0
    assert result.summary["host_memory_bytes"] == 0
    large = asked({"base": "gb10", "gpu": {"memory": "8 GB"}}, experts={"capacity": "all"})
    assert simulate(load_experiment(large).experiment).status == "out_of_memory"
    (two,) = problems(asked("gb10", experts={"capacity": "all"}, parallelism={"expert": 2}))
    assert "parallelism.expert" in two


def test_one_memory_holds_what_it_has_room_for() -> None:
    """What ``auto`` leaves out is known of the memory, not of the word."""
    result = simulate(load_experiment(asked("gb10", experts={"capacity": "auto"})).experiment)
    assert result.summary["hit_ratio_per_expert"] == 1
    small = asked({"base": "gb10", "gpu": {"memory": "12 GB"}}, experts={"capacity": "auto"})
    with pytest.raises(InputError, match=r"experts.capacity: the one memory of .* of 32 experts"):
        simulate(load_experiment(small).experiment)
    read = asked(
        {"base": "gb10", "gpu": {"memory": "12 GB"}, "storage": "nvme-pcie4"},
        experts={"capacity": "auto"},
    )
    assert simulate(load_experiment(read).experiment).summary["bytes_storage"] > 0


def test_an_assumed_host_says_its_range_and_what_would_narrow_it() -> None:
    on_cpu = {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}}
    summary = simulate(load_experiment(asked(PARTS, experts=on_cpu)).experiment).summary
    (note,) = summary["host_notes"]
    assert "reach 50% of the DRAM peak" in note
    assert "real runs reached 26% to 100%, so they may take 0.5 to 1.9 times as long" in note
    assert f"note: host: {note}" in trust_lines(summary)
    measured = {**PARTS, "host": {"base": HOST, "expert_fraction": "61 %"}}
    whole = simulate(load_experiment(asked("rtx-4090", experts=on_cpu)).experiment).summary
    assert note.split(";")[0] in whole["host_notes"][0]
    for hardware, experts in ((measured, on_cpu), (PARTS, {"capacity": "all"})):
        told = simulate(load_experiment(asked(hardware, experts=experts)).experiment).summary
        assert "host_notes" not in told


def test_a_fitted_host_says_to_which_run() -> None:
    on_cpu = {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}}
    machine = {**PARTS, "host": "core-i9-13900k-ddr5-4000-2ch"}
    summary = simulate(load_experiment(asked(machine, experts=on_cpu)).experiment).summary
    (note,) = summary["host_notes"]
    assert "of the DRAM peak, fitted to one run: 17.76 tokens/s, llama.cpp" in note


def test_a_host_of_two_sockets_says_that_one_of_them_counts() -> None:
    """Its whole bandwidth stands in the list of hosts; a GPU's experts have half of it."""
    on_cpu = {"capacity": "8 slots/layer", "miss": {"kind": "cpu"}}

    def told(host: Any, gpus: int = 1) -> list[str]:
        file = asked({**PARTS, "host": host}, experts=on_cpu, parallelism={"expert": gpus})
        notes: list[str] = simulate(load_experiment(file).experiment).summary["host_notes"]
        return [note for note in notes if "NUMA" in note]

    (note,) = told("epyc-9004-2s")
    assert note.startswith(
        "experts lie on one of its 2 NUMA nodes, and have its cores and 460.8 GB/s"
    )
    assert told("epyc-9004-2s", gpus=2) == []
    assert told("epyc-9004-1s") == []
    assert told({"base": "epyc-9004-2s", "remote_node_fraction": "80 %"}) == []


def test_threads_of_two_sockets_work_for_one_gpu() -> None:
    host = {"base": "epyc-7003-2s", "threads": 16}
    machine = {**PARTS, "host": host}
    assert load_experiment(asked(machine)).experiment.parallelism.expert == 1
    (what,) = problems(asked(machine, parallelism={"expert": 2}))
    assert what.startswith("experiment: parallelism.expert: 2 GPUs share 2 NUMA nodes, and")
    one = {**PARTS, "host": {"base": HOST, "threads": 8}}
    assert load_experiment(asked(one, parallelism={"expert": 2})).experiment.parallelism.expert == 2


def test_the_schema_has_the_parts() -> None:
    name, parts = json_schema()["properties"]["hardware"]["anyOf"]
    assert name == {"type": "string", "minLength": 1}
    assert set(parts["properties"]) == {
        *["base", "gpu", "host", "link", "near_memory", "peers", "storage"]
    }


def test_a_part_is_set_in_a_machine_that_is_resolved() -> None:
    """Its parts may have numbers of their own."""
    parts = {"gpu": {"base": "m4-max-128gb", "memory": "16 GB"}, "storage": "apple-m5-max"}
    resolved = load_experiment({"model": "gpt-oss-20b", "hardware": parts}).experiment
    other = load_experiment(resolved, ["hardware.storage=nvme-pcie4"]).experiment
    machine, before = (load_hardware(one.hardware) for one in (other, resolved))
    assert machine.memory_bytes == before.memory_bytes == 16 * 10**9
    assert machine.host.storage != before.host.storage
