"""What Python users call beside ``moesim.run`` and ``moesim.sweep``: the command line's words.

Each function does what the command of its name does, and returns what that prints. Everything is
imported where it is used.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from moesim.config.arguments import check_choice, check_list, check_whole
from moesim.config.errors import InputError, Problem, check_apart, located, writing
from moesim.config.warn import Warn, as_warning

if TYPE_CHECKING:
    import pandas as pd

    from moesim.experiment.engine_commands import EngineCommand, ReadCommand
    from moesim.experiment.loading.resolve import Resolved, Source
    from moesim.experiment.questions.place import Judgement
    from moesim.model import ModelSpec
    from moesim.report.plot import Kind
    from moesim.results import Result
    from moesim.sweep.advise import Advice
    from moesim.sweep.advise.advice import Fit
    from moesim.sweep.advise.question import Asked, Question
    from moesim.sweep.found import Sweep
    from moesim.sweep.run import Progress
    from moesim.sweep.search import Found
    from moesim.sweep.sensitivity import Sensitivity
    from moesim.trace import RoutingTrace
    from moesim.trace.lengths import Lengths
    from moesim.trace.synthesis import SyntheticTrace

POLICIES = ("lru", "lfu", "fifo", "lifo", "static", "min")


def compare(
    first: Path | str | Result | Sweep,
    second: Path | str | Result | Sweep,
    *,
    out: Path | str | None = None,
) -> dict[str, pd.DataFrame]:
    """What differs between two runs, or two sweeps: their folders, or what they returned.

    Tables by name. ``configuration``: ``key``, ``first``, ``second``. Of runs: ``results`` with
    ``ratio`` (second over first), ``time_share`` and ``price_share`` with ``points`` (percent of
    the time, second less first), ``time_per_token`` (ms by cause, with ``difference``), and
    ``differences`` with 95 % intervals, in percent. Of sweeps: ``points``, those with equal
    values on the axes that both have, and ``alone``, how many have no partner. ``out``: write
    them as one page, too (.html): what changed, and why. Raises an InputError where a folder is
    no result, or the two are not of one kind.

    >>> moesim.compare("results/lru", "results/lfu")["results"]
    """
    from moesim.report.compare import compare as compared

    tables = compared(first, second)
    if out is not None:
        from moesim.report.page import write_comparison

        write_comparison(first, second, tables, Path(out))
    return tables


def host_curve(
    experiment: Source, *, policy: Sequence[str] = ("lru", "min"), overrides: Sequence[str] = ()
) -> pd.DataFrame:
    """The hits of host memory of every size below the GPUs of ``experiment`` (with ``overrides``,
    as ``--set`` takes them), or of the one memory of CPU and GPU.

    Columns: ``policy``, ``experts``, ``bytes``, ``hit_ratio``, ``reads_per_token`` and
    ``read_ms_per_token``, which the drive takes at least. Raises an InputError for a bad experiment
    or policy.

    >>> moesim.host_curve("experiments/ssd.yaml").query("hit_ratio > 0.9").bytes.min()
    """
    from moesim.experiment.questions.host_curve import host_curve as curve_of
    from moesim.experiment.schema.origins import placed

    check_list("--policy", policy)
    resolved = _resolved(experiment, overrides)
    with placed(resolved.origins, resolved.file):
        return curve_of(resolved.experiment, policy)


def fit(
    experiment: Source,
    *,
    context: Sequence[int] | None = None,
    batch: Sequence[int] = (1, 4, 16),
    overrides: Sequence[str] = (),
) -> dict[str, Any]:
    """Whether ``experiment`` (with ``overrides``, as ``--set`` takes them) fits in the memory of
    its GPUs, and what would.

    Keys: ``fits``, and ``reason`` if not; ``peak_memory_bytes`` and ``limit_bytes`` of a GPU;
    ``largest_batch``, with every request as long as the run's longest (``longest_context_tokens``);
    ``largest_slots`` of ``local_experts`` a layer, and its ``capacity_bytes``; ``cpu_layers``: of
    how many of ``moe_layers`` the experts have to be on the CPU if all others are to be resident
    (None: that does not fit); all of it at the longest ``context`` where some are given. And
    ``memory_by_batch``
    and ``slots_by_context``, a row each for ``batch`` and ``context`` (None: 1024, 2048, ... to the
    model's longest, in tokens). Raises an InputError for a bad experiment, batch or context.

    >>> moesim.fit("experiments/quickstart.yaml")["largest_slots"]
    """
    from moesim.experiment.questions.fit import largest_fit
    from moesim.experiment.schema.origins import placed

    for option, values in (("--context", context or ()), ("--batch", batch)):
        check_list(option, values)
        for value in values:
            check_whole(option, value, least=0)  # how many there may be is the model's to say
    resolved = _resolved(experiment, overrides)
    with placed(resolved.origins, resolved.file):
        return largest_fit(resolved.experiment, context, batch)


def place(
    experiment: Source,
    *,
    out: Path | str | None = None,
    compare: bool = False,
    overrides: Sequence[str] = (),
) -> Judgement:
    """Plan which GPU holds which expert from the first part of the run of ``experiment``, and judge
    the plan on the rest; with ``compare`` every planner beside its own, with ``overrides`` as
    ``--set`` takes them.

    ``out``: write the first plan, as JSON with EPLB's maps; ``placement: {kind: plan, file: OUT}``
    runs it. Each of ``plans`` has ``numbers()``: loads as shares of the rows. Raises an InputError
    for a bad experiment, and for an ``out`` that is one of its inputs or cannot be written.

    >>> moesim.place("experiments/placement_on_8_gpus.yaml", compare=True).plans
    """
    from moesim.config.inputs import paths_of
    from moesim.experiment.loading.inputs import inputs_of
    from moesim.experiment.questions.place import judge_planners, write_plan
    from moesim.experiment.schema.origins import placed

    resolved = _resolved(experiment, overrides)
    read = resolved.experiment
    if out is not None:
        check_apart(Path(out), resolved.file, *paths_of(inputs_of([read])))
    with placed(resolved.origins, resolved.file):
        judgement = judge_planners(read, compare=compare)
    if out is not None:
        write_plan(read, judgement, Path(out))
    return judgement


def advise(
    experiment: Source | Question,
    *,
    out: Path | str | None = None,
    capacity: str = "auto",
    requests: int | None = None,
    jobs: int = 1,
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
    ``overwrite``: begin anew in it; ``capacity``: the most room for experts, as in ``4 GiB``;
    ``requests``: how many of the trace are replayed [about a minute's]; ``jobs``: runs at the same
    time; ``progress``, called with (finished, total), is told how far it is, ``fit`` what fits,
    before any run. ``best``, ``scored`` and ``gains`` have the runs, ``to_dict()`` plain data with
    units in the keys. Raises an InputError for a bad experiment or capacity, a folder with other
    files, and where no choice can run.

    >>> moesim.advise("experiments/quickstart.yaml", requests=2).best.throughput
    """
    from moesim.config.inputs import paths_of
    from moesim.experiment.loading.inputs import inputs_of
    from moesim.experiment.schema.origins import placed
    from moesim.results.files import check_new_folder
    from moesim.results.overwrite import check_no_input
    from moesim.sweep.advise import Runs, begin_anew
    from moesim.sweep.advise import advise as advised
    from moesim.sweep.advise.question import asked

    check_whole("--jobs", jobs)
    if requests is not None:
        check_whole("--requests", requests)
    _check_capacity(capacity)
    about = asked(experiment, overrides)
    resolved = about.resolved
    folder = Path(out) if out else Path("results") / f"{resolved.experiment.name}-advice"
    if overwrite:
        check_no_input(folder, [resolved.file, *paths_of(inputs_of([resolved.experiment]))])
        begin_anew(folder)
    elif not (folder / "choices").is_dir():
        check_new_folder(folder)
    with placed(resolved.origins, resolved.file):
        runs = Runs(folder, jobs, progress)
        advice = advised(
            resolved.experiment,
            runs,
            most=capacity,
            requests=requests,
            fit=fit,
            of=about.asks,
        )
    return _written_advice(advice, about)


def curve(
    trace: Path | str | RoutingTrace,
    *,
    policy: Sequence[str] = POLICIES,
    batch: int = 1,
    phase: Literal["decode", "prefill", "all", "encode"] = "decode",
    rule: Literal["step", "textbook"] = "step",
) -> pd.DataFrame:
    """The miss ratio of ``trace`` at every number of expert slots, by policy and MoE layer.

    Columns: ``policy``; ``layer`` (-1: all together); ``slots`` of a layer; ``activations``;
    ``misses``; ``miss_ratio``; ``method``. ``batch``: requests in a static batch; ``phase``: whose
    tokens run. ``rule``: ``step`` as in a run, where the experts of a step are not evicted before
    their activation; ``textbook``: every activation on its own. Raises an InputError for a trace
    that cannot be read and for an unknown policy.

    >>> moesim.curve("traces/quickstart.parquet", policy=["lru", "min"])
    """
    from moesim.experiment.questions.curves import Rule, miss_curves
    from moesim.trace import read_trace
    from moesim.workload.requests import PhaseChoice

    check_list("--policy", policy)
    check_whole("--batch", batch)
    check_choice("--phase", phase, get_args(PhaseChoice))
    check_choice("--rule", rule, get_args(Rule))
    if not isinstance(trace, str | Path):
        return miss_curves(trace, policy, batch_size=batch, phase=phase, rule=rule)
    with located(Path(trace)):
        read = read_trace(Path(trace))
        return miss_curves(read, policy, batch_size=batch, phase=phase, rule=rule)


def plot(
    folder: Path | str | Sweep,
    figures: Sequence[Kind] = (),
    *,
    out: Path | str | None = None,
    formats: Sequence[str] = ("png", "svg"),
    size: tuple[float, float] | str | None = None,
    allow_drops: bool = False,
    warn: Warn = as_warning,
) -> list[Path]:
    """Draw figures of the run, the sweep or the advice in ``folder``, each with its table (CSV)
    beside it; the files written.

    ``figures``: names (``moesim list figures``), or mappings with parameters as in an experiment
    (``{"kind": "metric_over_axis", "metric": "mean_tpot_ms", "over": "capacity"}``); without any
    those that the experiment names, else all that apply. ``out`` [``figures`` in the folder];
    ``formats``: of png, svg, pdf; ``size`` of the whole picture in inches, as ``(3.3, 2.5)``;
    ``allow_drops``: let points that drop or skip choices be the best. ``warn`` is told of each
    figure that does not apply. Raises an InputError for an unknown figure, and where none can be
    drawn.

    >>> moesim.plot("results/all", ["throughput_vs_capacity"], formats=["pdf"])
    """
    from moesim.report.plot import plot as draw
    from moesim.sweep.found import Sweep

    source = folder.folder if isinstance(folder, Sweep) else folder
    return draw(
        source, figures, out=out, formats=formats, size=size, allow_drops=allow_drops, warn=warn
    )


def write_report(folder: Path | str | Sweep, out: Path | str | None = None) -> Path:
    """Write the result in ``folder`` (of ``run``, ``sweep``, ``advise``, ``search``,
    ``sensitivity``, ``evidence`` or ``moesim reproduce``) as one page, an HTML file that asks for
    nothing from anywhere, to ``out`` [``report.html`` in the folder]; the file.

    Raises an InputError where the folder is none of these, ``out`` does not end in ``.html``, or
    cannot be written.

    >>> moesim.write_report("results/all")
    """
    from moesim.report.page import write_page
    from moesim.sweep.found import Sweep

    return write_page(folder.folder if isinstance(folder, Sweep) else folder, out)


def evidence(
    out: Path | str,
    *,
    pack: Path | str | None = None,
    runs: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> tuple[pd.DataFrame, list[Path]]:
    """Predict every run (or those named in ``runs``) of the folder ``pack``, or of the shipped one
    of that name [``published``], and write table, figures and page into the folder ``out``.

    Returns the table, a row a run (measured, predicted, low and high tokens/s, the error of the
    time a token in percent, what the time rests on, what was assumed), and the files; ``progress``
    is called with (finished, total). Raises an
    InputError for a pack that cannot be read, and for runs that it does not have.

    >>> moesim.evidence("results/evidence")[0]["error_percent"].abs().median()
    """
    from tempfile import TemporaryDirectory

    from moesim.calibrate.published.pack import pack_folder, read_pack
    from moesim.calibrate.published.predict import blind
    from moesim.report.evidence import write_evidence

    folder = pack_folder(pack or "published")
    every = {one.run: one for one in read_pack(folder)}
    if not every:
        what = "has no run; 'moesim evidence add FILE --measured SPEED --pack DIR' puts one in"
        raise InputError([Problem(str(folder), "", what)])
    with writing(Path(out) / "evidence.csv"):  # before it takes minutes
        pass
    for name in runs or ():
        check_choice("--run", name, tuple(every))
    with TemporaryDirectory() as profiles:
        table = blind([every[name] for name in runs or every], Path(profiles), progress)
    return table, write_evidence(table, Path(out))


def sensitivity(
    experiment: Source,
    *,
    by: str = "25 %",
    out: Path | str | None = None,
    jobs: int = 1,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Sensitivity:
    """How far each input moves the speed of ``experiment`` (with ``overrides``, as ``--set`` takes
    them): numbers of the machine, the software and the workload ``by`` so much larger and smaller,
    and what nobody measured at the ends of its range.

    ``out``: the folder of the runs [results/NAME-sensitivity], new or one to go on in; ``jobs``:
    runs at the same time; ``progress`` is called with (finished, total). ``inputs`` has first what
    moves it most, ``measure_first`` is the first of those that are guesses. Raises an InputError
    for a bad experiment or share, and where the experiment does not run.

    >>> moesim.sensitivity("experiments/quickstart.yaml").inputs[0].title
    """
    from moesim.config.dimensions import PERCENT
    from moesim.config.quantity import QuantityError
    from moesim.experiment.schema.origins import placed
    from moesim.report.sensitivity import write_sensitivity
    from moesim.results.files import check_new_folder
    from moesim.sweep.advise.run import Runs
    from moesim.sweep.sensitivity import sensitivity as sensitivity_of

    check_whole("--jobs", jobs)
    try:
        share = float(PERCENT.parse(by))
    except QuantityError as error:
        raise InputError([Problem("--by", "", str(error))]) from None
    if not 0 < share <= 1:
        raise InputError([Problem("--by", "", f"'{by}' is not above 0 % and at most 100 %")])
    resolved = _resolved(experiment, overrides)
    folder = Path(out) if out else Path("results") / f"{resolved.experiment.name}-sensitivity"
    if not (folder / "as_is").is_dir():
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
    ``overrides``, as ``--set`` takes them) keeps its ``limits``, as in ``p99_ttft_ms<=500``.

    Returns what was found (``best``, ``first_broken``, all ``probes``) and the folder ``out``
    [results/NAME-search] with ``points.csv``, which is written after every run, and a picture;
    ``told`` is given what is known then. Raises an InputError for a bad experiment, path or limit.

    >>> rate = "workload.arrivals.request_rate"
    >>> moesim.search("serving.yaml", rate, ["p99_ttft_ms<=500"])[0].best
    """
    from moesim.experiment.schema.origins import placed
    from moesim.report.search import check_folder, write_search, write_table
    from moesim.sweep.search import Limit
    from moesim.sweep.search import search as search_of

    check_list("--sla", limits)
    parsed = [Limit.parse(text) for text in limits]
    resolved = _resolved(experiment, overrides)
    folder = Path(out) if out else Path("results") / f"{resolved.experiment.name}-search"
    check_folder(folder)

    def keep(found: Found) -> None:
        write_table(found, folder)
        if told is not None:
            told(found)

    with placed(resolved.origins, resolved.file):
        found = search_of(resolved.experiment, vary, parsed, keep)
    write_search(found, folder, resolved.experiment)
    return found, folder


def import_trace(
    file: Path | str,
    *,
    out: Path | str | None = None,
    model: str | ModelSpec | None = None,
    importer: str | None = None,
    top_k: int | None = None,
    prompt_tokens: Lengths | None = None,
    request_tokens: Lengths | None = None,
    source: str | None = None,
    licence: str | None = None,
) -> RoutingTrace:
    """The trace in the recording ``file``, of any known format; ``out``: write it, too (.parquet).

    ``model``: what it was recorded from, a card or a config.json; ``importer``: the format, instead
    of recognising it; ``top_k`` experts a token, ``prompt_tokens`` and ``request_tokens`` (a number
    for all requests, or one for each), ``source`` and ``licence``: what the recording does not say.
    Raises an InputError for a file that is unknown, damaged, a pickle or no sound trace.

    >>> moesim.import_trace("routing.npz", model="gpt-oss-20b", out="mine.parquet")
    """
    from moesim.model import load_model
    from moesim.trace.importing import import_trace as imported
    from moesim.trace.lengths import PROMPT, REQUEST, check_lengths

    check_lengths(PROMPT, prompt_tokens, 0)
    check_lengths(REQUEST, request_tokens, 1)
    path = Path(file)
    if out is not None:
        parts = [part for part in path.rglob("*") if part.suffix != ".parquet"]
        named = [Path(model)] if isinstance(model, str) else []
        check_apart(Path(out), path, *parts, *named)
    spec = load_model(model) if isinstance(model, str) else model
    trace = imported(
        path,
        importer=importer,
        model=spec,
        top_k=top_k,
        prompt_tokens=prompt_tokens,
        request_tokens=request_tokens,
        source=source,
        licence=licence,
    )
    return _written(trace, out)


def synthesize(
    parameters: Path | str | SyntheticTrace,
    *,
    out: Path | str | None = None,
    requests: int | None = None,
    tokens: int | None = None,
    seed: int | None = None,
    domain: str | None = None,
) -> RoutingTrace:
    """A trace drawn from ``parameters``, a YAML file or what ``load_parameters`` gives; ``out``:
    write it, too (.parquet).

    ``requests``, ``seed``: instead of the file's; ``tokens``: as many requests as have so many, the
    last one cut; ``domain``: only requests of this domain. Raises an InputError for bad parameters.

    >>> moesim.synthesize("traces/skewed.yaml", tokens=10_000)
    """
    from moesim.trace.parquet import check_target
    from moesim.trace.synthesis import load_parameters
    from moesim.trace.synthesis import synthesize as draw

    if not isinstance(parameters, str | Path):
        return _written(draw(parameters, requests, tokens, seed, domain), out)
    file = Path(parameters)
    if out is not None:
        check_apart(Path(out), file)
        check_target(Path(out))
    read = load_parameters(file)
    with located(file):
        trace = draw(read, requests, tokens, seed, domain)
    return _written(trace, out)


def price(
    profile: str,
    ops: Path | str | pd.DataFrame,
    *,
    out: Path | str | None = None,
    method: str = "auto",
) -> pd.DataFrame:
    """The price of every row of the measurement table ``ops`` on the machine ``profile``.

    The same rows with ``price_ns``, ``price_source`` (measured, interpolated, fitted, datasheet)
    and ``outside`` (beyond what a fit saw). ``method``: auto, table, fit or datasheet; ``out``:
    write them, too (.parquet or .csv). Raises an InputError that names the lines without a price.

    >>> moesim.price("rtx-4090", "ops.csv")["price_ns"].sum()
    """
    from moesim.calibrate.prices.price import price_table
    from moesim.hardware import hardware_file, load_hardware
    from moesim.hardware.measurements.table import read_table, write_all

    hardware = load_hardware(profile)
    files = [Path(ops)] if isinstance(ops, str | Path) else []
    if out is not None:
        check_apart(Path(out), *files, hardware_file(profile))
    table = read_table(ops) if isinstance(ops, str | Path) else ops
    prices = price_table(hardware, table, method, str(files[0]) if files else "table")
    priced = table.assign(**prices._asdict())
    if out is not None:
        write_all(priced, Path(out))
    return priced


def timeline(folder: Path | str, out: Path | str = "timeline.json", *, steps: str = "0:20") -> int:
    """Write what the engines of the run in ``folder`` did to ``out``, as a Chrome trace that opens
    in ui.perfetto.dev; returns the number of spans.

    ``steps``: forward passes, ``FIRST:END``. A run without such records is simulated once more, as
    far as the last of them. Raises an InputError where the run has no such step, or did not fit.

    >>> moesim.timeline("results/quickstart", "timeline.json", steps="0:5")
    """
    from moesim.report.timeline import parse_steps, write_timeline

    return write_timeline(folder, out, parse_steps(steps))


def command(
    experiment: Source,
    *,
    engine: str | None = None,
    context: int | None = None,
    overrides: Sequence[str] = (),
) -> EngineCommand:
    """The command line by which an inference ``engine`` (by default that of the software profile)
    runs ``experiment``, with ``overrides`` as ``--set`` takes them.

    ``context``: tokens of each request, by default those of the run's longest. Of what is returned
    ``text`` is the line, None where the engine cannot run it; ``notes`` say why not, and what the
    line leaves open. Raises an InputError for a bad experiment and an unknown engine.

    >>> moesim.command("experiments/layers-on-cpu.yaml", context=16384).text
    """
    from moesim.experiment.engine_commands import command_of
    from moesim.experiment.schema.origins import placed

    if context is not None:
        check_whole("--context", context)
    resolved = _resolved(experiment, overrides)
    with placed(resolved.origins, resolved.file):
        return command_of(resolved.experiment, engine, context)


def read_command(line: str, *, engine: str | None = None) -> ReadCommand:
    """The experiment that a command ``line`` means, without its ``hardware``, which no line names.

    ``engine``: whose options they are, where no program says so. Of what is returned ``experiment``
    has the keys of a file; ``context_tokens`` is what the line allows a request; ``notes`` say what
    was assumed, is not modelled or was not understood. Raises an InputError for a broken line.

    >>> moesim.read_command("llama-server -m gpt-oss-20b-mxfp4.gguf -ncmoe 14").experiment
    """
    from moesim.experiment.engine_commands import read_command as read

    return read(line, engine)


def _check_capacity(capacity: str) -> None:
    from moesim.config.capacity import parse_capacity
    from moesim.config.quantity import QuantityError

    try:
        parse_capacity(capacity)
    except QuantityError as error:
        raise InputError([Problem("--capacity", "", str(error))]) from None


def _written_advice(advice: Advice, about: Asked) -> Advice:
    """``advice`` in its folder, with its figure and, where a question was asked, the experiment."""
    from dataclasses import replace

    from moesim.config.files import write_whole
    from moesim.report.advice import sentences, trust
    from moesim.report.advice_answer import comments, fit_line, told
    from moesim.report.advice_figure import draw
    from moesim.results.files import write_json

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
    return advice


def _resolved(experiment: Source, overrides: Sequence[str]) -> Resolved:
    """The experiment alone: none of these answers looks at the points of its sweep."""
    from moesim.experiment.loading.resolve import load_experiment

    return load_experiment(experiment, overrides, alone=True)


def _written(trace: RoutingTrace, out: Path | str | None) -> RoutingTrace:
    from moesim.trace import write_trace

    if out is not None:
        write_trace(trace, Path(out))
    return trace
