"""``python -m verification [NAME ...]``: run the checks; exit code 1 if one fails."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from verification.check import CHECKS, RESULTS, load, run


def main(arguments: Sequence[str]) -> int:
    """Run the checks whose names contain one of ``arguments``, or all."""
    parser = argparse.ArgumentParser(prog="python -m verification", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help="a check, or a part of its name")
    parser.add_argument("--list", action="store_true", help="name the checks and their tolerances")
    options = parser.parse_args(arguments)
    load()
    chosen = [
        one
        for name, one in sorted(CHECKS.items())
        if not options.names or any(part in name for part in options.names)
    ]
    if options.list:
        for one in chosen:
            print(f"{one.name}: {one.law} (at most {one.tolerance:g} {one.unit}: {one.why})")
        return 0
    if not chosen:
        print(f"no check is named like {options.names}; --list names them", file=sys.stderr)
        return 2
    failed = [one.name for one in chosen if not run(one)]
    print(f"\n{len(chosen) - len(failed)} passed, {len(failed)} failed; plots in {RESULTS}")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
