"""``moesim advise``: how a model runs on a machine; load, compute or read in place; what to buy."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from moesim.cli.app import (
    Overrides,
    Overwrite,
    RunsAtOnce,
    app,
    examples,
    fail,
    show_page,
    terminal,
)
from moesim.cli.progress import INTERRUPTED, progress_bar
from moesim.cli.so_far import goes_on

if TYPE_CHECKING:
    from moesim.sweep.advise import Advice
    from moesim.sweep.advise.advice import Fit
    from moesim.sweep.advise.question import Question

EXPERIMENTS = (".yaml", ".yml")


@app.command(
    epilog=examples(
        "moesim advise qwen3-30b-a3b@q4_k_m --gpu rtx-5070 --host ddr5-5600-2ch-64gb --context 16k",
        "moesim advise experiments/quickstart.yaml --set software=llama.cpp --requests 4 -j 2",
    )
)
def advise(
    about: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|FILE",
            help="A model (a card, NAME@FORMAT, a repository, a GGUF file, a config.json), or an "
            "experiment's YAML file.",
        ),
    ],
    *,
    gpu: Annotated[str | None, typer.Option(metavar="NAME", help="With a MODEL: the GPU.")] = None,
    host: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With a MODEL: the host [an assumed one, told]."),
    ] = None,
    link: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With a MODEL: the link [the widest of the GPU]."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="With a MODEL: the drive that experts are read from which memory does not hold "
            "[none].",
        ),
    ] = None,
    hardware: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With a MODEL: a whole machine, in place of --gpu."),
    ] = None,
    gpus: Annotated[
        int | None, typer.Option(min=1, metavar="N", help="With a MODEL: how many GPUs [1].")
    ] = None,
    context: Annotated[
        str | None,
        typer.Option(
            metavar="TOKENS",
            help="With a MODEL: tokens in every request's cache, as in 16k [the trace's].",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="With a MODEL: requests at the same time [1]."),
    ] = None,
    software: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="With a MODEL: the software [llama.cpp or vllm, told]."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            "-o",
            metavar="DIR",
            help="A new folder, or one to go on in [results/NAME-advice].",
        ),
    ] = None,
    capacity: Annotated[
        str,
        typer.Option(metavar="ROOM", help="The most room for experts, as in '4 GiB'."),
    ] = "auto",
    requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            metavar="N",
            help="Replay the first N requests [the file's, else about a minute].",
        ),
    ] = None,
    jobs: RunsAtOnce = None,
    overwrite: Overwrite = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    report: Annotated[
        bool, typer.Option(help="Write the advice as one page, too: DIR/report.html.")
    ] = True,
    overrides: Overrides = None,
) -> None:
    """What a model does on a machine, or an experiment's: does it fit, how fast is it, where should
    experts be that do not fit, what limits the best, and which upgrade would help most?

    The file's own choices of capacity, policy, miss and kernels are not read, nor is its sweep.
    """
    from moesim.api import advise as advised
    from moesim.sweep.advise.question import asked

    machine = {"gpu": gpu, "host": host, "link": link, "hardware": hardware, "gpus": gpus}
    given = {**machine, "storage": storage, "context": context, "batch": batch}
    given["software"] = software
    question = _question(about, {key: value for key, value in given.items() if value is not None})
    wanted = asked(question or about, overrides or ())
    folder = wanted.folder(out)
    try:
        with progress_bar("runs") as progress:
            advice = advised(
                wanted,
                out=folder,
                capacity=capacity,
                requests=requests,
                jobs=jobs,
                overwrite=overwrite,
                progress=progress,
                fit=None if question is None else _say_to(as_json=as_json),
            )
    except KeyboardInterrupt:
        fail(f"stopped; the finished runs stay in {folder}{goes_on(folder)}", INTERRUPTED)
    if as_json:
        show_page(advice.folder, report=report, stderr=True)
        typer.echo((advice.folder / "advice.json").read_text(encoding="utf-8"), nl=False)
        return
    if question is not None:
        _print_answer(advice, report=report)
        return
    _print(advice, report=report)
    again = [f"{path}={value}" for path, value in advice.again.items()]
    options = " ".join(f"--set '{text}'" for text in (*(overrides or ()), *again))
    typer.echo(f"again:  moesim run {about} {options}")


def _question(about: str, given: dict[str, Any]) -> Question | None:
    """The question of a model; None of an experiment's file, with which options of a model do not
    go.
    """
    from moesim.config.errors import InputError, Problem
    from moesim.config.tokens import tokens_of

    if Path(about).suffix.lower() in EXPERIMENTS:
        if given:
            what = f"goes with a MODEL; '{about}' is an experiment, in which --set changes a value"
            raise InputError([Problem(f"--{option}", "", what) for option in given])
        return None
    from moesim.sweep.advise.question import Question

    if "context" in given:
        given["context"] = tokens_of(given["context"], "--context")
    return Question(about, **given)


def _say_to(*, as_json: bool) -> Any:
    """What prints whether it fits as soon as that is known, where JSON is asked for on stderr."""

    def say(fit: Fit) -> None:
        from rich.text import Text

        from moesim.report.advice.answer import fit_line

        terminal(stderr=as_json).print(Text(fit_line(fit)))

    return say


def _print_answer(advice: Advice, *, report: bool) -> None:
    from moesim.report.advice.answer import answered, command_lines

    console = terminal()
    for part in answered(advice):
        console.print(part)
    typer.echo(f"figure: {advice.folder / 'advice.png'}")
    show_page(advice.folder, report=report)
    for line in command_lines(advice):
        typer.echo(line)
    if advice.best.summary.get("host_hit_ratio") is not None:
        typer.echo(f"memory: moesim host-curve {advice.file}")
    typer.echo(f"again:  moesim run {advice.file}")


def _print(advice: Advice, *, report: bool) -> None:
    from moesim.report.advice.tables import rendered
    from moesim.results.overwrite import SWEEPS

    console = terminal()
    for part in rendered(advice):
        console.print(part)
    folder = advice.folder
    runs = ", ".join(str(folder / name) for name in SWEEPS if (folder / name).is_dir())
    typer.echo(f"figure: {folder / 'advice.png'}\nruns:   {runs}")
    show_page(folder, report=report)
