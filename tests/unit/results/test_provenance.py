from __future__ import annotations

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.config.files.inputs import Inputs, file_of
from moesim.results import provenance, rebuild, write_result
from moesim.results.rebuild import whole_path
from tests.unit.results import factory

ROOT = Path(__file__).parents[3]


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


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("qwen3-30b-a3b@q4_k_m", "cards/qwen3-30b-a3b.json"),
        ("qwen3.5-35b-a3b@q4_k_m", "cards/qwen3.5-35b-a3b.json"),
        ("stand-in:gpt-oss-20b", "traces/quickstart.parquet"),
        ("rtx-5070", "priors/gpu.yaml"),
        ("{gpu: mine.yaml, link: pcie4-x16}", "priors/gpu.yaml"),
    ],
)
def test_what_is_no_path_keeps_its_name(name: str, file: str) -> None:
    assert whole_path(name, Path("/shipped") / file) is None


@pytest.mark.parametrize(
    ("name", "whole"),
    [
        ("mine/config.json", "/there/mine/config.json"),
        ("mine", "/there/mine/config.json"),
        ("mine@q4_k_m", "/there/mine/config.json@q4_k_m"),
        ("mine/config.json@fp8,kv_cache=fp8", "/there/mine/config.json@fp8,kv_cache=fp8"),
    ],
)
def test_a_path_is_whole_and_keeps_its_format(name: str, whole: str) -> None:
    assert whole_path(name, Path("/there/mine/config.json")) == whole


def test_a_run_by_names_alone_is_repeated(tmp_path: Path) -> None:
    """A model in a format, a GPU alone and a stand-in: none is the file that it is read from."""
    named = {"model": "gpt-oss-20b@mxfp4_moe", "hardware": "rtx-5070"}
    asked = {**named, "trace": "stand-in:gpt-oss-20b", "workload": {"requests": 1}}
    first = moesim.run(asked, out=tmp_path / "run")
    assert moesim.run(rebuild(tmp_path / "run")).steps.equals(first.steps)


def test_a_changed_trace_is_named(run: Path) -> None:
    (run.parent / "trace.parquet").write_bytes(b"other routing")
    with pytest.raises(InputError, match="trace: has changed since the run"):
        rebuild(run)


def test_a_lost_trace_is_named(run: Path) -> None:
    (run.parent / "trace.parquet").unlink()
    with pytest.raises(InputError, match="is gone"):
        rebuild(run)


def test_the_experiment_of_a_result_finds_what_its_run_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """'It runs again as it is' held only from the folder of the first file."""
    first, elsewhere = tmp_path / "first", tmp_path / "elsewhere"
    (first / "deep").mkdir(parents=True)
    elsewhere.mkdir()
    shutil.copyfile(ROOT / "traces" / "quickstart.parquet", first / "deep" / "own.parquet")
    (first / "run.yaml").write_text(
        "{model: gpt-oss-20b, hardware: h100-sxm, trace: deep/own.parquet, workload: {requests: 1}}"
    )
    monkeypatch.chdir(elsewhere)
    made = moesim.run(first / "run.yaml", out=tmp_path / "out")
    assert (tmp_path / "out" / "experiment.yaml").read_text().count("trace: deep/own.parquet") == 1
    again = moesim.run(tmp_path / "out" / "experiment.yaml", out=tmp_path / "again")
    assert again.summary["duration_ms"] == made.summary["duration_ms"]
    (tmp_path / "out" / "provenance.json").write_text("{")
    with pytest.raises(InputError, match=r"there is no file 'deep/own\.parquet'"):
        moesim.run(tmp_path / "out" / "experiment.yaml", out=tmp_path / "third")
