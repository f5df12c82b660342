"""Memory that is measured becomes a host of a machine."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from moesim.calibrate.memory import measure
from moesim.calibrate.memory.measure import Reads, measured
from moesim.calibrate.memory.part import System, host_of, vectors_of
from moesim.cli.app import app
from moesim.cli.main import load_commands
from moesim.config.amounts.sizes import GIB, MIB
from moesim.config.errors import InputError
from moesim.hardware import load_hardware
from moesim.hardware.operations.kernels.cpu_expert import host_notes, share_is_measured

READS = [Reads(1, 17.4e9), Reads(2, 30e9), Reads(4, 26.4e9)]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two cores and 64 MiB."""
    monkeypatch.setattr(measure, "LEAST_BYTES", MIB)
    monkeypatch.setattr(measure, "memory_bytes", lambda: 64 * MIB)
    monkeypatch.setattr(measure, "physical_cores", lambda: 2)


def test_what_was_read_is_what_the_host_has(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(host_of("mine", READS, System(64 * GIB, 2, 4, "avx2"), "a CPU, today"))
    machine = load_hardware(f"{{gpu: rtx-3090, host: {file}}}")
    host = machine.host
    assert host.expert_peak * host.expert_share.value == 15e9, "half of the best, on two nodes"
    assert host.thread_bytes_per_second == 15e9, "no more than the memory of a node gives"
    assert (host.memory.value, host.cores.value) == (64 * GIB, 4)
    assert host.vectors is not None
    assert host.vectors.value == "avx2"
    assert share_is_measured(machine)
    assert host_notes(machine, "small-moe", 4) == []


def test_the_widest_instructions_are_those_of_the_flags(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for flags, found in (("avx avx2", "avx2"), ("avx2 avx512f avx512_vnni", "avx512"), ("", None)):
        file.write_text(f"flags : sse {flags}\n")
        assert vectors_of(file) == found
    assert vectors_of(tmp_path / "none") is None


@pytest.mark.usefixtures("small")
def test_this_machine_is_measured_and_taken(tmp_path: Path) -> None:
    load_commands()
    file = tmp_path / "mine.yaml"
    said = CliRunner().invoke(app, ["calibrate", "memory", "-o", str(file), "--seconds", "0.1"])
    assert said.exit_code == 0, said.output
    assert said.output.count("GB/s") == 2
    host = load_hardware(f"{{gpu: rtx-3090, host: {file}}}").host
    assert 0.1e9 < host.thread_bytes_per_second <= host.expert_peak


def test_every_number_of_threads_is_a_power_of_two_or_all_cores(
    small: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measure, "physical_cores", lambda: 12)
    assert [one.threads for one in measured(0.01)] == [1, 2, 4, 8, 12]


def test_all_bytes_are_read() -> None:
    words = np.arange(1000)
    assert sum(measure._sum(part) for part in np.array_split(words, 3)) == 499_500


def test_too_little_memory_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "memory_bytes", lambda: GIB // 2)
    with pytest.raises(InputError, match=r"has 0.5 GiB of memory; 256 MiB are read"):
        list(measured(1))
