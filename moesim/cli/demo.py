"""``moesim demo``: the quickstart's sweep, its figures, its page, and what to type next."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from moesim.cli.app import AsJson, RunsAtOnce, app, examples, print_json, show_page

EXPERIMENT = "experiments/quickstart.yaml"
QUICK = ("workload.requests=1", "sweep.experts.policy.kind=[lru, min]")
NEXT = """
The question was: gpt-oss-20b decodes on an 8 GB card. How many experts should stay on the GPU, and
does the eviction policy matter? {folder}/report.html has the answer and opens in any browser;
{folder}/figures has it as pictures, each with its table.

Next:
  moesim run {file} --set 'experts.capacity=12 slots/layer' --out results/one
  moesim timeline results/one -o timeline.json     (opens in Perfetto)
  moesim fit {file}           (the most that fits on the card)
  moesim init                                      (an experiment of your own)
  moesim list policies                             (what else can be asked)
More questions: moesim --help, and the documentation's index
"""


@app.command(epilog=examples("moesim demo", "moesim demo --quick --out results/first"))
def demo(
    *,
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="DIR", help="A new folder, or one to go on in.")
    ] = Path("results/demo"),
    jobs: RunsAtOnce = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="One request and two policies, for a first look.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Sweep expert caches of gpt-oss-20b on an 8 GB card: table, figures and a page, in a minute or
    two. It needs nothing but what moesim ships.
    """
    from moesim.api import plot
    from moesim.cli.progress import progress_bar
    from moesim.cli.so_far import SoFar
    from moesim.cli.sweep import show
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.sweep.swept import sweep as sweep_points

    resolved = load_experiment(EXPERIMENT, QUICK if quick else ())
    so_far = SoFar(out)
    with progress_bar() as told:
        found = sweep_points(
            resolved, out, jobs=jobs, progress=lambda done, of: told(done, of, so_far(done, of))
        )
    if not as_json:
        show(found, allow_drops=False)
    files = plot(found)
    show_page(out, report=True, stderr=as_json)
    if as_json:
        print_json({"folder": str(out), "figures": [str(one) for one in files]})
        return
    typer.echo(NEXT.format(folder=out, file=EXPERIMENT))
