from __future__ import annotations

import hashlib
from dataclasses import replace
from pathlib import Path

import pytest

from moesim.config.errors import InputError
from moesim.config.inputs import Inputs, file_of
from moesim.results import provenance, rebuild, write_result
from tests.unit.results import factory


def inputs(trace: Path) -> Inputs:
    return {("trace", "t"): (file_of(trace),)}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    trace = tmp_path / "trace.parquet"
    trace.write_bytes(b"routing")
    made = replace(factory.result(), provenance=provenance(inputs(trace), seed=7))
    return write_result(made, tmp_path / "run")


def test_it_records_digests_seed_versions_and_command(tmp_path: Path) -> None:
    (tmp_path / "t").write_bytes(b"routing")
    made = provenance(inputs(tmp_path / "t"), seed=7, command="moesim run a.yaml")
    assert made["inputs"]["trace"]["sha256"] == hashlib.sha256(b"routing").hexdigest()
    assert made["seed"] == 7
    assert made["command"] == "moesim run a.yaml"
    assert made["packages"]["numpy"].split(".")[0].isdigit()


def test_a_run_is_rebuilt_from_its_folder(run: Path) -> None:
    expected = {**factory.result().configuration, "trace": str(run.parent / "trace.parquet")}
    assert rebuild(run) == expected


def test_a_changed_trace_is_named(run: Path) -> None:
    (run.parent / "trace.parquet").write_bytes(b"other routing")
    with pytest.raises(InputError, match="trace: has changed since the run"):
        rebuild(run)


def test_a_lost_trace_is_named(run: Path) -> None:
    (run.parent / "trace.parquet").unlink()
    with pytest.raises(InputError, match="is gone"):
        rebuild(run)
