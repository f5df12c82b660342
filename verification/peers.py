"""Other simulators, each under an interpreter of its own that the environment names."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterable
from pathlib import Path
from typing import Any


def interpreter_of(peer: str, variable: str) -> Path | None:
    """The one with ``peer``, which ``variable`` names; None, and a line, where there is none."""
    if (given := os.environ.get(variable)) and Path(given).is_file():
        return Path(given)
    print(f"no {peer} here: nothing is put beside it ({variable}=PYTHON)")
    return None


def told_by(
    peer: str, python: Path, script: str, asked: Iterable[dict[str, Any]]
) -> list[dict[str, Any]]:
    """What ``script`` says under ``python`` of each that is ``asked``: a line of JSON each, in and
    out.
    """
    lines = "".join(f"{json.dumps(one)}\n" for one in asked)
    done = subprocess.run(  # noqa: S603 (the interpreter that the user names)
        [str(python), script], input=lines, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{peer}: {done.stderr.strip()[-2000:]}")
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
