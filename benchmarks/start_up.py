"""Seconds from the shell to the end of `import moesim` and `moesim --help`; medians of eleven.

python benchmarks/start_up.py
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

COMMANDS = {
    "python -c pass": "pass",
    "import moesim": "import moesim",
    "moesim --help": "from moesim.cli.main import main; main(['--help'])",
}


def seconds(code: str) -> float:
    """One run of ``code`` in a new interpreter."""
    begun = perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    return perf_counter() - begun


def main() -> None:
    """Interleave the commands, so that a noisy moment hits all of them."""
    taken = [{name: seconds(code) for name, code in COMMANDS.items()} for _ in range(11)]
    for name in COMMANDS:
        print(f"{name:16} {median(turn[name] for turn in taken):.3f} s")


if __name__ == "__main__":
    main()
