"""What is asked of an experiment, a machine or an engine's line without a study."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from moesim.api.given import resolved_of
from moesim.config.arguments import check_list, check_out, check_type, check_whole
from moesim.config.errors import check_apart

if TYPE_CHECKING:
    import pandas as pd

    from moesim.engine.progress import Progress
    from moesim.experiment.engine_commands import EngineCommand, ReadCommand
    from moesim.experiment.loading.resolve import Source
    from moesim.experiment.questions.place import Judgement


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
    resolved = resolved_of(experiment, overrides)
    with placed(resolved.origins, resolved.file):
        return largest_fit(resolved.experiment, context, batch)


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
    resolved = resolved_of(experiment, overrides)
    with placed(resolved.origins, resolved.file):
        return curve_of(resolved.experiment, policy)


def place(
    experiment: Source,
    *,
    out: Path | str | None = None,
    compare: bool = False,
    overrides: Sequence[str] = (),
    progress: Progress | None = None,
) -> Judgement:
    """Plan which GPU holds which expert from the first part of the run of ``experiment``, and judge
    the plan on the rest; with ``compare`` every planner beside its own, with ``overrides`` as
    ``--set`` takes them.

    ``out``: write the first plan, as JSON with EPLB's maps; ``placement: {kind: plan, file: OUT}``
    runs it. ``progress`` is called with (finished, total) planners. Each of ``plans`` has
    ``numbers()``: loads as shares of the rows. Raises an InputError
    for a bad experiment, and for an ``out`` that is one of its inputs or cannot be written.

    >>> moesim.place("experiments/placement_on_8_gpus.yaml", compare=True).plans
    """
    from moesim.config.files.inputs import paths_of
    from moesim.experiment.loading.inputs import inputs_of
    from moesim.experiment.questions.place import judge_planners, write_plan
    from moesim.experiment.schema.origins import placed

    check_out(out)
    resolved = resolved_of(experiment, overrides)
    read = resolved.experiment
    if out is not None:
        check_apart(Path(out), resolved.file, *paths_of(inputs_of([read])))
    with placed(resolved.origins, resolved.file):
        judgement = judge_planners(read, compare=compare, progress=progress)
    if out is not None:
        write_plan(read, judgement, Path(out))
    return judgement


def price(
    profile: str,
    ops: Path | str | pd.DataFrame,
    *,
    out: Path | str | None = None,
    method: str = "auto",
    software: str | None = None,
    model: str | None = None,
    overrides: Sequence[str] = (),
) -> pd.DataFrame:
    """The price of every row of the table ``ops``, a file or a DataFrame, on the machine
    ``profile``, or as the run of that experiment, a file (with ``overrides``, as ``--set`` takes
    them), has it.

    A row is one of a measurement table, or names an operation of a run, as ``operations.parquet``
    does: of ``model``, whole on one GPU, or of the experiment's. The same rows with ``price_ns``,
    ``price_source`` (measured, interpolated, fitted, datasheet), ``outside`` (beyond what a fit
    saw), and ``low_ns`` and ``high_ns``, between which the real time lies in 90 % of all cases
    (missing: not known). ``method``: auto, table, fit or datasheet;
    ``software``: as a run with that profile has them; ``out``: write them, too (.parquet or .csv).
    Raises an InputError that names the lines without a price.

    >>> moesim.price("rtx-4090", "ops.csv")["price_ns"].sum()
    """
    import pandas as pd

    from moesim.calibrate.prices.asking import asking_of
    from moesim.calibrate.prices.price import price_table
    from moesim.hardware.measurements.table import as_table, read_table, write_all
    from moesim.hardware.measurements.validate import LINE

    rule = "table; give the path of one, or a DataFrame"
    check_type("--ops", ops, (str, Path, pd.DataFrame), rule)
    check_out(out)
    asking, read = asking_of(profile, method, software=software, model=model, overrides=overrides)
    files = [] if isinstance(ops, pd.DataFrame) else [Path(ops)]
    if out is not None:
        check_apart(Path(out), *files, read)
    table = as_table(ops, "table") if isinstance(ops, pd.DataFrame) else read_table(ops)
    name = str(files[0]) if files else "table"
    prices = price_table(asking.costs.hardware, table, method, name, asking)
    priced = table.assign(**prices._asdict()).drop(columns=LINE)
    if out is not None:
        write_all(priced, Path(out))
    return priced


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
    resolved = resolved_of(experiment, overrides)
    with placed(resolved.origins, resolved.file):
        return command_of(resolved.experiment, engine, context)


def read_command(line: str, *, engine: str | None = None, served: bool = False) -> ReadCommand:
    """The experiment that a command ``line`` means, without its ``hardware``, which no line names.

    ``engine``: whose options they are, where no program says so; ``served``: with the engine's
    scheduler and its room for keys and values, not as batches that are always full. Of what is
    returned ``experiment`` has the keys of a file; ``context_tokens`` is what the line allows a
    request; ``notes`` say what was assumed, is not modelled or was not understood. Raises an
    InputError for a broken line.

    >>> moesim.read_command("llama-server -m gpt-oss-20b-mxfp4.gguf -ncmoe 14").experiment
    """
    from moesim.experiment.engine_commands import read_command as read

    check_type("line", line, str, "text; write the whole line as one, as in a shell")
    return read(line, engine, served=served)
