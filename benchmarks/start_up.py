"""Seconds from the shell to the end of `import moesim` and `moesim --help`; medians of eleven.

python benchmarks/start_up.py
"""

from __future__ import annotations

import subprocess
import sys
from statistics import median
from time import perf_counter

COMMANDS = {
    "python -c pass": ("pass", ""),
    "import moesim": ("import moesim; print(dir(moesim))", "'sweep'"),
    "moesim --help": ("from moesim.cli.main import main; main(['--help'])", "calibrate"),
}
"""What is run, and what must be in what it prints."""


def seconds(code: str, printed: str) -> float:
    """One run of ``code`` in a new interpreter; an AssertionError where it does not print that."""
    begun = perf_counter()
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    spent = perf_counter() - begun
    if printed not in done.stdout:
        raise AssertionError(done.stdout)
    return spent


def main() -> None:
    """Interleave the commands, so that a noisy moment hits all of them."""
    taken = [{name: seconds(*one) for name, one in COMMANDS.items()} for _ in range(11)]
    for name in COMMANDS:
        print(f"{name:16} {median(turn[name] for turn in taken):.3f} s")


if __name__ == "__main__":
    main()
