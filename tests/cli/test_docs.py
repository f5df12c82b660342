"""Every command and every example of the documentation does what it says."""

import re
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest

from moesim.cli.main import main
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.schema.json_schema import json_schema
from moesim.memory.misses import registry as misses
from moesim.metrics.misses import SKIPPED_KEYS, form_keys
from moesim.results import TABLES, read_result
from moesim.sweep.executor import in_this_process
from moesim.trace import read_trace, write_trace
from moesim.trace.slicing import parse_slice, slice_trace

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
TOKENS = 8
LONG = ("moesim reproduce", "moesim evidence")
"""Minutes of work, which `make verify` compares with its page."""
SHORTER = {"moesim advise": "--requests 1"}
"""What a desk adds to commands that else play as much as a minute allows."""


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    lines = [line for block in blocks(page, "console") for line in block.splitlines()]
    shown = [line.removeprefix("$ ") for line in lines if line.startswith("$ moesim")]
    return [line for line in shown if not line.startswith(LONG)]


def with_blocks(find) -> list[Any]:
    return [pytest.param(page, id=page.name) for page in PAGES if find(page)]


@pytest.fixture(scope="session")
def short_trace(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped trace, cut to the first tokens of each request: the commands stay as written."""
    path = tmp_path_factory.mktemp("trace") / "quickstart.parquet"
    trace = read_trace(ROOT / "traces" / "quickstart.parquet")
    write_trace(slice_trace(trace, parse_slice(":", ""), TOKENS, parse_slice(":", "")), path)
    return path


@pytest.fixture(scope="session")
def experiments(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the shipped ones: three hundred files, once."""
    return Path(
        shutil.copytree(ROOT / "experiments", tmp_path_factory.mktemp("of") / "experiments")
    )


@pytest.fixture
def folder(tmp_path: Path, monkeypatch, short_trace, experiments) -> Path:
    """A working directory with the files that the pages name; sweeps stay in this process."""
    monkeypatch.setattr("moesim.sweep.run._executor", lambda jobs, folder: in_this_process)
    (tmp_path / "experiments").symlink_to(experiments)
    (tmp_path / "traces").mkdir()
    shutil.copy(short_trace, tmp_path / "traces")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def does(command, capsys, *more):
    """A ``command`` ends well, and shows something."""
    code = main([*shlex.split(command, comments=True)[1:], *more])
    shown = capsys.readouterr()
    assert code == 0, f"{command}\n{shown.err}"
    assert shown.out, command


def shorter(command):
    """What makes it so, where it can be."""
    return next((more for start, more in SHORTER.items() if command.startswith(start)), "").split()


@pytest.mark.parametrize("page", with_blocks(commands))
def test_commands(page, folder, capsys):
    for command in commands(page):
        does(command, capsys, *shorter(command))


@pytest.mark.long
@pytest.mark.parametrize("page", with_blocks(commands))
def test_commands_that_a_desk_shortens(page, folder, capsys):
    for command in filter(shorter, commands(page)):
        does(command, capsys)


@pytest.mark.parametrize("page", with_blocks(lambda page: blocks(page, "python")))
def test_python(page, folder):
    for block in blocks(page, "python"):
        exec(compile(block, page.name, "exec"), {"__name__": "documentation"})


@pytest.mark.parametrize("page", with_blocks(lambda page: blocks(page, "yaml")))
def test_experiments(page, folder):
    for block in blocks(page, "yaml"):
        path = folder / "example.yaml"
        path.write_text(block)
        assert load_experiment(path).points


def test_every_number_of_a_result_is_explained(folder):
    main(["run", "experiments/quickstart.yaml", "--out", "one"])
    summary = read_result("one").summary
    page = (ROOT / "docs" / "results.md").read_text()
    names = {*summary, *summary["time_share"], *summary["memory_bytes"]}
    names |= {column for table in TABLES.values() for column in table}
    assert {name for name in names if f"`{name}`" not in page} == set()


def test_what_a_run_that_skips_says_is_explained():
    page = (ROOT / "docs" / "results.md").read_text()
    keys = (*SKIPPED_KEYS, *form_keys(misses.get("skip").forms))
    assert {key for key in keys if f"`{key}`" not in page} == set()


def test_every_key_of_an_experiment_is_explained():
    page = (ROOT / "docs" / "experiments.md").read_text()
    properties = json_schema()["properties"]
    assert {key for key in properties if f"`{key}" not in page} == set()


def test_the_index_leads_to_every_page():
    index = (ROOT / "docs" / "index.md").read_text()
    pages = [page.name for page in PAGES if page.parent.name == "docs" and page.stem != "index"]
    assert [page for page in pages if f"]({page})" not in index] == []


def test_the_first_screen_names_the_demo():
    first = (ROOT / "README.md").read_text().splitlines()[:20]
    assert any("make demo" in line for line in first)
    assert any("make test" in line for line in first)
