"""Only what moesim wrote, and nothing else, is ever replaced."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import moesim
from moesim.config.errors import InputError
from moesim.results import read_result, write_result
from moesim.results.overwrite import BEFORE, MOVING, check_replaceable, drop_before, set_aside
from tests.unit.results import factory


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_result(factory.result(with_spans=True), tmp_path / "run")


def test_a_result_is_replaced(folder: Path) -> None:
    (folder / "figures").mkdir()
    (folder / "figures" / "time_breakdown.png").touch()
    write_result(factory.result(hits=7), folder, overwrite=True)
    assert read_result(folder).summary["hits"] == 7
    assert not (folder / "figures").exists()
    assert not (folder / "spans.parquet").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["run"]


def test_a_folder_that_holds_what_is_read_stays(tmp_path: Path) -> None:
    folder = tmp_path / "one"
    source = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet",
              "experts": {"capacity": "6 slots/layer"}, "workload": {"requests": 1}}  # fmt: skip
    moesim.run(source, out=folder)
    before = {path: path.read_bytes() for path in folder.iterdir()}
    axes = ["sweep={seed: [1, 2]}"]
    for again in (
        lambda: moesim.run(folder / "experiment.yaml", out=folder, overwrite=True),
        lambda: moesim.sweep(folder / "experiment.yaml", folder, overrides=axes, overwrite=True),
    ):
        with pytest.raises(InputError, match=r"holds '.*experiment\.yaml', which is read"):
            again()
    assert {path: path.read_bytes() for path in folder.iterdir()} == before
    moesim.run(source, out=folder, overwrite=True)


def touch(name: str) -> Callable[[Path], None]:
    def made(folder: Path) -> None:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).touch()

    return made


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (touch("notes.txt"), "notes.txt"),
        (touch("my_trace.parquet"), "my_trace.parquet"),
        (touch("figures/talk.pptx"), "figures/talk.pptx"),
        (touch("other/summary.json"), "other/summary.json"),
        (lambda f: (f / "figures").symlink_to(f.parent), "figures"),
        (lambda f: (f / "provenance.json").unlink(), "no result of moesim"),
    ],
)
def test_what_moesim_did_not_write_stays(
    folder: Path, change: Callable[[Path], None], told: str
) -> None:
    change(folder)
    before = sorted(folder.rglob("*"))
    with pytest.raises(InputError, match="--overwrite leaves it") as error:
        write_result(factory.result(), folder, overwrite=True)
    assert told in str(error.value)
    assert sorted(folder.rglob("*")) == before


def test_files_links_and_homes_are_no_results(tmp_path: Path, folder: Path) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(folder)
    for name in ("file", "link", ""):
        with pytest.raises(InputError, match="--overwrite leaves it"):
            check_replaceable(tmp_path / name)


def test_a_new_or_an_empty_folder_is_fine(tmp_path: Path) -> None:
    check_replaceable(tmp_path / "new")
    check_replaceable(tmp_path)
    set_aside(tmp_path)
    assert not list(tmp_path.iterdir())


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_what_is_set_aside_stays_until_it_is_dropped(folder: Path) -> None:
    (folder / ".lock").touch()
    inside = [name for name in files_in(folder) if name != ".lock"]
    set_aside(folder)
    assert (files_in(folder), files_in(folder / BEFORE)) == ([BEFORE, ".lock"], inside)
    (folder / "sweep.json").touch()
    set_aside(folder)  # what was begun since is not complete
    assert (files_in(folder), files_in(folder / BEFORE)) == ([BEFORE, ".lock"], inside)
    check_replaceable(folder)
    drop_before(folder)
    assert files_in(folder) == [".lock"]


def test_a_move_that_was_killed_goes_on(folder: Path) -> None:
    inside = files_in(folder)
    (folder / MOVING).mkdir()
    (folder / "provenance.json").rename(folder / MOVING / "provenance.json")
    check_replaceable(folder)
    set_aside(folder)
    assert (files_in(folder), files_in(folder / BEFORE)) == ([BEFORE], inside)


def test_a_run_replaces_no_study(tmp_path: Path) -> None:
    """'moesim run' and 'moesim sweep' of one file have one default folder."""
    folder = tmp_path / "both"
    source = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet",
              "experts": {"capacity": "6 slots/layer"}, "workload": {"requests": 1},
              "sweep": {"seed": [1, 2]}}  # fmt: skip
    moesim.sweep(source, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*.p*")}
    with pytest.raises(InputError, match="a study of several runs, which one run would replace"):
        moesim.run(source, out=folder, overwrite=True)
    with pytest.raises(InputError, match="which one run would replace"):
        write_result(factory.result(), folder, overwrite=True)
    assert {path: path.read_bytes() for path in folder.rglob("*.p*")} == before
