"""Two results side by side: what differs in configuration, numbers and shares of time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from moesim.config.arguments import check_path
from moesim.config.errors import InputError, Problem
from moesim.report.comparison.intervals import differences_table, paired_ratios
from moesim.results import Result, read_result
from moesim.results.blocks import blocks_of_result
from moesim.results.files import plain
from moesim.sweep.found import Sweep, read_sweep
from moesim.sweep.identity import differences, is_sweep, read_sweep_file
from moesim.sweep.speeds import COST, GOOD, GOOD_COST, LOST, losses

UNSAID = ("name", "figures", "records", "sweep")
"""Keys of an experiment that decide no number of a run."""
UNCOMPARED = ("engine_wall_s", "layer_steps")
SHARES = ("time_share", "price_share")
ALL = "total_token_throughput"
POINT_NUMBERS = (
    "output_throughput", ALL, *LOST, "mean_tpot_ms", "hit_ratio_per_expert",
    "peak_memory_bytes", GOOD, COST, GOOD_COST,
)  # fmt: skip

Table = pd.DataFrame


Side = Path | str | Result | Sweep


def compare(first: Side, second: Side) -> dict[str, Table]:
    """What differs between two runs, or two sweeps: their folders, or what they returned.

    Tables by name. ``configuration``: ``key``, ``first``, ``second``. Of runs: ``results`` with
    ``ratio`` (second over first, missing where there is none), ``time_share`` and ``price_share``
    with ``points`` (percent of the time, second less first), ``differences``, see
    ``differences_table``, and ``time_per_token``: ms by cause with their ``difference``. Of
    sweeps: ``points``, those with equal values on the axes that both have, and ``alone``, how
    many points have no partner. Raises an InputError where a folder is no result, or the two are
    not of one kind.
    """
    sides = [side.folder if isinstance(side, Sweep) else side for side in (first, second)]
    for side in sides:
        if not isinstance(side, Result):
            check_path(side)
    if any(isinstance(side, Result) for side in sides):
        one, two = (side if isinstance(side, Result) else _one_run(side) for side in sides)
        return _runs(one, two)
    folders = (Path(str(sides[0])), Path(str(sides[1])))
    if all(is_sweep(folder) for folder in folders):
        return _sweeps(*folders)
    kinds = [is_sweep(folder) for folder in folders]
    if any(kinds):
        read_result(folders[kinds.index(False)])
    return _runs(_one_run(folders[0]), _one_run(folders[1]))


def _one_run(folder: Path | str) -> Result:
    """The run in ``folder``; an InputError where it is a sweep."""
    if is_sweep(folder):
        what = "is a sweep, the other a run; name one of its points"
        raise InputError([Problem(str(folder), "", what)])
    return read_result(folder)


def _runs(first: Result, second: Result) -> dict[str, Table]:
    one, two = first.summary, second.summary
    inputs = [dict(_files(result.provenance)) for result in (first, second)]
    settings = [*_settings(first.configuration, second.configuration), *_changed(*inputs)]
    shares = {name: _shares(one.get(name), two.get(name)) for name in SHARES}
    prices = (one.get("price_interval"), two.get("price_interval"))
    apart = differences_table(blocks_of_result(first), blocks_of_result(second), prices)
    tables = {"configuration": _table(settings), "results": _numbers(one, two)}
    spent = _time_per_token(one, two)
    return {**tables, **shares, "differences": apart, "time_per_token": spent}


def _settings(
    first: Mapping[str, Any], second: Mapping[str, Any]
) -> Iterator[tuple[str, Any, Any]]:
    old, new = ({k: v for k, v in plain(e).items() if k not in UNSAID} for e in (first, second))
    yield from differences(old, new)


def _files(provenance: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    yield "version of moesim", str(provenance.get("moesim"))
    if sources := provenance.get("sources"):
        yield "sources of moesim", str(sources)[:12]
    for name, entry in provenance.get("inputs", {}).items():
        yield f"content of {name}", str(entry["sha256"])[:12]


def _changed(first: Mapping[str, str], second: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Files, and a version, of which both have one but not the same."""
    for name in (name for name in first if name in second):
        if first[name] != second[name]:
            yield name, first[name], second[name]


def _table(rows: list[tuple[str, Any, Any]]) -> Table:
    return pd.DataFrame(rows, columns=["key", "first", "second"], dtype=object)


def _numbers(first: Mapping[str, Any], second: Mapping[str, Any]) -> Table:
    """The plain numbers, and the status, of which the two have different ones; and what the two
    leave out, as it stands beside every throughput.
    """
    keys = [key for key in dict.fromkeys((*first, *second)) if key not in (*UNCOMPARED, "name")]
    rows = [(key, first.get(key), second.get(key)) for key in keys]
    plain_rows = [
        (k, a, b)
        for k, a, b in rows
        if not isinstance(a, dict | list) and (a != b or (k in LOST and (a or b)))
    ]
    table = _table([row for row in plain_rows if not isinstance(row[2], dict | list)])
    return table.assign(ratio=[_ratio(a, b) for _, a, b in table.to_numpy()])


def _ratio(first: Any, second: Any) -> float:
    if not all(isinstance(value, int | float) for value in (first, second)) or not first:
        return float("nan")
    return float(second / first)


def _shares(first: Mapping[str, float] | None, second: Mapping[str, float] | None) -> Table:
    one, two = (pd.Series(shares or {}, dtype="float64") for shares in (first, second))
    keys = list(dict.fromkeys([*one.index, *two.index]))
    table = pd.DataFrame({"first": one, "second": two}).reindex(keys)
    table = table.fillna(0.0) if len(one) and len(two) else table.iloc[:0]
    table = table[(table != 0).any(axis=1)].rename_axis("key").reset_index()
    return table.assign(points=100 * (table["second"] - table["first"]))


def _time_per_token(first: Mapping[str, Any], second: Mapping[str, Any]) -> Table:
    """Milliseconds of each GPU's time a token by cause, and their difference, the largest first."""
    columns = ["key", "first", "second", "difference"]
    sides = [_spent(one) for one in (first, second)]
    if not all(sides):
        return pd.DataFrame(columns=columns)
    keys = dict.fromkeys(key for side in sides for key in side)
    pairs = {key: (sides[0].get(key, 0.0), sides[1].get(key, 0.0)) for key in keys}
    ordered = sorted(pairs, key=lambda key: -abs(pairs[key][1] - pairs[key][0]))
    rows = [(key, *pairs[key], pairs[key][1] - pairs[key][0]) for key in ordered]
    return pd.DataFrame(rows, columns=columns)


def _spent(summary: Mapping[str, Any]) -> dict[str, float]:
    """By cause; nothing of a run without times."""
    tokens, shares = summary.get("tokens"), summary.get("time_share")
    if not (tokens and shares and summary.get("duration_ms")):
        return {}
    return {key: share * summary["duration_ms"] / tokens for key, share in shares.items() if share}


def _speeds(joined: Table) -> pd.Series[float]:
    """Tokens a second of the second over the first, processed ones where neither decodes any."""
    decoded: pd.Series[float] = (
        joined["output_throughput_second"] / joined["output_throughput_first"]
    )
    if f"{ALL}_first" not in joined:
        return decoded
    sides = joined[["output_throughput_first", "output_throughput_second"]]
    return decoded.where((sides != 0).any(axis=1), joined[f"{ALL}_second"] / joined[f"{ALL}_first"])


def _sweeps(first: Path, second: Path) -> dict[str, Table]:
    one, two = read_sweep(first), read_sweep(second)
    axes = [axis for axis in one.axes if axis in two.axes]
    for folder, sweep in ((first, one), (second, two)):
        if not axes or sweep.table.duplicated(axes).any():
            shared = f"only the axes {', '.join(axes)}" if axes else "no axes"
            what = f"its points cannot be paired: the two sweeps share {shared}"
            raise InputError([Problem(str(folder), "", what)])
    lost = [losses(sweep.table) for sweep in (one, two)]
    columns = list(dict.fromkeys(name for table in lost for name in table))
    tables = [
        sweep.table.assign(**table.reindex(columns=columns, fill_value=0.0))
        for sweep, table in zip((one, two), lost, strict=True)
    ]
    numbers = [name for name in POINT_NUMBERS if all(name in table for table in tables)]
    kept = [table[[*axes, "status", *numbers]] for table in tables]
    kept = [table.assign(number=range(len(table))) for table in kept]
    for table in kept:
        table[axes] = table[axes].astype(str)
    joined = kept[0].merge(kept[1], on=axes, suffixes=("_first", "_second"))
    if joined.empty:
        what = f"no point has the axes' values of a point of '{second}'"
        raise InputError([Problem(str(first), "", what)])
    if "output_throughput" in numbers:
        joined = joined.assign(ratio=_speeds(joined))
    numbered = joined[["number_first", "number_second"]]
    joined = joined.drop(columns=numbered.columns).join(paired_ratios(first, second, numbered))
    bases = [read_sweep_file(folder).get("experiment", {}) for folder in (first, second)]
    settings = [row for row in _settings(bases[0], bases[1]) if row[0] not in axes]
    lone = [len(table) - len(joined) for table in kept]
    alone = _table([("points without a partner", lone[0], lone[1])])
    return {"configuration": _table(settings), "points": joined, "alone": alone}
