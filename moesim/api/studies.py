"""Answers that take several runs, each with a folder of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from moesim.api.given import folder_for, resolved_of
from moesim.config.arguments import check_choice, check_list, check_out, check_whole
from moesim.config.errors import InputError, Problem, writing

if TYPE_CHECKING:
    import pandas as pd

    from moesim.experiment.loading.resolve import Source
    from moesim.sweep.advise import Advice
    from moesim.sweep.advise.advice import Fit
    from moesim.sweep.advise.question import Asked, Question
    from moesim.sweep.probes import Found
    from moesim.sweep.run import Progress
    from moesim.sweep.sensitivity import Sensitivity


def advise(
    experiment: Source | Question | Asked,
    *,
    out: Path | str | None = None,
    capacity: str = "auto",
    requests: int | None = None,
    jobs: int | None = 1,
    overwrite: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
    fit: Callable[[Fit], None] | None = None,
) -> Advice:
    """Compare what can be done about the experts of ``experiment`` that do not fit, what upgrades
    would bring, and how far the best may move; ``overrides`` as ``--set`` takes them.

    ``experiment``: one, or a question (``moesim.Question("qwen3-30b-a3b@q4_k_m", gpu="rtx-5070")``)
    from which one is made. ``out``: the folder [results/NAME-advice], new or one to go on in, of
    the runs, ``advice.json``, a figure and ``experiment.yaml``, which has the best choice;
    ``overwrite``: begin anew in it, and keep what it held in ``.before`` until the advice stands;
    ``capacity``: the most room for experts, as in ``4 GiB``; ``requests``: how many of the trace
    are replayed [about a minute's]; ``jobs``: runs at the same time (None: one, or one a core where
    that is faster; any but 1 needs ``if __name__ == "__main__":`` in a script); ``progress``,
    called with (finished, total), is told how far it is, ``fit`` what fits, before any run.
    ``best``, ``scored`` and ``gains`` have the runs, ``to_dict()`` plain data with units in the
    keys. Raises an InputError for a bad experiment or capacity, other files, and no choice to run.

    >>> moesim.advise("experiments/quickstart.yaml", requests=2).best.throughput
    """
    from moesim.config.files.inputs import paths_of
    from moesim.experiment.loading.inputs import inputs_of
    from moesim.experiment.schema.origins import placed
    from moesim.results.files import check_new_folder
    from moesim.results.overwrite import BEFORE, SWEEPS, check_no_input
    from moesim.sweep.advise import advise as advised
    from moesim.sweep.advise import begin_anew
    from moesim.sweep.advise.question import asked
    from moesim.sweep.runs import Runs

    check_whole("--jobs", 1 if jobs is None else jobs)
    if requests is not None:
        check_whole("--requests", requests)
    _check_capacity(capacity)
    about = asked(experiment, overrides)
    resolved = about.resolved
    folder = about.folder(out)
    if overwrite:
        check_no_input(folder, [resolved.file, *paths_of(inputs_of([resolved.experiment]))])
        begin_anew(folder)
    elif not any((folder / name).is_dir() for name in (BEFORE, *SWEEPS)):
        check_new_folder(folder)
    with placed(resolved.origins, resolved.file):
        advice = advised(
            resolved.experiment,
            Runs(folder, jobs, progress),
            most=capacity,
            requests=requests,
            fit=fit,
            of=about.asks,
        )
    return _written_advice(advice, about)


def sensitivity(
    experiment: Source,
    *,
    by: str = "25 %",
    out: Path | str | None = None,
    jobs: int | None = 1,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Sensitivity:
    """How far each input moves the speed of ``experiment`` (with ``overrides``, as ``--set`` takes
    them): numbers of the machine, the software and the workload ``by`` so much larger and smaller,
    and what nobody measured at the ends of its range.

    ``out``: the folder of the runs [results/NAME-sensitivity], new or one to go on in; ``jobs``:
    runs at the same time, as for ``advise``; ``progress`` is called with (finished, total).
    ``inputs`` has first what moves it most, ``measure_first`` is the first of those that are
    guesses. Raises an InputError for a bad experiment or share, and where the experiment does not
    run.

    >>> moesim.sensitivity("experiments/quickstart.yaml").inputs[0].title
    """
    from moesim.config.amounts.dimensions import PERCENT
    from moesim.config.amounts.quantity import QuantityError
    from moesim.experiment.schema.origins import placed
    from moesim.report.sweep.sensitivity import write_sensitivity
    from moesim.results.files import check_new_folder
    from moesim.sweep.runs import Runs
    from moesim.sweep.sensitivity import AS_IS
    from moesim.sweep.sensitivity import sensitivity as sensitivity_of

    check_whole("--jobs", 1 if jobs is None else jobs)
    try:
        share = float(PERCENT.parse(by))
    except QuantityError as error:
        raise InputError([Problem("--by", "", str(error))]) from None
    if not 0 < share <= 1:
        raise InputError([Problem("--by", "", f"'{by}' is not above 0 % and at most 100 %")])
    resolved = resolved_of(experiment, overrides)
    folder = folder_for(out, f"{resolved.experiment.name}-sensitivity")
    if not (folder / AS_IS).is_dir():
        check_new_folder(folder)
    with placed(resolved.origins, resolved.file):
        found = sensitivity_of(resolved.experiment, Runs(folder, jobs, progress), 1 + share)
    write_sensitivity(found, resolved.experiment)
    return found


def search(
    experiment: Source,
    vary: str,
    limits: Sequence[str],
    *,
    out: Path | str | None = None,
    overrides: Sequence[str] = (),
    told: Callable[[Found], None] | None = None,
) -> tuple[Found, Path]:
    """The largest value of the number at the path ``vary`` under which ``experiment`` (with
    ``overrides``, as ``--set`` takes them) keeps its ``limits``, as in ``p99_ttft_ms<=500``; the
    least, of what is no load (``serving.replicas``) and of which more helps.

    Returns what was found (``best``, ``first_broken``, all ``probes``) and the folder ``out``
    [results/NAME-search] with ``points.csv``, which is written after every run, and a picture;
    ``told`` is given what is known then. Raises an InputError for a bad experiment, path or limit.

    >>> rate = "workload.arrivals.request_rate"
    >>> moesim.search("serving.yaml", rate, ["p99_ttft_ms<=500"])[0].best
    """
    from moesim.experiment.schema.origins import placed
    from moesim.report.sweep.search import check_folder, write_search, write_table
    from moesim.sweep.limit import Limit
    from moesim.sweep.search import search as search_of
    from moesim.sweep.search import value_at

    check_list("--sla", limits)
    parsed = Limit.parse_all(limits)
    resolved = resolved_of(experiment, overrides)
    folder = folder_for(out, f"{resolved.experiment.name}-search")
    check_folder(folder)

    def keep(found: Found) -> None:
        write_table(found, folder)
        if told is not None:
            told(found)

    with placed(resolved.origins, resolved.file):
        written = value_at(resolved.written, vary)
        found = search_of(resolved.experiment, vary, parsed, keep, written=written)
    write_search(found, folder, resolved.experiment)
    return found, folder


def evidence(
    out: Path | str,
    *,
    pack: Path | str | None = None,
    runs: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[Path]]:
    """Predict every run (or those named in ``runs``) of the folder ``pack``, or of the shipped one
    of that name [``published``], and write table, figures and page into the folder ``out``. With
    ``pack="all"`` every shipped pack goes to a folder of its name there, and the table has a row a
    pack: its runs, their median error and 90th percentile, how many lie in their ranges, how many
    pairs of one engine are in the measured order, and which have no prediction, and why; ``runs``
    then leave out packs that have none.

    Returns the table, a row a run (measured, predicted, low and high tokens/s, the error of the
    time a token in percent, what the time rests on, what was assumed), and the files; ``progress``
    is called with (finished, total). Raises an
    InputError for a pack that cannot be read, and for runs that it does not have.

    >>> moesim.evidence("results/evidence")[0]["error_percent"].abs().median()
    """
    from moesim.calibrate.published.pack import ALL, pack_folder, read_pack
    from moesim.calibrate.published.predict import blind
    from moesim.experiment.running.cache import cache_folder
    from moesim.report.judged.evidence import write_evidence

    check_out(out, optional=False)
    if str(pack) == ALL and not Path(ALL).exists():
        return _evidence_of_all(Path(out), runs, progress)
    folder = pack_folder(pack or "published")
    every = {one.run: one for one in read_pack(folder)}
    if not every:
        what = "has no run; 'moesim evidence add FILE --measured SPEED --pack DIR' puts one in"
        raise InputError([Problem(str(folder), "", what)])
    with writing(Path(out) / "evidence.csv"):  # before it takes minutes
        pass
    for name in runs or ():
        check_choice("--run", name, tuple(every))
    cache = cache_folder(None) or cache_folder(str(Path(out) / "runs"))
    chosen = [every[name] for name in dict.fromkeys(runs or every)]
    table = blind(chosen, ranges=True, progress=progress, cache=cache)
    return table, write_evidence(table, Path(out))


def _evidence_of_all(
    out: Path, runs: Sequence[str] | None, progress: Progress | None
) -> tuple[pd.DataFrame, list[Path]]:
    """Every shipped pack, and the evidence that is no run; or only the ``runs`` that are named."""
    import pandas as pd

    from moesim.calibrate.published.others import closed_loop, kernels, study
    from moesim.calibrate.published.overview import others, overview
    from moesim.calibrate.published.pack import pack_folder, read_pack, shipped_packs
    from moesim.report.judged.evidence_overview import write_overview

    packs = {name: [one.run for one in read_pack(pack_folder(name))] for name in shipped_packs()}
    for run in runs or ():
        check_choice("--run", run, tuple({one for of in packs.values() for one in of}))
    chosen = {name: [run for run in of if not runs or run in runs] for name, of in packs.items()}
    tables, written, done = dict[str, pd.DataFrame](), list[Path](), 0
    number = sum(len(of) for of in chosen.values())

    def told(finished: int, total: int) -> None:  # noqa: ARG001 (of one pack alone)
        if progress:
            progress(done + finished, number)

    for name, of in chosen.items():
        if of:
            tables[name], paths = evidence(out / name, pack=name, runs=of, progress=told)
            written, done = written + paths, done + len(of)
    if runs:
        table = overview(tables)
        return table, [*written, *write_overview(table, out)]
    table = pd.concat([overview(tables), others()], ignore_index=True)
    beside = {"kernels.csv": kernels(), "study.csv": study(), "closed_loop.csv": closed_loop()}
    return table, [*written, *write_overview(table, out, beside)]


def _check_capacity(capacity: str) -> None:
    from moesim.config.amounts.capacity import parse_capacity
    from moesim.config.amounts.quantity import QuantityError

    try:
        parse_capacity(capacity)
    except QuantityError as error:
        raise InputError([Problem("--capacity", "", str(error))]) from None


def _written_advice(advice: Advice, about: Asked) -> Advice:
    """``advice`` in its folder, with its figure and, where a question was asked, the experiment."""
    from dataclasses import replace

    from moesim.config.files.files import write_whole
    from moesim.report.advice.answer import comments, fit_line, told
    from moesim.report.advice.figure import draw
    from moesim.report.advice.tables import sentences, trust
    from moesim.results.files import write_json
    from moesim.results.overwrite import drop_before

    if about.made is not None:
        path = advice.folder / "experiment.yaml"
        advice = replace(advice, assumed=about.made.assumed, file=path)
        write_whole(path, about.text(advice.again, comments(advice)))
        lines = [fit_line(advice.fit), *told(advice)]
    else:
        lines = list(sentences(advice))
    content = advice.to_dict() | {"told": lines, "trust": list(trust(advice))}
    write_json(advice.folder / "advice.json", content)
    draw(content, advice.folder / "advice.png")
    drop_before(advice.folder)
    return advice
