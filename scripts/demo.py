"""``make demo``: the quickstart's sweep, its figures, and what to type next."""

from __future__ import annotations

import sys
from pathlib import Path

from moesim.cli.main import main

EXPERIMENT = "experiments/quickstart.yaml"

NEXT = """
The question was: gpt-oss-20b decodes on an 8 GB card. How many experts should stay on the GPU, and
does the eviction policy matter? {folder}/figures holds the answer as pictures, each with its table.

Next:
  source .venv/bin/activate
  moesim run experiments/quickstart.yaml --set 'experts.capacity=12 slots/layer' --out results/one
  moesim timeline results/one -o timeline.json     (opens in Perfetto)
  moesim fit experiments/quickstart.yaml           (the most that fits on the card)
  moesim list policies                             (what else can be asked)
Or change a line of experiments/quickstart.yaml and sweep again. More questions: experiments/*.yaml
"""


def demo(folder: Path, jobs: int) -> int:
    """Sweep (or go on with) the quickstart in ``folder`` and draw its figures."""
    code = main(["sweep", EXPERIMENT, "--out", str(folder), "-j", str(jobs)])
    code = code or main(["plot", str(folder)])
    if not code:
        print(NEXT.format(folder=folder))
    return code


if __name__ == "__main__":
    sys.exit(demo(Path(sys.argv[1]), int(sys.argv[2])))
