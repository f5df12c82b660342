"""Fail where an example of docs/adding.md does not have the types of the package.

Each is a file as the project would take it. ``make check`` runs this after mypy, with its cache.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "adding.md"


def examples() -> dict[str, str]:
    """The components of the page by their kinds."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    kinds = [re.search(r'^    kind(?:: [^=]+)? = "(\w+)"', text, re.MULTILINE) for text in blocks]
    return {kind[1]: text for kind, text in zip(kinds, blocks, strict=True) if kind}


def main() -> int:
    """What ``mypy --strict`` says of the examples, in a folder with the project's settings."""
    with TemporaryDirectory() as folder:
        for kind, text in examples().items():
            (Path(folder) / f"{kind}.py").write_text(text, encoding="utf-8")
        shutil.copy(ROOT / "pyproject.toml", folder)
        mypy: list[str | Path] = [
            Path(sys.executable).with_name("mypy"),
            "--cache-dir",
            ROOT / ".mypy_cache",
        ]
        words = [*mypy, "--strict", "--follow-imports=silent", "."]
        environment = os.environ | {"MYPYPATH": str(ROOT)}
        return subprocess.run(words, cwd=folder, check=False, env=environment).returncode


if __name__ == "__main__":
    sys.exit(main())
