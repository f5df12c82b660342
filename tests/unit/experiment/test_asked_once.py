"""What one command asks for is looked at once, and the points of a sweep only by a sweep."""

from __future__ import annotations

import importlib
import shutil
from collections import Counter
from functools import partial
from pathlib import Path

import pytest

import moesim
from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.config.files.paths import shipped_folder

COUNTED = (
    ("moesim.experiment.loading.resolve", "compose_file"),
    ("moesim.experiment.loading.resolve", "assess"),
    ("moesim.experiment.loading.points", "assess"),
    ("moesim.model", "load_model"),
    ("moesim.hardware", "load_hardware"),
    ("moesim.hardware", "load_software"),
    ("moesim.trace", "read_trace"),
)
ONCE = {
    f"{module}.{name}": 1
    for module, name in COUNTED
    if module != "moesim.experiment.loading.points"
}
POINTS = "moesim.experiment.loading.points.assess"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    counts: Counter[str] = Counter()
    for home, name in COUNTED:
        module = importlib.import_module(home)
        counting = partial(_counted, counts, f"{home}.{name}", getattr(module, name))
        monkeypatch.setattr(module, name, counting)
    return counts


def _counted(counts, key, call, *given, **options):
    counts[key] += 1
    return call(*given, **options)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An experiment with six points, in a folder of its own: no other test has read its trace."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(shipped_folder() / "traces/quickstart.parquet", "own.parquet")
    Path("own.yaml").write_text(
        "model: gpt-oss-20b\nhardware: rtx-4060-8gb\ntrace: own.parquet\nrecords: summary\n"
        "workload: {phase: decode, requests: 1}\nexperts: {capacity: 8 slots/layer}\n"
        "sweep: {seed: [0, 1], experts.capacity: [4 slots/layer, 8 slots/layer, 9 slots/layer]}\n"
    )
    return "own.yaml"


@pytest.mark.parametrize("more", [[], ["--set", "seed=3", "--engine", "replay"]])
def test_a_run_reads_everything_once_and_no_point(file, asked, more):
    assert main(["run", file, "--out", "out", *more]) == 0
    assert asked == ONCE


def test_the_same_run_in_python_reads_everything_once_and_no_point(file, asked):
    moesim.run(file, out="out")
    assert asked == ONCE


def test_a_check_looks_at_every_point_once(file, asked):
    assert main(["check", file]) == 0
    assert asked == ONCE | {POINTS: 6}


def test_a_sweep_looks_at_every_point_once(file, asked):
    assert main(["sweep", file, "--out", "out"]) == 0
    assert asked[POINTS] == 6
    assert asked["moesim.experiment.loading.resolve.assess"] == 1


def test_a_file_that_has_changed_is_read_again(file, asked):
    shutil.copy(shipped_folder() / "hardware_profiles/rtx-4060-8gb.yaml", "own_card.yaml")
    slow = moesim.run(file, overrides=["hardware=own_card.yaml"]).summary["duration_ms"]
    card = Path("own_card.yaml")
    card.write_text(card.read_text() + "\n")
    assert moesim.run(file, overrides=["hardware=own_card.yaml"]).summary["duration_ms"] == slow
    assert asked["moesim.hardware.load_hardware"] == 2


def test_what_is_loaded_already_runs_as_the_file_does(file):
    resolved = moesim.load_experiment(file)
    assert moesim.run(resolved).summary["misses"] == moesim.run(file).summary["misses"]


@pytest.mark.parametrize("use", [moesim.run, moesim.sweep])
def test_overrides_come_too_late_for_what_is_loaded(file, use):
    with pytest.raises(InputError, match="give them to load_experiment"):
        use(moesim.load_experiment(file), overrides=["seed=1"])
