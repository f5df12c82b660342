"""Write the reports of examples as pages, for the documentation's site: ``make docs`` runs this.

Each is what its command writes, without a change. ``all``: those that take minutes, too; without,
a page in their place says how to write them.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "reports.md"


class Example(NamedTuple):
    """A page: the ``command`` that writes it, and whether it takes minutes."""

    command: str
    slow: bool = False


EXAMPLES: Mapping[str, Example] = {
    "quickstart": Example("sweep experiments/quickstart.yaml --report"),
    "advice": Example("advise qwen3-30b-a3b@q4_k_m --gpu rtx-5070"),
    "layers-on-cpu": Example("sweep experiments/qwen3-on-a-desktop.yaml --report"),
    "ssd": Example("run experiments/ssd.yaml --report"),
    "serving": Example("sweep experiments/chunk_of_prompts.yaml --report"),
    "energy": Example("sweep experiments/energy.yaml --report"),
    "sensitivity": Example("sensitivity experiments/quickstart.yaml --report"),
    "chooser": Example("sweep experiments/chooser.yaml -j 2 --report", slow=True),
}


def write(name: str, out: Path) -> None:
    """Run the command of ``name`` and keep its page as ``out/NAME.html``."""
    with TemporaryDirectory() as folder:
        words = [*EXAMPLES[name].command.split(), "--out", f"{folder}/{name}"]
        done = subprocess.run(
            [sys.executable, "-m", "moesim", *words],
            cwd=ROOT, check=False, capture_output=True, text=True,
        )  # fmt: skip
        if done.returncode:
            raise SystemExit(f"moesim {' '.join(words)}: {done.stderr}")
        shutil.copy(Path(folder) / name / "report.html", out / f"{name}.html")


INSTEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{name} - moesim</title></head><body><main>
<h1>{name}</h1><p>This report takes minutes, and this site was built without it:
<code>make docs REPORTS=all</code> adds it, <code>moesim {command}</code> writes it alone.</p>
<p><a href="../reports.html">Live reports</a></p></main></body></html>
"""


def main(words: list[str]) -> int:
    """Write the pages into the folder that is named."""
    out, slow = Path(words[0]), "all" in words[1:]
    out.mkdir(parents=True, exist_ok=True)
    for name, example in EXAMPLES.items():
        if slow or not example.slow:
            write(name, out)
        else:
            page = INSTEAD.format(name=name, command=example.command)
            (out / f"{name}.html").write_text(page, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
