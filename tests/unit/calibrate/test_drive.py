"""A drive that is measured becomes a part of a machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from moesim.calibrate.drive import measure
from moesim.calibrate.drive.measure import Rate, measured, read_ahead_of
from moesim.calibrate.drive.part import Drive
from moesim.cli.app import app
from moesim.cli.main import load_commands
from moesim.config.amounts.sizes import KIB, MIB
from moesim.config.errors import InputError
from moesim.hardware import CostModel, load_hardware
from moesim.model import load_model

BANDWIDTH, LATENCY_NS, IN_FLIGHT = 7e9, 100_000.0, 8


def of_a_drive(path: str, size: int, depth: int) -> Rate:
    """As the model of a read has it."""
    alone = LATENCY_NS + size / BANDWIDTH * 1e9
    each = max(size / BANDWIDTH * 1e9, alone / min(depth, IN_FLIGHT))
    return Rate(path, size, depth, 1000, round(1000 * each), alone)


def test_what_was_put_in_comes_out() -> None:
    rates = [
        of_a_drive("direct", size, depth) for size in (4 * KIB, 8 * MIB) for depth in (1, 4, 32)
    ]
    faults = Rate("mmap", MIB, 1, 100, round(100 * MIB / 0.23), MIB / 0.23)
    found = Drive.of([*rates, faults])
    assert (found.path, found.in_flight) == ("direct", IN_FLIGHT)
    assert found.bandwidth == pytest.approx(BANDWIDTH, rel=1e-3)
    assert found.latency_ns == pytest.approx(LATENCY_NS, rel=1e-3)
    assert found.mapped_bandwidth == pytest.approx(0.23e9, rel=1e-3)
    assert "read_ahead: not known" in found.text("mine", 10**12, "a file")


def test_what_is_read_around_faults_counts_as_moved() -> None:
    """A fault of 1 MiB that brings two windows of 512 KiB more moves twice as much; a small one is
    not asked.
    """
    direct = of_a_drive("direct", 8 * MIB, 1)
    faults = [
        Rate("mmap", size, 1, 100, round(100 * size / rate), size / rate)
        for size, rate in ((4 * KIB, 0.1), (MIB, 0.23))
    ]
    found = Drive.of([direct, *faults], 512 * KIB)
    assert found.mapped_bandwidth == pytest.approx(0.46e9, rel=1e-3)
    assert "read_ahead: {value: 512 KiB, source: system}" in found.text("mine", 10**12, "a file")
    assert Drive.of([direct, *faults], 32 * MIB).mapped_bandwidth == found.bandwidth


def test_the_read_ahead_is_that_of_the_drive_of_a_partition(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drive = tmp_path / "vda"
    partition = drive / "vda1"
    partition.mkdir(parents=True)
    monkeypatch.setattr(measure, "_device", lambda file: partition)
    assert read_ahead_of(tmp_path) is None
    (drive / "queue").mkdir()
    (drive / measure.QUEUE).write_text("256\n")
    assert read_ahead_of(tmp_path) == 256 * KIB
    (drive / measure.QUEUE).write_text("0\n")
    assert read_ahead_of(tmp_path) is None


def test_a_small_file_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its part is taken by a machine, and prices reads."""
    monkeypatch.setattr(measure, "SIZES", (4 * KIB, MIB))
    monkeypatch.setattr(measure, "DEPTHS", (1, 2))
    file, part = tmp_path / "model.bin", tmp_path / "mine.yaml"
    file.write_bytes(bytes(measure.LEAST_BYTES))
    load_commands()
    words = ["calibrate", "drive", str(file), "-o", str(part), "--seconds", "0.1"]
    said = CliRunner().invoke(app, words)
    assert said.exit_code == 0, said.output
    assert "GB/s" in said.output
    machine = load_hardware(f"{{base: rtx-4060-8gb, storage: {part}}}")
    costs = CostModel(machine, load_model("gpt-oss-20b"))
    assert int(costs.price("storage_read", 13_000_000)) > int(costs.price("storage_read", 4096))


def test_much_read_ahead_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(measure, "SIZES", (MIB,))
    monkeypatch.setattr(measure, "DEPTHS", (1,))
    file = tmp_path / "model.bin"
    file.write_bytes(bytes(measure.LEAST_BYTES))
    load_commands()
    for around, told in ((8 * MIB, True), (128 * KIB, False)):
        monkeypatch.setattr(measure, "read_ahead_of", lambda _, around=around: around)
        out = str(tmp_path / f"{around}.yaml")
        words = ["calibrate", "drive", str(file), "-o", out, "--seconds", "0.1"]
        said = CliRunner().invoke(app, words)
        assert ("page faults read 8 MiB around each matrix" in said.output) is told
        drive = load_hardware(f"{{base: rtx-4060-8gb, storage: {out}}}").host.storage
        assert drive is not None
        assert drive.read_ahead is not None
        assert drive.read_ahead.value == around


def test_what_cannot_be_measured_is_said(tmp_path: Path) -> None:
    small = tmp_path / "small"
    small.write_bytes(bytes(1000))
    with pytest.raises(InputError, match="has 1000 bytes; name one of 64 MiB or more"):
        list(measured(small, 1))
    with pytest.raises(InputError, match="cannot be read: No such file"):
        list(measured(tmp_path / "none", 1))
    with pytest.raises(InputError, match="is a folder; name a large file on the drive"):
        list(measured(tmp_path, 1))
