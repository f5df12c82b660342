"""Each example of docs/adding.md is a file as the project would take it."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

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
