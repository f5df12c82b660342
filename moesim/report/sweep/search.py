"""What a search found: a table of its probes, a picture, and the answer in a sentence."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from rich.box import SIMPLE_HEAD
from rich.table import Table

from moesim.config.counted import counted
from moesim.config.errors import writing
from moesim.config.files.files import write_whole
from moesim.experiment.schema.experiment import Experiment
from moesim.hardware.price_errors import CONFIDENCE
from moesim.report.amounts import number, percent
from moesim.report.drawing.style import COLOURS, RC, plain_numbers, save_figure
from moesim.report.page.parts import experiment_text
from moesim.report.page.told import Told, ToldTable, write_told
from moesim.report.run.rows import enough_requests, start_of_a_service
from moesim.report.sweep.search_range import extreme, trust_of
from moesim.results.files import check_new_folder
from moesim.results.overwrite import REPORT, TOLD
from moesim.results.result import plain_experiment, setting_in_words
from moesim.sweep.limit import Limit
from moesim.sweep.probes import CUT, REFUSED, Found, Probe
from moesim.sweep.speeds import GOOD_COST
from moesim.sweep.words import last_word

CSV, FIGURE, SUFFIXES = "points.csv", "search", ("png", "svg")
FEW_DOUBLINGS, MANY_DOUBLINGS = 8, 512
"""Of the least value the largest, between which an axis of powers of two has ticks to read."""


def frame(found: Found) -> pd.DataFrame:
    """A row a probe: the path, its ``value``, each metric, ``passed``, ``broke``, ``status``."""
    rows = [
        {
            found.path: one.text,
            "value": one.value,
            **one.numbers,
            "passed": one.passed,
            "broke": "; ".join(map(str, one.broke)),
            "status": one.status,
        }
        for one in found.probes
    ]
    return pd.DataFrame(rows)


def content(found: Found) -> dict[str, Any]:
    """The same as plain data, with the answer: ``best`` and ``first_broken`` are as tried."""
    ends = {"best": found.best, "first_broken": found.first_broken}
    return {
        "vary": found.path,
        "limits": [str(one) for one in found.limits],
        "answer": sentence(found),
        "at_best": at_best(found),
        "trust": trust_of(found),
        **{name: None if one is None else one.text for name, one in ends.items()},
        "probes": frame(found).to_dict("records"),
    }


def table(found: Found) -> Table:
    """The same for the terminal."""
    shown = Table(box=SIMPLE_HEAD, pad_edge=False)
    shown.add_column(last_word(found.path), justify="right")
    metrics = dict.fromkeys(one.metric for one in found.limits)
    for metric in metrics:
        shown.add_column(metric, justify="right")
    shown.add_column("")
    for one in found.probes:
        state = "keeps all" if one.passed else "; ".join(map(str, one.broke))
        if one.status == CUT:
            state += " (cut short)"
        elif one.status != "ok":
            state = one.status.replace("_", " ")
        mark = " *" if one is found.best else ""
        shown.add_row(one.text, *(number(one.numbers[name]) for name in metrics), state + mark)
    return shown


def sentence(found: Found) -> str:
    """The largest value, or the least, what binds, and what limits do not see of it."""
    return so_far(found) + ("" if found.best is None else _aside(found))


def so_far(found: Found) -> str:
    """The largest value that is known, or the least, and what binds."""
    best, broken = found.best, found.first_broken
    name = last_word(found.path)
    if best is None:
        assert broken is not None, "a probe was made"
        near = "" if (one := found.nearest) is None else f"; at {one.text} {_binds(one)}"
        if one is not None and (above := found.above(one)) and above.status != "ok":
            near += f", and at {above.text} {_binds(above)}"
        near += _excludes(found, broken) + _at_once(found.probes[-1])
        return f"No {name} keeps the limits: even at {broken.text} {_binds(broken)}{near}."
    if found.more_helps:
        return f"Least {name}: {best.text}{_below(found)}."
    if broken is None:
        return f"Up to {best.text} of {name} nothing breaks a limit{_end(found)}."
    return f"Largest {name}: {best.text}; at {broken.text} {_binds(broken)}."


ALL_PROMISES = ("slo_attainment.all", "request_goodput", GOOD_COST)
"""Numbers of requests that keep all that is promised."""
ELSE = {
    "output_throughput": "tokens/s",
    "request_goodput": "good requests/s",
    "cost_usd_per_million_output_tokens": "$ a M output tokens",
    GOOD_COST: "$ a M good tokens",
    "joules_per_output_token": "J an output token",
}
"""What else is told of the answer, where its run has it."""


def at_best(found: Found) -> list[str]:
    """How fast the answer is, and what it costs; nothing where there is none."""
    if (best := found.best) is None:
        return []
    known = {unit: best.every.get(key) for key, unit in ELSE.items()}
    told = ", ".join(f"{number(value)} {unit}" for unit, value in known.items() if value)
    return [f"at {best.text}: {told}"] if told else []


def _below(found: Found) -> str:
    """What less than the least value breaks, and that no more was tried, and why."""
    less, most = found.too_small, found.probes[-1].text
    what = ", the least that was tried" if less is None else f"; at {less.text} {_binds(less)}"
    return f"{what}; more helps each limit or leaves it, so more than {most} was not tried"


def _end(found: Found) -> str:
    """Why no more was tried."""
    if found.ends_at_once:
        return _at_once(found.probes[-1])
    if found.ends_alike:
        return ", and more changes nothing"
    if not found.ends_long:
        return ", the most that was tried"
    tokens, steps = (counted(found.probes[-1].every[one], one[:-1]) for one in ("tokens", "steps"))
    what = f"its run has {tokens} in {steps}, and they grow with it"
    return f"; more was not tried: {what}. To go on from there, set it in the experiment"


def _at_once(one: Probe) -> str:
    """That a larger rate than that of ``one`` would bring the same requests no more at once."""
    if not one.at_once:
        return ""
    what = (
        f"at {one.text} all requests come before the first answer ends, which says nothing of more"
    )
    return f"; more was not tried: {what}; {enough_requests(one.every)}"


def _aside(found: Found) -> str:
    """What limits on times do not see of the best, and that less would not do."""
    best, less = found.best, found.too_small
    assert best is not None, "there is one"
    short = (
        ""
        if less is None or found.more_helps
        else f" Too little breaks one, too: at {less.text} {_binds(less)}"
    )
    if less is not None and (top := found.first_broken) and top.status == REFUSED and found.least:
        short += f"; the least that keeps all is {found.least.text}"
    short += "." * bool(short)
    told = found.first_broken is None and found.ends_at_once  # which says it, with the remedy
    return short + _rejected(best) + _saturated(best) + ("" if told else _started(best))


def _saturated(best: Probe) -> str:
    """That its latencies would go on growing."""
    if not best.every.get("saturated"):
        return ""
    told = " Its waiting line grows to the end: a longer run has longer times; write more requests"
    return f"{told}, or --sla 'saturated<=0'."


def _started(best: Probe) -> str:
    """That its requests came before it was a service."""
    what = start_of_a_service(best.every)
    return f" O{what[1:]}." if what else ""


def _rejected(best: Probe) -> str:
    """How many requests have no times."""
    if not (many := best.every.get("rejected")) or "rejected" in best.numbers:
        return ""
    told = f"{counted(many, 'request')} of {many + best.every['completed']}"
    return f" It rejects {told}, of which no limit on times knows; see --sla 'rejected<=0'."


def _excludes(found: Found, least: Probe) -> str:
    """Which limit more would help that ``least`` breaks, where more breaks one that it keeps."""
    for one in found.probes:
        lost = [limit for limit in one.broke if limit not in least.broke]
        helped = [
            limit.metric for limit in least.broke
            if limit.nearer(one.numbers[limit.metric], least.numbers[limit.metric])
        ]  # fmt: skip
        if one.status == "ok" and lost and helped:
            broken = ", and ".join(_breaks(limit, one.numbers[limit.metric]) for limit in lost)
            told = f"more helps {helped[0]}, but at {one.text} {broken}"
            return f"; {told}: none that was tried keeps all"
    return ""


def _binds(broken: Probe) -> str:
    """What a value breaks."""
    if broken.status == REFUSED:
        return f"it cannot run ({broken.reason})"
    if broken.status == CUT:
        return f"{broken.broke[0].metric} is certain to be broken"
    if broken.status != "ok":
        return f"it is {broken.status.replace('_', ' ')}"
    told = ", and ".join(_breaks(one, broken.numbers[one.metric]) for one in broken.broke)
    return told + _promise(broken)


def _promise(broken: Probe) -> str:
    """Which of several promises the fewest requests keep, where a limit is on all together."""
    kept = {
        name: share
        for name in ("ttft", "tpot", "e2el")
        if (share := broken.every.get(f"slo_attainment.{name}")) is not None
    }
    together = any(one.metric in ALL_PROMISES for one in broken.broke)
    if not together or len(kept) < 2:  # noqa: PLR2004
        return ""
    least = min(kept, key=lambda name: kept[name])
    return f" ({least} is kept by the fewest, {percent(kept[least])} of requests)"


def _breaks(limit: Limit, value: float | None) -> str:
    if value is None:
        return f"no request has a {limit.metric}"
    bound = "above" if limit.sign == "<=" else "below"
    digits = next((n for n in (4, 6, 9) if float(f"{value:.{n}g}") != limit.bound), 17)
    return f"{limit.metric} is {number(value, digits)}, {bound} {limit.bound:g}"


def check_folder(folder: Path) -> None:
    """An InputError unless ``folder`` is new or empty, or has what a search wrote and no more."""
    own = {CSV, REPORT, TOLD, *(f"{FIGURE}.{suffix}" for suffix in SUFFIXES)}
    if not folder.is_dir() or {one.name for one in folder.iterdir()} - own:
        check_new_folder(folder)


def files(folder: Path) -> list[Path]:
    """What a search wrote into ``folder``, but for what a page says."""
    names = (CSV, *(f"{FIGURE}.{suffix}" for suffix in SUFFIXES))
    return [folder / name for name in names if (folder / name).is_file()]


def write_table(found: Found, folder: Path) -> Path:
    """Write the probes that there are so far."""
    with writing(folder / CSV):
        write_whole(folder / CSV, frame(found).to_csv(index=False, lineterminator="\n"))
    return folder / CSV


def write_search(found: Found, folder: Path, experiment: Experiment) -> list[Path]:
    """Table, picture and what a page says of them; the files."""
    files = [write_table(found, folder), *write_figure(found, folder)]
    plain = plain_experiment(experiment)
    limits = ", ".join(map(str, found.limits))
    metrics = dict.fromkeys(name for one in found.probes for name in one.numbers)
    told = Told(
        kind="search",
        title=f"{experiment.name}: the {extreme(found)} {last_word(found.path)} under {limits}",
        setting=setting_in_words(plain, without=[found.path]),
        verdict=[sentence(found), *at_best(found)],
        board=ToldTable(
            title="Runs",
            file=CSV,
            # a page draws the first number over the second
            columns=[found.path, *metrics, "value", "passed", "broke", "status"],
            best=found.probes.index(found.best) if found.best else None,
        ),
        figures={path.name: limits for path in files if path.suffix == ".svg"},
        trust=trust_of(found),
        experiment=experiment_text(plain),
    )
    return [*files, write_told(told, folder)]


def write_figure(found: Found, folder: Path) -> Sequence[Path]:
    """Each metric over the value, with its limit, as PNG and SVG; none where no run has any."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    known = {name for one in found.probes for name, x in one.numbers.items() if x is not None}
    limits = [one for one in found.limits if one.metric in known]
    if not limits:
        return []
    with rc_context(dict(RC)):  # type: ignore[arg-type]
        sheet = Figure(figsize=(6, 2.4 * len(limits) + 0.6), layout="constrained")
        FigureCanvasAgg(sheet)
        areas = sheet.subplots(len(limits), sharex=True, squeeze=False)[:, 0]
        for limit, axes in zip(limits, areas, strict=True):
            ran = [one for one in found.probes if one.numbers[limit.metric] is not None]
            x, y = [one.value for one in ran], [one.numbers[limit.metric] for one in ran]
            axes.plot(x, y, color=COLOURS[0], linewidth=1)
            for passed, face in ((True, COLOURS[0]), (False, "#ffffff")):
                at = [n for n, one in enumerate(ran) if one.passed == passed]
                axes.scatter([x[n] for n in at], [y[n] for n in at], facecolor=face,
                             edgecolor=COLOURS[0], zorder=3, s=26)  # fmt: skip
            for one in ran:
                if (ends := one.prices.get(limit.metric)) is not None:
                    axes.vlines(one.value, *ends, color=COLOURS[0], linewidth=1, alpha=0.5)
            axes.axhline(limit.bound, color="#777777", linestyle=(0, (4, 2)), linewidth=1)
            if (span := found.probes[-1].value / found.probes[0].value) > FEW_DOUBLINGS:
                axes.set_xscale("log", base=10 if span > MANY_DOUBLINGS else 2)
            plain_numbers(axes.xaxis)
            axes.set_ylabel(limit.metric)
            axes.set_title(str(limit))
        unit = found.probes[0].text.partition(" ")[2]
        bars = (
            f"bars: {CONFIDENCE:.0%} by prices" if any(one.prices for one in found.probes) else ""
        )
        told = ", ".join(filter(None, (unit, "filled: keeps all limits", bars)))
        areas[-1].set_xlabel(f"{last_word(found.path).capitalize()} ({told})")
        paths = [folder / f"{FIGURE}.{suffix}" for suffix in SUFFIXES]
        for path in paths:
            save_figure(sheet, path)
    return paths
