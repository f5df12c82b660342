"""Set up, check and test the project, and install its wheel, under every Python that it is for.

``make check-versions`` runs this. The versions are those of the classifiers in ``pyproject.toml``;
each has an environment of its own, from the lock files. Every interpreter that is missing is named
before anything starts.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CLASSIFIER = re.compile(r"Programming Language :: Python :: (3\.\d+)")
ENVIRONMENTS = ".versions"
TESTS = ("tests/unit", "tests/contracts")
"""What is fast and differs with versions; ``make test`` has the rest."""


def versions() -> list[str]:
    """The versions that ``pyproject.toml`` names, as ``3.11``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    found = map(CLASSIFIER.fullmatch, project["classifiers"])
    return [match[1] for match in found if match]


def interpreter(version: str) -> str | None:
    """A program that is Python ``version``, or None: from the path, pyenv or uv."""
    return next((path for path in _candidates(version) if _is(path, version)), None)


def _candidates(version: str) -> Iterator[str]:
    if found := shutil.which(f"python{version}"):
        yield found
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    yield from map(str, sorted(pyenv.glob(f"versions/{version}.*/bin/python{version}")))
    if uv := shutil.which("uv"):
        words = [uv, "python", "find", "--no-python-downloads", version]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        yield from done.stdout.split()


def _is(path: str, version: str) -> bool:
    """Whether ``path`` runs and is ``version``: what pyenv puts on the path may be neither."""
    words = [path, "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.stdout.strip() == version


def check(version: str, python: str) -> bool:
    """Whether checks, tests and the package in an environment of its own pass."""
    folder = f"{ENVIRONMENTS}/{version}"
    pytest = [f"{folder}/bin/pytest", "-q", "-n", "auto", "--benchmark-disable", *TESTS]
    package = [f"{folder}/bin/python", "scripts/check_package.py", "--empty"]
    for words in (["make", "check", f"PYTHON={python}", f"VENV={folder}"], pytest, package):
        print(f"== Python {version}: {' '.join(words)}", flush=True)
        if subprocess.run(words, cwd=ROOT, check=False).returncode:
            return False
    return True


def main() -> int:
    """Print what fails; 1 if anything does, or an interpreter is missing."""
    found = {version: interpreter(version) for version in versions()}
    missing = [version for version, python in found.items() if python is None]
    if missing:
        names = ", ".join(f"Python {version}" for version in missing)
        print(f"{names}: not found on the path, in pyenv or by uv; install it, and try again")
        return 1
    failed = [version for version, python in found.items() if python and not check(version, python)]
    print("; ".join(f"Python {v}: {'failed' if v in failed else 'passed'}" for v in found))
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
