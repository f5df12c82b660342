"""What was asked of moesim's numbers and what they reach: the table of docs/evidence.md.

``scripts/published_runs.py`` writes the table from the packs' kept results and the profiles' errors
on shapes left out; numbers that rest on measurements which are not shipped are written here, with
the day on which they were found.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from moesim.calibrate.published.predict import median_error, right_pairs, within
from moesim.hardware import hardware_names, load_hardware

BY_ANOTHER_RUN = "13 % with one (172 pairs of `offload_sweeps`)"
"""Each run with its host fitted to another of the same machine (``fitted_hosts`` and ``judged`` of
``moesim.calibrate.published.predict``), as of 2 December 2026.
"""
ALL_RESIDENT = "3090|5090"
"""How runs of ``offload_sweeps`` begin whose experts are all on the GPU."""
OF_SIXTEEN = "-b16"
RESIDENT_WHY = {
    "ik_llama.cpp": "launches of April 2026 stand for those of spring 2025"
    " ([](evidence_offloading.md#runs-that-nobody-here-had-predicted))",
    "llama.cpp": "its Vulkan back-end, for which CUDA's profile stands",
}
LOOPED = "closed_loops"
"""The pack whose ranges hold nearly all of its runs, a quarter of all."""
OWN_RANGE = "two_cores"
"""The pack whose ranges are as wide as 72 of its own runs were off."""
RECORDED = {
    "rtx4090": ((0.6, 0.2, 0.5), "every price of this card is a prior; the peer's were measured"),
    "rtxpro6000": ((-4.0, -1.0, -1.8), "the first token is met; both others miss by .4 at most"),
}
"""How far LLMServingSim is off, in percent, by prices that were measured on these cards."""
FROM_A_DRIVE = "-nvme"
"""How runs of ``offload_reports`` end whose experts are read from one."""
HEADS = ("of", "asked", "reached", "met", "why not", "shown by")
UNSEEN = "`held_out`, `errors` of the profiles"
LOOPS, VLLM = "`served_requests`", "`vllm_requests`"
"""Checks of ``python -m verification`` with measurements at hand."""
TABLES = {"framework": "VLLM"}
OFFLOADING, ORDER, INSIDE, RESIDENT, OTHER_ROWS = 20, 0.92, 0.85, 6, (8, 25)
"""Percent of the time, and shares of pairs and of runs; a median and a 90th percentile."""


class Row(NamedTuple):
    """A line of the table; ``why``: of what is missed."""

    of: str
    asked: str
    reached: str
    met: str
    why: str
    shown: str


class Kernels(NamedTuple):
    """Fits of a ``family`` that have these attributes (one of None: any but NCCL), and the median
    and p90 that are asked.
    """

    of: str
    family: str
    have: Mapping[str, Any]
    asked: tuple[float, float]
    why: str


KERNELS = (
    Kernels(
        "products in bf16", "products", {"dtype": "bf16"}, (3, 11),
        "two versions of one library differ by more",
    ),
    Kernels(
        "products in fp8, whole", "products", {"dtype": "fp8", **TABLES}, (5, 15),
        "a b200's table has times twice those of their neighbours, which no other shape foretells",
    ),
    Kernels(
        "products in fp8, by blocks", "products", {"dtype": "fp8", "framework": "SGLang"}, (5, 15),
        "DeepGEMM; runs under SGLang alone take them",
    ),
    Kernels(
        "decode attention", "attention", {"op": "attention_decode", "dtype": "bf16", **TABLES},
        (2.5, 10), "kernels of trtllm-gen on three Blackwell servers, by .2 and .5 at most",
    ),
    Kernels(
        "expert kernels in bf16", "experts", {"dtype": "bf16", **TABLES}, (1.5, 6),
        "launches of one or two tokens, and sizes that are no multiple of 64; by ratios of other"
        " shapes they are foretold worse",
    ),
    Kernels(
        "expert kernels in fp8", "experts", {"dtype": "fp8", **TABLES}, (1.5, 6),
        "as in bf16; FlashInfer's CUTLASS kernels on Hopper are off by 13 / 50 %",
    ),
    Kernels(
        "collectives of NCCL", "collectives", {"kernel": "NCCL"}, (6, 15),
        "cards that PCIe joins: sizes at which a kernel changes its way",
    ),
    Kernels(
        "engines' own all-reduces", "collectives", {"op": "all_reduce", "kernel": None}, (6, 15),
        "sizes at which a kernel changes its way",
    ),
)  # fmt: skip
MEASURED_ELSEWHERE = (
    Row(
        "closed loops, all 100: TPOT", "8 / 25 %", "5 / 12 %", "yes",
        "", LOOPS,
    ),
    Row(
        "the same: TTFT", "none", "15 / 44 %", "-",
        "short prompts of SGLang and TensorRT-LLM have a floor that no source prices", LOOPS,
    ),
    Row(
        "61 resident decodes of these loops", "8 / 25 %", "5 / 14 %", "yes",
        "", "`resident_decodes`",
    ),
    Row(
        "resident decode at batch 1, vLLM", "6 %", "-2 % (the last second of the RTX PRO"
        " 6000's run: 87 tokens/s, 11.5 ms; 11.3 priced)",
        "yes", "one card", VLLM,
    ),
    Row(
        "distance of distributions of TTFT (Kolmogorov-Smirnov), RTX 4090",
        "no number; LLMServingSim has .05", ".12", "-",
        "every price of this card is a prior; LLMServingSim's were measured on it", VLLM,
    ),
    Row("the same, RTX PRO 6000", "no number; LLMServingSim has .12", ".09", "-", "", VLLM),
)  # fmt: skip
"""Of measurements that are not shipped, as of 3 December 2026."""


def targets(kept: Mapping[str, pd.DataFrame]) -> Sequence[str]:
    """The lines of the table, by the packs' results that were ``kept``."""
    packs = (_ranges, _offloading, _resident, _unseen, _loops, _recorded, _throughputs)
    found = [row for pack in packs for row in pack(kept)]
    rows = [HEADS, *_kernels(), *found, *MEASURED_ELSEWHERE]
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return [lines[0], "|" + "---|" * len(HEADS), *lines[1:]]


def _kernels() -> Iterator[Row]:
    """Errors on shapes left out: of the middle fit, how many meet what is asked, and the worst."""
    cards = {name: load_hardware(name).calibrated for name in hardware_names() if "dgx" not in name}
    for kind in KERNELS:
        found = [
            (one.median_percent, one.p90_percent, name)
            for name, card in cards.items()
            for fit in getattr(card, kind.family, ())
            if (one := fit.unseen) is not None and _is(fit, kind.have)
        ]
        table = pd.DataFrame(found, columns=["median", "p90", "card"])
        sizes = table[["median", "p90"]]
        middle, every = sizes.median(), (sizes <= [*kind.asked]).all(axis=1)
        meet = f"{every.sum()} of {len(every)} fits meet both"
        told = f"{_both(*middle)} ({meet}; worst {_worst(table)})"
        met = "yes" if every.all() else _met(*(middle <= [*kind.asked]))
        why = "" if met == "yes" else kind.why
        yield Row(
            f"{kind.of}, {len(table)} fits",
            "{:g} / {:g} %".format(*kind.asked),
            told,
            met,
            why,
            UNSEEN,
        )


def _ranges(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Of every pack together, and which of them have fewer inside than is asked."""
    parts = {name: within(table) for name, table in kept.items() if name != OWN_RANGE}
    inside, of = (sum(part) for part in zip(*parts.values(), strict=True))
    less = [f"{n} {i} of {k}" for n, (i, k) in parts.items() if i < INSIDE * k]
    met, what = inside >= INSIDE * of, f"every pack but {OWN_RANGE}: inside the stated range"
    yield _row(what, "85 %", _share(inside, of), met, f"fewer: {', '.join(less)}", pack="all")
    i, k = parts[LOOPED]
    share, met = _share(inside - i, of - k), inside - i >= INSIDE * (of - k)
    why = f"{LOOPED} have {i} of {k}"
    yield _row(f"the same without {LOOPED}", "85 %", share, met, why, pack="all")
    slower, out = map(sum, zip(*(outside(table) for table in kept.values()), strict=True))
    what = "outside of the range, all packs: slower than stated"
    yield Row(what, "half", _share(slower, out), "-", "too fast is told more often", "`--pack all`")


def outside(table: pd.DataFrame) -> tuple[int, int]:
    """How many runs were slower than the least of their range, and how many lie outside of it."""
    known = table[table["low_tokens_per_s"] < table["high_tokens_per_s"]]
    slower = known["measured_tokens_per_s"] < known["low_tokens_per_s"]
    inside, of = within(table)
    return int(slower.sum()), of - inside


def _resident(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Runs of one request, all on the GPU, that stand among offloading."""
    runs = kept["offload_sweeps"]
    alone = runs[runs["run"].str.match(ALL_RESIDENT) & ~runs["run"].str.endswith(OF_SIXTEEN)]
    for family, mine in alone.groupby("family"):
        why = RESIDENT_WHY.get(str(family), "")
        told = ", ".join(f"{one:+.0f}" for one in mine["error_percent"]) + " %"
        error, what = median_error(mine), f"the same, {family}, all on the GPU"
        yield _row(what, "6 %", told, error <= RESIDENT, why, pack="offload_sweeps")


def _offloading(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    runs = kept["published"]
    error, (right, pairs), (inside, of) = median_error(runs), right_pairs(runs), within(runs)
    resident = runs[runs["run"].isin(["c1", "c2"])]["error_percent"].abs().median()
    asked = "20 %; 15 % with a run of each host"
    told = f"{error:.0f} % without; {BY_ANOTHER_RUN}"
    yield _row("offload runs: median", asked, told, error <= OFFLOADING)
    order, why = _share(right, pairs), "[](evidence_offloading.md#six-pairs-in-the-wrong-order)"
    yield _row("the same: pairs in the measured order", "92 %", order, right >= ORDER * pairs, why)
    share, why = (
        _share(inside, of),
        "[which, and by what](evidence_offloading.md#how-the-ranges-came)",
    )
    yield _row("the same: inside the stated range", "85 %", share, inside >= INSIDE * of, why)
    told = f"{resident:.1f} % (c1, c2)"
    why = "since choices made after they were seen"
    yield _row("resident decode at batch 1, llama.cpp", "6 %", told, resident <= RESIDENT, why)


def _unseen(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    """Of packs that were predicted before any of their runs was looked at."""
    sweeps, bench = kept["offload_sweeps"], kept["llama_bench"]
    runs = sweeps[~sweeps["of"].astype(bool) & ~sweeps["run"].str.match(ALL_RESIDENT)]
    error, (right, pairs), (inside, of) = median_error(runs), right_pairs(runs), within(runs)
    what, pack = f"{len(runs)} offload runs that nobody here had predicted", "offload_sweeps"
    told, why = f"{error:.1f} % without (20.4 % blind)", "the [host](evidence_offloading.md) again"
    met = error <= OFFLOADING
    yield _row(f"{what}: median", "20 %", told, met, "" if met else why, pack=pack)
    order = _share(right, pairs)
    yield _row("the same: order", "92 %", order, right >= ORDER * pairs, why, pack=pack)
    share = _share(inside, of)
    yield _row("the same: inside the stated range", "85 %", share, inside >= INSIDE * of, pack=pack)
    reports = kept["offload_reports"]
    runs = reports[~reports["of"].astype(bool) & ~reports["run"].str.endswith(FROM_A_DRIVE)]
    error, (inside, of) = median_error(runs), within(runs)
    what, pack = f"{len(runs)} more, of servers most: median", "offload_reports"
    told = f"{error:.0f} % without (33 % blind)"
    yield _row(what, "20 %", told, error <= OFFLOADING, why, pack=pack)
    share = _share(inside, of)
    yield _row("the same: inside the stated range", "85 %", share, inside >= INSIDE * of, pack=pack)
    for machine, why in (("gb10", ""), ("m2-ultra", "[](evidence_llama_bench.md)")):
        alone = bench[bench["run"].str.contains(f"-{machine}-decode.*-x1$")]
        what = f"resident decode at batch 1 of four models, llama.cpp on {machine}"
        error = median_error(alone)
        yield _row(what, "6 %", f"{error:.0f} %", error <= RESIDENT, why, pack="llama_bench")


def _loops(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    loops = kept["closed_loops"]
    for of, name, asked in (("mean_tpot_ms", "TPOT", 5), ("mean_ttft_ms", "TTFT", 20)):
        size = loops[loops["of"] == of]["error_percent"].abs()
        what = f"closed loops, the {len(size)} whose settings are known: {name}"
        told = f"{size.median():.0f} / {size.quantile(0.9):.0f} %"
        yield _row(what, f"{asked} %", told, size.median() <= asked, pack="closed_loops")


def _recorded(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    runs = kept["vllm_runs"]
    for card, (peer, why) in RECORDED.items():
        errors = runs[runs["run"].str.startswith(card)]["error_percent"].round(1)
        what = f"recorded run of vLLM, {card}: TTFT, TPOT, E2EL"
        asked, told = (", ".join(f"{one:+.1f}" for one in of) + " %" for of in (peer, errors))
        met = bool((errors.abs() <= np.abs(peer)).all())
        yield _row(what, f"as LLMServingSim: {asked}", told, met, why, pack="vllm_runs")


def _throughputs(kept: Mapping[str, pd.DataFrame]) -> Iterator[Row]:
    rows = kept["throughputs"]
    size, name = rows["error_percent"].abs(), rows["run"]
    hopper = name.str.contains("gpt-oss") & name.str.contains("h100|h200")
    other = size[~hopper]
    why = (
        f"{hopper.sum()} rows of gpt-oss on Hopper ([](evidence_served.md#throughputs)); but for"
        f" these {other.median():.0f} / {other.quantile(0.9):.0f} %"
    )
    told = f"{size.median():.0f} / {size.quantile(0.9):.0f} %"
    met = size.median() <= OTHER_ROWS[0] and size.quantile(0.9) <= OTHER_ROWS[1]
    what = f"throughputs of TensorRT-LLM, {len(rows)} of 56 rows"
    yield _row(what, "8 / 25 %", told, bool(met), why, pack="throughputs")


def _row(
    of: str, asked: str, reached: str, met: bool, why: str = "", pack: str = "published"
) -> Row:
    return Row(of, asked, reached, "yes" if met else "no", why, f"`--pack {pack}`")


def _is(fit: Any, have: Mapping[str, Any]) -> bool:
    given = {name: getattr(fit, name, None) for name in have}
    return all(
        given[name] != "NCCL" if value is None else given[name] == value
        for name, value in have.items()
    )


def _worst(table: pd.DataFrame) -> str:
    """The largest median and the largest p90 with their cards."""
    rows = table.to_dict("records")
    ends = [(name, max(rows, key=lambda row: row[name])) for name in ("median", "p90")]
    return " / ".join(f"{row[name]:.1f} ({row['card']})" for name, row in ends)


def _met(median: bool, p90: bool) -> str:
    """Which of both the middle fit meets, where not every one meets both."""
    if median == p90:
        return "in the middle" if median else "no"
    return "the median" if median else "p90"


def _both(median: float, p90: float) -> str:
    return f"{median:.1f} / {p90:.1f} %"


def _share(right: int, every: int) -> str:
    return f"{right} of {every}: {100 * right / every:.0f} %"
