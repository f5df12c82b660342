"""Advice where memory does not hold the model: what is told, and what comes from a drive."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.experiment.loading.resolve import load_experiment
from moesim.report.advice.answer import command_lines, place_of
from moesim.report.advice.tables import sentences
from moesim.sweep.advise.advice import Advice
from moesim.sweep.advise.question import Question
from moesim.sweep.advise.room import room_of, too_small, with_drive

pytestmark = pytest.mark.usefixtures("unrendered")

SETS = ["hardware.gpu.memory=520 MiB", "hardware.gpu.context_reserve=500 MiB"]
"""20 MiB, in which small-moe's 27.0 MB do not fit."""


def test_what_is_too_large_is_told_what_else_there_is() -> None:
    one = load_experiment({"model": "gpt-oss-20b", "hardware": "rtx-4060-8gb"}).experiment
    (problem,) = too_small(one, "auto", "the host needs 117.1 GB").problems
    assert "fewer bits a weight, a shorter context" in problem.what
    assert "or name a drive that experts are read from" in problem.what
    assert problem.what.endswith("with a MODEL --storage nvme-pcie4 ('moesim list storage')")


SMALL_HOST = "hardware.host={base: ddr5-6000-2ch-64gb, memory: 3 MiB}"
"""Experts of three layers of small-moe have 9.4 MB."""


def from_drive(out: Path, **options: Any) -> Advice:
    question = Question("small-moe", gpu="rtx-3090", context=256, storage="nvme-pcie4", **options)
    return moesim.advise(question, requests=1, overrides=[*SETS, SMALL_HOST], out=out)


def test_experts_that_the_host_has_no_room_for_come_from_its_drive(here: Path) -> None:
    """The best is what llama.cpp does, and repeats as it is written."""
    without = Question("small-moe", gpu="rtx-3090", context=256)
    with pytest.raises(InputError, match="name a drive that experts are read from"):
        moesim.advise(without, overrides=[*SETS, SMALL_HOST])
    advice = from_drive(here / "out", software="llama.cpp")
    told = " ".join(sentences(advice))
    assert advice.best.choice.miss in ("on_cpu", "on_host")
    assert advice.best.summary["storage_path"] == "mmap"
    assert "come from the drive, by page faults, at a rate that was seen on another" in told
    own = advice.best.throughput or 0.0
    slow, fast = (one.throughput or 0.0 for one in advice.varied if one.of == "drive")
    assert slow < own
    assert fast == pytest.approx(own, rel=0.01)  # 44 % of the drive's reads are its own
    assert "if page faults reach 2 to 44 % of the drive's reads, as on two other machines" in told
    best = [one for one in advice.gains if one.scored.choice == advice.best.choice]
    by_key = {one.upgrade.key: one.ratio or 0.0 for one in best}
    assert by_key["twice_host_memory"] >= 1
    assert by_key["twice_drive"] > 1
    assert by_key["no_software"] >= 1
    assert advice.file is not None
    again = moesim.run(advice.file)
    assert again.summary["output_throughput"] == advice.best.throughput
    assert again.summary["bytes_storage"] > 0


def test_a_near_memory_device_has_all_experts_beside_a_drive(here: Path) -> None:
    """The room that advice writes for experts above a drive is refused with such a device."""
    near = "experts.miss={kind: cpu, computed_by: near_memory}"
    machine = "hardware={gpu: rtx-3090, near_memory: monde, storage: nvme-pcie4}"
    asked = ["model=olmoe-1b-7b", machine, near]
    found = load_experiment({"model": "small-moe", "hardware": "rtx-3090"}, asked).experiment
    assert with_drive(found).experts.host.capacity.kind == "all"
    above = load_experiment(found, ["experts.miss=load"]).experiment
    assert with_drive(above).experts.host.capacity.kind == "auto"


def test_experts_in_several_formats_are_no_choice(here: Path) -> None:
    formats = "experts.variants={high: {capacity: 70 %}, low: {format: int4, capacity: 30 %}}"
    asked = ["experts.capacity=4 slots/layer", formats]
    found = load_experiment({"model": "small-moe", "hardware": "rtx-3090"}, asked).experiment
    with pytest.raises(InputError, match="in one format; leave variants and choose out"):
        moesim.advise(found, out=here / "out")


def test_an_engine_that_reads_no_drive_is_told_so(here: Path) -> None:
    advice = from_drive(here / "out", software="ktransformers")
    assert "ktransformers itself reads no experts from a drive" in " ".join(sentences(advice))
    assert not any(line.startswith("engine: llama") for line in command_lines(advice))
    assert "kt-kernel holds all experts" in " ".join(command_lines(advice))


def test_one_memory_reads_its_drive_as_llama_cpp_does(here: Path) -> None:
    small = ["hardware.gpu.memory=2 GiB", "hardware.gpu.context_reserve=2038 MiB"]
    question = Question("small-moe", gpu="m4-max-128gb", context=256, software="llama.cpp")
    with pytest.raises(InputError, match="name a drive that experts are read from"):
        moesim.advise(question, overrides=small, out=here / "none")
    question = replace(question, storage="apple-m5-max")
    advice = moesim.advise(question, requests=1, overrides=small, out=here / "out")
    assert [one.choice.words for one in advice.scored] == ["load with lru"]
    assert advice.best.summary["bytes_storage"] > 0
    assert advice.room.drive > 0
    assert "in the one memory" in place_of(advice.best, advice.fit)
    assert any(line.startswith("engine: llama-server") for line in command_lines(advice))


@pytest.mark.parametrize(
    ("model", "software", "mix"),
    [
        ("qwen3-30b-a3b", "llama.cpp", "q8_0"),
        ("qwen3-next-80b-a3b@q4_k_m", "llama.cpp", "iq3_xxs"),
        ("gpt-oss-120b", "llama.cpp", None),  # whose files have its experts as they are
        ("qwen3-30b-a3b", "vllm", None),
    ],
)
def test_what_is_too_large_is_told_the_mix_that_fits(
    model: str, software: str, mix: str | None
) -> None:
    said: dict[str, Any] = {"model": model, "software": software}
    said["hardware"] = {"gpu": "rtx-4060-8gb", "host": "ddr4-3200-2ch-32gb"}
    with pytest.raises(InputError) as raised:
        room_of(load_experiment(said).experiment, "auto")
    (problem,) = raised.value.problems
    name = model.partition("@")[0]
    found = re.search(rf"fewer bits a weight \({name}@(\w+), ", problem.what)
    assert (found and found[1]) == mix
    if mix:
        assert room_of(load_experiment(said | {"model": f"{name}@{mix}"}).experiment, "auto").on_cpu
