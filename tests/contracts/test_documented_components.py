"""Each example of docs/adding.md is a file as the project would take it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

from moesim.memory.policy import CachePolicy
from moesim.testing.audit import Setting
from moesim.testing.cache_policies import keeps_the_rules

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "adding.md").read_text()
EXAMPLES = re.findall(r"^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
FOLDERS = dict(re.findall(r"^\| .*? \| `(moesim/.*?)` \| `(\w+)` \|", PAGE, re.MULTILINE))


def file_of(example: str) -> str:
    """Where the page says that it belongs: the folder of its base class, its kind as the name."""
    (kind,) = re.findall(r'kind: Literal\["(\w+)"\]', example)
    (base,) = re.findall(r"^class \w+\((\w+)\)", example, re.MULTILINE)
    (folder,) = (folder for folder, name in FOLDERS.items() if name == base)
    return f"{folder}/{kind}.py"


def test_each_folder_of_the_page_is_there() -> None:
    assert len(FOLDERS) == PAGE.count("| `moesim/")
    assert all((ROOT / folder).is_dir() for folder in FOLDERS)


@pytest.mark.parametrize("example", EXAMPLES, ids=map(file_of, EXAMPLES))
def test_an_example_passes_the_linter_and_the_formatter(example: str) -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for command in ("check", "format --check"):
        words = [ruff, *command.split(), "--no-cache", "--stdin-filename", file_of(example), "-"]
        done = subprocess.run(
            words, input=example, text=True, capture_output=True, cwd=ROOT, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr


POLICIES = [one for one in EXAMPLES if "(CachePolicy)" in one]


def test_the_examples_have_the_types_of_the_package(tmp_path: Path) -> None:
    """As the project's own files: mypy --strict, with nothing ignored."""
    for example in EXAMPLES:
        (tmp_path / Path(file_of(example)).name).write_text(example, encoding="utf-8")
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    words = [Path(sys.executable).with_name("mypy"), "--strict", "--follow-imports=silent", "."]
    words += ["--config-file", "pyproject.toml", "--cache-dir", ROOT / ".mypy_cache"]
    paths = {"MYPYPATH": str(ROOT)}
    done = subprocess.run(
        words, text=True, capture_output=True, cwd=tmp_path, check=False, env=paths
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("example", POLICIES, ids=map(file_of, POLICIES))
def test_an_example_of_a_policy_keeps_the_contract(
    example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / Path(file_of(example)).name
    path.write_text(example, encoding="utf-8")
    spec = spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = module_from_spec(spec)
    monkeypatch.setitem(sys.modules, path.stem, module)  # where its types are looked up
    spec.loader.exec_module(module)
    (policy,) = (
        one
        for one in vars(module).values()
        if isinstance(one, type) and issubclass(one, CachePolicy) and one is not CachePolicy
    )
    steps = [[0, 1], [1, 2], [1, 3], [0, 1], [1, 4], [2, 3], [0, 1], [4, 5], [1, 2], [0, 5]]
    for slots in (1, 2, 3, 4):
        keeps_the_rules(policy(), steps, Setting(experts=6, slots=slots))
