"""The largest value of a setting under which a run still keeps its limits, or the least."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from difflib import get_close_matches
from fractions import Fraction
from functools import partial
from typing import Any

from moesim.config.amounts.capacity import BLOCKS, SLOTS
from moesim.config.amounts.quantity import split
from moesim.config.checking.validation import UNKNOWN_KEY
from moesim.config.errors import InputError, Problem
from moesim.experiment.loading.once import read_once
from moesim.experiment.running.price_ranges import played_once
from moesim.experiment.running.run import simulate
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Serving
from moesim.metrics.service_level import NO_SERVICE
from moesim.results.result import plain_experiment
from moesim.sweep.advise.choices import with_settings
from moesim.sweep.limit import Limit
from moesim.sweep.probes import CUT, RATES, REFUSED, Found, Probe, gets_long
from moesim.sweep.table import flatten
from moesim.sweep.verdict import CertainError, Verdict

NEAR = 1.02
"""Of a value that breaks a limit over one that keeps all: nearer is not asked."""
DOUBLINGS = 16
"""Of the experiment's own value, or halvings."""
UNLOADED = 1024
"""The experiment's own value over that at which it bears next to no load."""
LOADS = "workload."
"""Before the names of what is asked of a service: of it the largest value is the answer."""
_WHOLE = (SLOTS, BLOCKS)
"""Units of whole numbers."""


@read_once()
def search(
    experiment: Experiment,
    path: str,
    limits: Sequence[Limit],
    told: Callable[[Found], None] = lambda _: None,
    *,
    cut: bool = True,
    written: Any = None,
) -> Found:
    """Double or halve the value at ``path`` until one keeps ``limits`` and one does not, then
    bisect its logarithm to 2 %, small whole numbers to the next one. Where the experiment's own
    breaks one, the least comes next (1, or a 1024th of it): if that does, too, there is nothing to
    find, but above, where what it breaks is broken by less, or between, where only more keeps that
    (a goodput). Of what is no load and of which more
    helps each limit or leaves it as it is (``Found.more_helps``), the least that keeps them is
    found alone: nothing above a value that does is asked, but for the double of the experiment's
    own where nothing less has numbers.

    ``cut``: runs end once it is certain that they break a limit, but for the least that does, which
    says by how much, and the answer's is played again where its range by prices takes that.
    Where the largest that can run keeps all, the least that does is looked for, too.
    ``told`` is given what is known after every run. Values are in the unit that
    the experiment's own is ``written`` in. Random draws are the same in all runs. It takes limits
    to be broken from some value on, and a value that cannot run to break all. Raises InputError for
    a path without a number, for a metric that a run does not have, and where the experiment's own
    value cannot run.
    """
    _check_promised(experiment, limits)
    base = _without_what_nobody_asks(experiment)
    own, write, whole = _value(base, path, written)
    probes: dict[float, Probe] = {}

    def probe(value: float, *, whole_run: bool = False) -> Probe:
        known = probes.get(value)
        if known is None or (whole_run and known.status == CUT):
            first = not probes
            ends = cut and not whole_run
            try:
                probes[value] = _probe(base, path, limits, value, write, cut=ends)
            except _CannotRunError as error:
                if first:
                    raise error.why from None
                probes[value] = _refused(limits, value, write, error.why)
            told(replace(found(), last=probes[value]))
        return probes[value]

    def found() -> Found:
        tried = tuple(probes[at] for at in sorted(probes))
        return Found(path, tuple(limits), tried, more_helps=helps)

    helps = False  # which the first runs may show
    helps = not path.startswith(LOADS) and _more_helps(own, limits, probe, whole=whole)
    if helps:
        _least(own, found, probe, whole=whole)
    else:
        _largest(own, found, probe, probes.pop, whole=whole)
    answer = found().best or found().first_broken
    if answer is not None and answer.status == "ok" and base.serving != experiment.serving:
        serving = (base.serving or Serving()).model_copy(update={"price_interval": "always"})
        again = base.model_copy(update={"serving": serving})
        prices = _probe(again, path, limits, answer.value, write, cut=False).prices
        probes[answer.value] = replace(answer, prices=prices)
    return found()


def _more_helps(
    own: float, limits: Sequence[Limit], probe: Callable[..., Probe], *, whole: bool
) -> bool:
    """Whether ``own`` shows it beside a smaller value, or a larger one where none has numbers."""
    least = 1.0 if whole else own / UNLOADED
    half = math.floor(own / 2) if whole else own / 2
    if (less := max(half, least) if probe(own).passed else least) < own:
        smaller = probe(less, whole_run=True)
        if smaller.status == probe(own, whole_run=True).status == "ok":
            return probe(own).only_helps(smaller, limits)
    mine = probe(own, whole_run=True)
    return mine.status == "ok" and probe(2 * own, whole_run=True).only_helps(mine, limits)


def _least(
    own: float, found: Callable[[], Found], probe: Callable[..., Probe], *, whole: bool
) -> None:
    """The least value that keeps the limits, of which more helps: from ``own`` down by halves where
    that keeps them, up by doubles where not.
    """
    least, now = 1.0 if whole else own / UNLOADED, probe(own)
    if not now.passed:
        _kept_above(probe(least, whole_run=True), own, probe, whole=whole)
    while now.passed and now.value > least:
        now = probe(math.floor(now.value / 2) if whole else max(now.value / 2, least))
    _between(found, probe, whole=whole)
    if (less := found().too_small) is not None and less.status == CUT:
        probe(less.value, whole_run=True)


def _largest(
    own: float,
    found: Callable[[], Found],
    probe: Callable[..., Probe],
    forget: Callable[[float], object],
    *,
    whole: bool,
) -> None:
    """The largest value that keeps the limits, and where that is the largest that can run, the
    least that does, too.
    """
    ends = _bracket(own, probe, forget, whole=whole)
    while ends is not None and (middle := _middle(*ends, whole=whole)) is not None:
        ends = (middle, ends[1]) if probe(middle).passed else (ends[0], middle)
    if (broken := found().first_broken) is not None and broken.status == CUT:
        probe(broken.value, whole_run=True)
    if broken is not None and broken.status == REFUSED:
        probe(1.0 if whole else own / UNLOADED)
        _between(found, probe, whole=whole)


def _bracket(
    own: float,
    probe: Callable[..., Probe],
    forget: Callable[[float], object],
    *,
    whole: bool,
) -> tuple[float, float] | None:
    """A value that keeps the limits and a larger one that does not; None where there is none: the
    least one breaks them, the run changes no more, or says nothing of more (``Probe.at_once``).
    """
    last, alike = probe(own), True
    least = min(own, 1.0 if whole else own / UNLOADED)
    if not last.passed:
        first = probe(least, whole_run=True)
        if first.status == REFUSED:  # which says nothing of more
            forget(least)
            last = probe(own, whole_run=True)
        elif first.passed:
            alike = False  # runs above it may be, and one below them keeps all
        elif kept := (
            _kept_above(first, own, probe, whole=whole)
            or _kept_about(first, own, probe, whole=whole)
        ):
            last = kept
        else:
            return None
    for _ in range(0 if last.passed and last.at_once else DOUBLINGS):
        other = last.value * 2 if last.passed else last.value / 2
        if whole and (other := math.floor(other)) < 1:
            return None
        now = probe(other, whole_run=alike and not last.passed)
        if now.passed != last.passed:
            return (last.value, other) if last.passed else (other, last.value)
        if _is_end(last, now, alike=alike):
            return None
        last = now
    return None


def _is_end(last: Probe, now: Probe, *, alike: bool) -> bool:
    """Whether the run ``now`` says that no more, or less, need be asked."""
    if alike and now.status == "ok" and now.every == last.every:
        return True
    return now.passed and (now.at_once or gets_long((last, now)))


def _kept_above(
    first: Probe, own: float, probe: Callable[..., Probe], *, whole: bool
) -> Probe | None:
    """Of ``own`` and its doubles, each of which breaks by less what the one before does, as more
    requests at once break a throughput's, and at first the ``first``, one that breaks none, or one
    between the last of them and the first that cannot run; None: there is none.
    """
    last, value = first, own if own > first.value else 2 * own
    for _ in range(DOUBLINGS):
        now = probe(value, whole_run=True)
        if now.passed:
            return now
        if now.status != "ok":
            return _kept_between(last, value, probe, whole=whole)
        if not now.nearer(last) or now.is_last:
            return None
        last, value = now, 2 * value
    return None


def _kept_about(
    first: Probe, own: float, probe: Callable[..., Probe], *, whole: bool
) -> Probe | None:
    """One that breaks no limit above the ``first``, whose limits only more may keep: a goodput
    rises with the load, and falls beyond what keeps its promises. By doubles and halves of ``own``
    to the one that breaks them by least, then to both sides of that; None: there is none.
    """
    if any(one.sign == "<=" for one in first.broke):
        return None
    below, best = first, probe(own, whole_run=True)
    above = best
    while best.nearer(first) and not best.is_last:
        above = probe(2 * best.value, whole_run=True)
        if not above.nearer(best):
            break
        below, best = best, above
    value = best.value / 2
    while below is first and (math.floor(value) if whole else value) > first.value:
        now = probe(math.floor(value) if whole else value, whole_run=True)
        if now.passed:
            return now
        if best.nearer(now):
            below = now
            break
        above, best, value = best if now.nearer(best) else now, now, value / 2
    return _kept_beside(below, best, above, probe, whole=whole)


def _kept_beside(
    below: Probe, best: Probe, above: Probe, probe: Callable[..., Probe], *, whole: bool
) -> Probe | None:
    """One that breaks no limit between two others, of which the ``best`` breaks them by less."""
    while True:
        sides = [(best.value, above.value), (below.value, best.value)]
        middles = [_middle(*side, whole=whole) if side[0] < side[1] else None for side in sides]
        if middles == [None, None]:
            return None
        for side, middle in enumerate(middles):
            now = None if middle is None else probe(middle, whole_run=True)
            if now is None:
                continue
            if now.passed:
                return now
            if now.nearer(best):
                below, above = (below, best) if side else (best, above)
                best = now
                break
            below, above = (now, above) if side else (below, now)


def _kept_between(
    last: Probe, above: float, probe: Callable[..., Probe], *, whole: bool
) -> Probe | None:
    """One that breaks no limit between the ``last`` that runs, of which more breaks what it breaks
    by less, and one ``above`` that cannot run; None: there is none.
    """
    while (middle := _middle(last.value, above, whole=whole)) is not None:
        now = probe(middle, whole_run=True)
        if now.passed:
            return now
        if now.status != "ok":
            above = middle
        elif now.nearer(last):
            last = now
        else:
            return None
    return None


def _between(found: Callable[[], Found], probe: Callable[..., Probe], *, whole: bool) -> None:
    """Bisect from the largest value below all that keep the limits to the least that does."""
    while (less := found().too_small) is not None and (kept := found().least) is not None:
        if (middle := _middle(less.value, kept.value, whole=whole)) is None:
            return
        probe(middle)


def _middle(low: float, high: float, *, whole: bool) -> float | None:
    """Between the two on a logarithmic scale; None where they are near enough."""
    if high / low <= NEAR:
        return None
    middle = math.sqrt(low * high)
    if not whole:
        return middle
    return max(math.floor(middle), low + 1) if high - low > 1 else None


def value_at(plain: Any, path: str) -> Any:
    """What stands at the dotted ``path`` of ``plain`` values, None where nothing does."""
    for name in path.split("."):
        plain = plain.get(name) if isinstance(plain, dict) else None
    return plain


def _value(
    experiment: Experiment, path: str, written: Any
) -> tuple[float, Callable[[float], str], bool]:
    """The number at ``path``, how another one is written there, and whether it is whole."""
    if path.rpartition(".")[2] == "seed":
        what = "is no amount: another one is other luck; compare seeds with a sweep"
        raise InputError([Problem("--vary", path, what)])
    value: Any = plain_experiment(experiment)
    names, nothing = path.split("."), ""
    for place, name in enumerate(names, 1):
        value = value.get(name) if isinstance(value, dict) else None
        if value is None:
            nothing = nothing or ".".join(names[:place])
    if isinstance(value, int) and not isinstance(value, bool) and value > 0:
        return value, lambda number: str(int(number)), True
    if isinstance(value, str | float):
        amount, unit = _amount(written) if isinstance(value, str) else (Fraction(0), "")
        if not unit:
            amount, unit = _amount(value)
        if amount > 0:
            whole = unit in _WHOLE and amount.denominator == 1
            return float(amount), lambda number: f"{number:.6g} {unit}".strip(), whole
    _check_known(experiment, path)
    what = "has no number above 0 to begin with; set one in the experiment, or with --set"
    if nothing and nothing != path:
        what = f"has no number to begin with: '{nothing}' is null; set it in the experiment, or"
        what += f" a number with --set {path}=1"
    raise InputError([Problem("--vary", path, what)])


def _check_known(experiment: Experiment, path: str) -> None:
    """An InputError where an experiment has no such key."""
    try:
        with_settings(experiment, {path: "1"})
    except InputError as error:
        problem = error.problems[0]
        if problem.path == path and UNKNOWN_KEY in problem.what:
            raise InputError([Problem("--vary", path, problem.what)]) from None


def _amount(value: Any) -> tuple[Fraction, str]:
    """The number and the unit of ``value``, 0 where it has none."""
    try:
        return split(str(value), "a number", "4 requests/s")
    except ValueError:
        return Fraction(0), ""


def _without_what_nobody_asks(experiment: Experiment) -> Experiment:
    """Neither figures nor, as these play a run twice more, intervals by prices of its times."""
    changed: dict[str, Any] = {"records": "summary", "sweep": None, "figures": []}
    return played_once(experiment).model_copy(update=changed)


def _probe(
    base: Experiment,
    path: str,
    limits: Sequence[Limit],
    value: float,
    write: Callable[[float], str],
    *,
    cut: bool,
) -> Probe:
    text = write(value)
    try:
        experiment = with_settings(base, {path: text})
        watch = partial(Verdict, limits, experiment.serving or NO_SERVICE) if cut else None
        summary = simulate(experiment, watch=watch).summary
    except InputError as error:
        raise _CannotRunError(error) from None
    except CertainError as certain:
        nothing = {one.metric: None for one in limits}
        return Probe(value, text, CUT, nothing, (certain.limit,))
    numbers = {one.metric: _number(summary, one.metric) for one in limits}
    broke = tuple(one for one in limits if not one.holds(numbers[one.metric]))
    every = {key: said for key, said in flatten(summary) if key != "engine_wall_s"}
    ends = {one.metric: _by_prices(every, one.metric) for one in limits}
    prices = {metric: both for metric, both in ends.items() if both is not None}
    once = path.rpartition(".")[2] in RATES and summary.get("after_first_end_share") == 0
    status = str(summary["status"])
    return Probe(value, text, status, numbers, broke, every, prices=prices, at_once=once)


def _by_prices(every: Mapping[str, Any], metric: str) -> tuple[float, float] | None:
    """The ends of the metric's interval by prices, if there is one."""
    low, high = (every.get(f"price_interval.{metric}.{end}") for end in ("low", "high"))
    return None if low is None or high is None else (float(low), float(high))


class _CannotRunError(Exception):
    """A value that is no experiment, and ``why``."""

    def __init__(self, why: InputError) -> None:
        super().__init__(str(why))
        self.why = why


def _refused(
    limits: Sequence[Limit], value: float, write: Callable[[float], str], why: InputError
) -> Probe:
    """One that breaks all limits, as it gives no numbers."""
    problem = why.problems[0]
    said = ": ".join(part for part in (problem.path, problem.what) if part)
    nothing = {one.metric: None for one in limits}
    return Probe(value, write(value), REFUSED, nothing, tuple(limits), reason=said)


def _number(summary: Mapping[str, Any], metric: str) -> float | None:
    """The number of that name, dots for nested ones; None in a run that has no numbers."""
    every = dict(flatten(summary))
    known = {k: v for k, v in every.items() if v is None or type(v) in (int, float, bool)}
    if metric in known:
        return None if known[metric] is None else float(known[metric])
    if summary["status"] != "ok":
        return None
    what = f"'{metric}' is no number of this run; {_like(metric, known)}"
    raise InputError([Problem("--sla", "", what)])


def _like(metric: str, known: Iterable[str]) -> str:
    """The nearest few names, and where all are."""
    close = get_close_matches(metric, list(known), n=5, cutoff=0.5)
    shown = ", ".join(f"'{name}'" for name in close)
    return (f"the nearest are {shown}; " if close else "") + "summary.json of a run has them all"


def _check_promised(experiment: Experiment, limits: Sequence[Limit]) -> None:
    """An InputError where a limit is on what the experiment does not promise."""
    promised = experiment.serving is not None and experiment.serving.limits_ms
    for one in limits:
        if one.metric.split(".")[0] in ("request_goodput", "slo_attainment") and not promised:
            what = f"'{one.metric}' counts requests that keep what is promised, and this experiment"
            what += " promises nothing; write serving: {slo: {ttft: 500 ms, tpot: 50 ms}}"
            raise InputError([Problem("--sla", "", what)])
