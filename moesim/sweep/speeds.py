"""How fast the points of a sweep are, and what they leave out for it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from moesim.config.registry import Registry
from moesim.memory.policies import registry as policies
from moesim.memory.prefetch import registry as prefetchers
from moesim.sweep.kinds import kinds
from moesim.workload.arrivals import registry as arrivals
from moesim.workload.arrivals.base import Arrivals


def numbers(table: pd.DataFrame, column: str) -> pd.Series[float]:
    """``column`` as floats; missing where the table lacks it or its value."""
    if column not in table.columns:
        return pd.Series(np.nan, index=table.index)
    return table[column].astype("float64")


def throughput(table: pd.DataFrame) -> pd.Series[float]:
    """The tokens a second of each point: decoded ones, or processed ones where none decodes.

    The series' name says which and is a key of ``THROUGHPUTS``.
    """
    output = numbers(table, "output_throughput")
    if (output > 0).any():
        return output.rename("output_throughput_tokens_per_s")
    return processed(table)


def processed(table: pd.DataFrame) -> pd.Series[float]:
    """The tokens a second of each point, those of prompts and those decoded."""
    speed = numbers(table, "tokens") * 1e3 / numbers(table, "duration_ms")
    return speed.rename("processed_throughput_tokens_per_s")


THROUGHPUTS = {
    "output_throughput_tokens_per_s": "Output throughput (tokens/s)",
    "processed_throughput_tokens_per_s": "Throughput, prompts included (tokens/s)",
}
"""The columns that a throughput stands in, and what their axis says."""


SUBSTITUTED = "gate_weight_shares.substituted"
LOSSES = {
    "dropped_share": "drop", "skipped_share": "skip", "cut_share": "cut", SUBSTITUTED: "substitute",
}  # fmt: skip
"""Shares of all choices that are not computed, and how that is called: a gating drops what it has
no room for, what is done about misses may skip experts, and transforms of the routing cut choices
(their share of the gate weight, where it is known); the gate weight that other experts compute."""
CUT, CUT_WEIGHT, CHOICES = "cut_share", "gate_weight_lost", "mean_choices"
SKIPPED, SKIPPED_WEIGHT = "skipped_share", "skipped_gate_weight_share"
GOOD = "slo_attainment.all"
"""The share of requests that keep all that their clients are promised."""
COST = "cost_usd_per_million_output_tokens"
GOOD_COST = "cost_usd_per_million_good_tokens"
LOWERED = "lowered_share"
"""The share of gate weight that is served in a worse format; nothing is left out."""
LOST = (*LOSSES, SKIPPED_WEIGHT, LOWERED)
"""All shares of what a run leaves out, or does less well."""


def losses(table: pd.DataFrame) -> pd.DataFrame:
    """What each point leaves out: ``dropped_share``, 0 where it drops nothing; and where some point
    skips experts, ``skipped_share`` likewise and its ``skipped_gate_weight_share``, if known; where
    some serves experts in a worse format, ``lowered_share``.
    """
    found = {name: numbers(table, name).fillna(0.0) for name in LOSSES}
    for name in (CUT, SUBSTITUTED):
        if not found[name].any():
            del found[name]
    if not found[SKIPPED].any():
        del found[SKIPPED]
    else:
        found[SKIPPED_WEIGHT] = numbers(table, SKIPPED_WEIGHT)
    if (lowered := numbers(table, LOWERED).fillna(0.0)).any():
        found[LOWERED] = lowered
    return pd.DataFrame(found, index=table.index)


def loses(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether each point leaves choices out."""
    found = losses(table)
    return (found[[name for name in LOSSES if name in found]] > 0).any(axis=1)


def how_lost(table: pd.DataFrame, ending: str = "") -> str:
    """``drop``, ``skip`` or ``drop or skip``, as points do, each with the ``ending``; "" where none
    leaves choices out.
    """
    found = losses(table)
    verbs = (verb for name, verb in LOSSES.items() if name in found and found[name].any())
    return " or ".join(f"{verb}{ending}" for verb in verbs)


def ranked(
    table: pd.DataFrame, *, allow_drops: bool = False, offline: bool = False
) -> pd.Series[float]:
    """The throughput of the points that ran to their end, the fastest first: of those that dropped
    or skipped no choice, or also of others with ``allow_drops``; of those that any program can
    reach, where there are some, or also of those that know the future with ``offline``.
    """
    speed = throughput(table)[table["status"] == "ok"].dropna()
    if not allow_drops:
        speed = speed[~loses(table)[speed.index]]
    known = knows_future(table)[speed.index]
    if not offline and not known.all():
        speed = speed[~known]
    return speed[speed > 0].sort_values(ascending=False, kind="stable")


def kept_up(table: pd.DataFrame, experiment: Mapping[str, Any]) -> pd.Series[bool]:
    """Whether requests of each point came when they came, whatever ended, and it kept up with them:
    they set its throughput, and no setting of it does. ``experiment``: the sweep's, plain.
    """
    if "saturated" not in table.columns:
        return pd.Series(data=False, index=table.index)
    timed = {
        kind
        for kind, one in arrivals.components.items()
        if one.clockless is False and one.concurrency is Arrivals.concurrency
    }
    keeps_up = table["saturated"].map(lambda one: pd.notna(one) and not one).astype(bool)
    return kinds(table, "workload.arrivals", experiment).isin(timed) & keeps_up


TOGETHER, OF_A_REQUEST = "tokens/s", "tokens/s a request"
"""What speeds are: of all requests together, or, where these come when they come, of one."""


def speed_of(summary: Mapping[str, Any], *, timed: bool) -> float | None:
    """Decoded tokens a second, all tokens where none is decoded, or what a request gets of them
    where they are ``timed``; None of what did not run.
    """
    if timed:
        return of_a_request(summary)
    return summary.get("output_throughput") or summary.get("total_token_throughput")


def of_a_request(summary: Mapping[str, Any]) -> float | None:
    """Decoded tokens a second that a request gets, from when it is sent to its end, waiting
    included; None of a run without answers.
    """
    whole, ended = summary.get("mean_e2el_ms"), summary.get("completed")
    tokens = summary.get("total_output_tokens")
    return 1e3 * tokens / ended / whole if tokens and ended and whole else None


def knows_future(table: pd.DataFrame) -> pd.Series[bool]:
    """Whether a policy or prefetcher of each point, on an axis, knows the future (``min``, an
    oracle).
    """
    known = pd.Series(data=False, index=table.index)
    for path, registry in (("experts.policy", policies), ("experts.prefetch", prefetchers)):
        known |= kinds(table, path).map(lambda kind, known=registry: _looks_ahead(kind, known))
    return known


def _looks_ahead(kind: str, known: Registry[Any]) -> bool:
    return bool(getattr(known.components.get(kind), "looks_ahead", False))


def share_in_words(share: float) -> str:
    """``38.0 %``; what is there but too small to show as ``<0.1 %``."""
    return "<0.1 %" if 0 < share < 0.0005 else f"{100 * share:.1f} %"  # noqa: PLR2004


def losses_in_words(table: pd.DataFrame, *, told: bool = False) -> str:
    """``drops 38.0 %`` (of choices) of one point, ``drops 0.0 % to 38.0 %`` of several, and
    ``skips 8.1 % of gate weight``, or ``of choices`` where the weight is not known; what is served
    in a worse format; "" where there is nothing of it. ``told``: for a sentence, as ``drops 38.0 %
    of its choices``.
    """
    found, its = losses(table), "its " if told else ""
    words = []
    if dropped := _ends(found["dropped_share"]):
        words.append(f"drops {dropped}{' of its choices' if told else ''}")
    if SKIPPED in found:
        skipping = found[SKIPPED] > 0
        weighed = found.loc[skipping, SKIPPED_WEIGHT].notna().all()
        shares = found[SKIPPED_WEIGHT].where(skipping, 0.0) if weighed else found[SKIPPED]
        words.append(f"skips {_ends(shares)} of {its}{'gate weight' if weighed else 'choices'}")
    if CUT in found:
        unknown = CHOICES in table and numbers(table, CUT_WEIGHT)[found[CUT] > 0].isna().any()
        words.append(f"cuts {_ends(found[CUT])} of {its}{'choices' if unknown else 'gate weight'}")
    if SUBSTITUTED in found:
        words.append(f"substitutes {_ends(found[SUBSTITUTED])} of {its}gate weight")
    if LOWERED in found:
        words.append(f"serves {_ends(found[LOWERED])} of {its}gate weight in a worse format")
    return (" and " if told else ", ").join(words)


def _ends(shares: pd.Series[float]) -> str:
    """``38.0 %``, or the least and the most of several; "" where all are 0."""
    if not (shares > 0).any():
        return ""
    ends = (share_in_words(float(end)) for end in (shares.min(), shares.max()))
    return " to ".join(dict.fromkeys(ends))
