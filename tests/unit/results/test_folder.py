from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import yaml

from moesim.config.errors import InputError
from moesim.results import read_result, write_result
from moesim.results.folder import read_experiment, read_table
from tests.unit.results import factory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_result(factory.result(with_spans=True), tmp_path / "run")


def test_a_result_comes_back_as_it_was(folder: Path) -> None:
    written, read = factory.result(with_spans=True), read_result(folder)
    assert read.summary == written.summary
    assert read.experiment == written.experiment
    for name in ("steps", "layers", "requests", "memory", "spans"):
        pd.testing.assert_frame_equal(getattr(read, name), getattr(written, name))


def test_an_out_of_memory_result_comes_back_without_steps(tmp_path: Path) -> None:
    read = read_result(write_result(factory.result("out_of_memory"), tmp_path / "run"))
    assert read.status == "out_of_memory"
    assert read.summary["output_throughput"] is None
    assert len(read.steps) == 0
    assert not (tmp_path / "run" / "spans.parquet").exists()


def test_nan_and_numpy_scalars_become_json(tmp_path: Path) -> None:
    table = factory.steps()
    folder = write_result(
        factory.result(mean_tpot_ms=float("nan"), hits=table["hits"].sum()), tmp_path / "run"
    )
    read = json.loads((folder / "summary.json").read_text())
    assert read["mean_tpot_ms"] is None
    assert read["hits"] == 10


def test_out_takes_an_empty_folder_and_no_other(tmp_path: Path) -> None:
    write_result(factory.result(), tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(InputError, match="name a new or an empty folder"):
        write_result(factory.result(name="other"), tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_failed_write_leaves_nothing(tmp_path: Path) -> None:
    broken = factory.result(hits={1, 2})
    with pytest.raises(TypeError):
        write_result(broken, tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-40])


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[60] ^= 0xFF
    path.write_bytes(content)


DAMAGE: dict[str, Callable[[Path], object]] = {
    "no summary": lambda run: (run / "summary.json").unlink(),
    "half a summary": lambda run: cut(run / "summary.json"),
    "a summary without status": lambda run: (run / "summary.json").write_text("{}"),
    "a list as summary": lambda run: (run / "summary.json").write_text("[]"),
    "no provenance": lambda run: (run / "provenance.json").unlink(),
    "a later format": lambda run: (run / "provenance.json").write_text('{"format": 99}'),
    "no steps": lambda run: (run / "steps.parquet").unlink(),
    "half the steps": lambda run: cut(run / "steps.parquet"),
    "altered steps": lambda run: flip(run / "steps.parquet"),
    "other columns": lambda run: (run / "steps.parquet").write_bytes(
        (run / "memory.parquet").read_bytes()
    ),
    "half the spans": lambda run: cut(run / "spans.parquet"),
    "no experiment": lambda run: (run / "experiment.yaml").unlink(),
    "a broken experiment": lambda run: (run / "experiment.yaml").write_text("a: [1"),
    "an empty experiment": lambda run: (run / "experiment.yaml").write_text(""),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_folder_is_one_clear_error(folder: Path, damage: str) -> None:
    DAMAGE[damage](folder)
    with pytest.raises(InputError) as error:
        read_result(folder)
    assert len(error.value.problems) == 1
    assert str(folder) in str(error.value)
    assert "\n" not in str(error.value)


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        read_result(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("provenance.json", "tables", [1]),
        ("provenance.json", "inputs.trace", {"path": 1, "sha256": "x"}),
        ("summary.json", "intervals", [1]),
        ("summary.json", "status", "done"),
        ("summary.json", "hits", "many"),
        ("summary.json", "time_share.idle", "x"),
        ("summary.json", "price_error", 0.1),
        ("experiment.yaml", "figures", "all"),
    ],
)
def test_another_kind_of_value_is_said_with_its_key(
    folder: Path, name: str, key: str, value: object
) -> None:
    """JSON is YAML, too."""
    content = yaml.safe_load((folder / name).read_text())
    first, _, second = key.partition(".")
    content[first] = {**content.get(first, {}), second: value} if second else value
    (folder / name).write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"^{folder / name}: {key}"):
        read_result(folder)


def test_an_advice_says_how_its_best_becomes_a_result(tmp_path: Path) -> None:
    """Two of them are what one would compare before buying a machine."""
    (tmp_path / "advice.json").write_text("{}")
    with pytest.raises(InputError, match=r"advice; what 'moesim advise' prints behind 'again:'"):
        read_result(tmp_path)
    (tmp_path / "experiment.yaml").write_text("")
    with pytest.raises(InputError, match=r"is the folder of an advice; 'moesim run .*experiment"):
        read_result(tmp_path)


@pytest.mark.parametrize("name", ["provenance.json", "summary.json", "experiment.yaml"])
def test_a_nested_file_is_one_line(folder: Path, name: str) -> None:
    (folder / name).write_text('{"a": ' + "[" * 100_000)
    with pytest.raises(InputError, match="nested too deeply"):
        read_result(folder)


@pytest.mark.parametrize("text", ["a: &a [*a]\n", "a: &a [x]\nb: [*a, *a]\n"])
def test_an_experiment_that_grows_is_refused(folder: Path, text: str) -> None:
    (folder / "experiment.yaml").write_text(text)
    with pytest.raises(InputError, match=r"experiment\.yaml:1:4: the anchor '&a' is not read"):
        read_result(folder)


@pytest.mark.parametrize("name", ["provenance.json", "experiment.yaml", "steps.parquet"])
def test_a_pipe_in_a_folder_does_not_hang(folder: Path, name: str) -> None:
    (folder / name).unlink()
    os.mkfifo(folder / name)
    with pytest.raises(InputError, match=r"is a pipe|is missing"):
        read_result(folder)


@pytest.mark.parametrize("name", ["1e9", "no", "1_000", "2020-01-01", "0x10", "~", "a: b", "é"])
def test_a_text_that_looks_like_a_number_comes_back_as_text(tmp_path: Path, name: str) -> None:
    experiment = {"name": name, name: [1.5e-05, 1e20, None, True, 7]}
    made = replace(factory.result(), experiment=experiment)
    assert read_experiment(write_result(made, tmp_path / "run")) == experiment


def test_a_table_of_texts_is_no_table_of_numbers(tmp_path: Path) -> None:
    table = factory.steps().assign(hits="many")
    folder = write_result(replace(factory.result(), steps=table), tmp_path / "run")
    with pytest.raises(InputError, match=r"the column 'hits' of steps\.parquet holds no numbers"):
        read_result(folder)


def test_flipped_bytes_never_read_as_other_numbers(folder: Path) -> None:
    path = folder / "steps.parquet"
    whole = path.read_bytes()
    for position in range(0, len(whole), 997):
        content = bytearray(whole)
        content[position] ^= 0x10
        path.write_bytes(content)
        with pytest.raises(InputError, match="not as it was written"):
            read_result(folder)


def test_what_is_no_parquet_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "points.parquet").write_text("n,status\n1,ok\n")
    with pytest.raises(InputError, match=r"points.parquet cannot be read \("):
        read_table(tmp_path / "points.parquet")


def test_a_folder_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    """``new/../there`` exists only once ``new`` does."""
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "kept").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_result(factory.result(), tmp_path / "new" / ".." / "there")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["kept"]
