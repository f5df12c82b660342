"""Rows of one run's table that only some runs have."""

from __future__ import annotations

from collections.abc import Mapping
from math import ceil
from typing import Any

from moesim.config.counted import counted
from moesim.experiment.loading.quality import lost_beside
from moesim.report.amounts import gib, number, percent
from moesim.sweep.speeds import GOOD_COST, SKIPPED, SKIPPED_WEIGHT, share_in_words

Row = tuple[str, str]
LEAST_AFTER_FIRST_END = 0.75
"""Share of the requests that came once others left, below which times are those of a start."""


def rejected(summary: Mapping[str, Any]) -> list[Row]:
    """How many requests were not served, of a run that rejects some, and why: no time of it has
    them.
    """
    if not summary.get("rejected"):
        return []
    served = number(summary["completed"])
    why = "longer than the context served, the KV cache or a step, and in no time below"
    return [("requests served, rejected", f"{served}, {number(summary['rejected'])} ({why})")]


def start_of_a_service(summary: Mapping[str, Any]) -> str:
    """That most requests of a run came before any had left; nothing where they did not."""
    share = summary.get("after_first_end_share")
    if share is None or share >= LEAST_AFTER_FIRST_END:
        return ""
    came = f"{percent(share)} of the requests came after the first answer had ended"
    told = f"only {came}: times are those of a start, longer in a longer run"
    return f"{told}; {enough_requests(summary)}"


def enough_requests(summary: Mapping[str, Any]) -> str:
    """How many requests it takes that they are no start."""
    share, served = summary["after_first_end_share"], summary.get("completed") or 0
    least = ceil((1 - share) * served / (1 - LEAST_AFTER_FIRST_END))
    return f"write {least:,} requests or more" if least else "write more requests"


def _one(of: str) -> str:
    """``an output token``, ``a token``."""
    return f"{'an' if of.startswith('o') else 'a'} {of.replace('_', ' ')}"


def promises(summary: Mapping[str, Any]) -> list[Row]:
    """Whether a service keeps up, and what of its promises it keeps, by the limit that binds."""
    rows: list[Row] = []
    if summary.get("saturated"):
        what = "the waiting line grows to the end: times are those of so many requests"
        rows.append(("saturated", what))
    if what := start_of_a_service(summary):
        rows.append(("a start", what))
    kept = dict(summary.get("slo_attainment") or {})
    if not kept:
        return rows
    whole = kept.pop("all")
    least = min(kept, key=lambda name: kept[name])
    binds = f", {least} binds: {percent(kept[least])}" if len(kept) > 1 else ""
    if whole == 1:
        binds = ", all limits hold"
    good = f"{number(summary.get('request_goodput'))} requests/s"
    return [*rows, ("good requests", f"{percent(whole)}, {good}{binds}")]


def apart(summary: Mapping[str, Any]) -> list[Row]:
    """How busy instances that prefill and that decode are, and what goes from one to the other."""
    if not (busy := summary.get("busy_by_role")):
        return []
    exposed = summary.get("mean_kv_exposed_ms")
    later = (
        "" if exposed is None else f", there {number(exposed)} ms after prompts end, at the mean"
    )
    return [
        ("busy", ", ".join(f"{role} {percent(share)}" for role, share in busy.items())),
        ("keys and values sent", f"{gib(summary.get('kv_bytes_sent'))} by all GPUs{later}"),
    ]


def blocks(summary: Mapping[str, Any]) -> list[Row]:
    """The cache's blocks as vLLM prints them, how full they are, what a lack of them cost, and what
    was found in them.
    """
    rows, asked = list[Row](), summary.get("prefix_cache_queries_tokens")
    if count := summary.get("kv_blocks"):
        times = summary.get("kv_max_concurrency")
        room = "" if times is None else f", {times:.2f} x the longest request allowed"
        told = f"{number(count)} blocks, {number(summary['kv_tokens'])} tokens{room}"
        held = f"at most {percent(summary['kv_usage_max'])} held"
        rows.append(("KV cache of a rank", f"{told}; {held}"))
    if preemptions := summary.get("preemptions"):
        again = counted(summary["recomputed_tokens"], "token")
        rows.append(("preemptions", f"{number(preemptions)}, {again} computed again"))
    if asked and (found := summary["prefix_cache_hits_tokens"]):
        rows.append(("found in the KV cache", f"{percent(found / asked)} of prompts' tokens"))
    return rows


def marks(summary: Mapping[str, Any]) -> list[Row]:
    """Misses by whose tokens need the expert, of a run that counts them."""
    missed = [summary.get(f"{mark}_misses") for mark in ("decode", "prompt", "both")]
    if None in missed or not any(missed):
        return []
    caused = number(summary["decode_misses_caused_by_prompts"])
    told = ", ".join(map(number, missed))
    return [("  of answers, prompts, both", f"{told} ({caused} of answers caused by prompts)")]


def ttft(summary: Mapping[str, Any]) -> list[Row]:
    """When the first tokens came, of a run that has prompts."""
    mean, p99 = (summary.get(f"{which}_ttft_ms") for which in ("mean", "p99"))
    return [] if mean is None else [("TTFT mean, p99", f"{number(mean)}, {number(p99)} ms")]


_HOW = {"mmap": "page faults on storage"}


def storage(summary: Mapping[str, Any]) -> list[Row]:
    """What came from storage, of a run whose host memory does not hold all experts."""
    if summary.get("bytes_storage") is None:
        return []
    had = f"{percent(summary['host_hit_ratio'])} of what misses asked for"
    return [
        *([("host memory had", had)] if summary["host_hit_ratio"] is not None else []),
        (_HOW.get(str(summary.get("storage_path")), "read from storage"), _read(summary)),
        ("waits for storage", f"{number(summary['storage_wait_ms'])} ms"),
    ]


def _read(summary: Mapping[str, Any]) -> str:
    """The bytes, and which of them were read ahead."""
    ahead = summary.get("bytes_storage_ahead")
    if not ahead:
        return gib(summary["bytes_storage"])
    unused = gib(summary["bytes_storage_unused"])
    return f"{gib(summary['bytes_storage'])}, {gib(ahead)} of it ahead ({unused} not used)"


def speculation(summary: Mapping[str, Any]) -> list[Row]:
    """What verifying drafts gives, of a run that does."""
    kept, rate = summary.get("mean_acceptance_length"), summary.get("draft_acceptance_rate")
    if kept is None:
        return []
    distinct = number(summary.get("distinct_experts_per_pass"))
    accepted = "no drafts" if rate is None else f"{percent(rate)} of drafts accepted"
    return [
        ("tokens a step of a request", f"{number(kept)}, {accepted}"),
        ("experts of a layer and step", distinct),
    ]


def energy(summary: Mapping[str, Any]) -> list[Row]:
    """What a run that asks for it draws and costs, by token where it decodes, else by all."""
    get, rows = summary.get, []
    of = "output_token" if get("output_throughput") else "token"
    if get("total_energy_j") is not None:
        rows += [
            (f"joules {_one(of)}", f"{number(get(f'joules_per_{of}'))} J"),
            *((f"  {part}", percent(x / summary["total_energy_j"])) for part, x in
              (get("energy_j") or {}).items() if x),
            ("mean power", f"{number(get('mean_power_w'))} W"),
        ]  # fmt: skip
    for name, what, unit in (("carbon_g", "CO2", "g"), ("cost_usd", "cost", "$")):
        if (value := get(f"{name}_per_million_{of}s")) is not None:
            rows.append((f"{what} a million {of.replace('_', ' ')}s", f"{number(value)} {unit}"))
    if GOOD_COST in summary:
        good = get(GOOD_COST)
        told = "no request is good" if good is None else f"{number(good)} $"
        rows.append(("cost a million good tokens", told))
    return rows


def fates(summary: Mapping[str, Any]) -> list[Row]:
    """In which variants the experts were that served the tokens, of a run that has some."""
    if (slots := summary.get("slots_by_variant")) is None:
        return []
    what, shares = "gate weight", summary["gate_weight_shares"]
    if shares["full"] is None:  # the trace has no weights
        what, shares = "choices", summary["choice_shares"]
    told = ", ".join(f"{share_in_words(share)} {name}" for name, share in shares.items())
    return [(what, told), ("slots of variants", ", ".join(f"{n} {of}" for of, n in slots.items()))]


def quality(summary: Mapping[str, Any]) -> list[Row]:
    """What the user's table says of the answers, of a run that names one."""
    said = (summary.get("quality") or {}).items()
    why = "something else is lost" if lost_beside(summary) else "beyond its table"
    none = f"not known: {why}"
    return [(name, none if x is None else f"{number(x)}, by its table") for name, x in said]


def routing(summary: Mapping[str, Any]) -> list[Row]:
    """What transforms of the routing leave and lose, of a run that has some."""
    get = summary.get
    if get("mean_choices") is None:
        return []
    row = ("choices a token", f"{number(get('mean_choices'))} of {number(get('recorded_choices'))}")
    lost = get("gate_weight_lost")
    if lost is None:
        return [row, ("gate weight lost", "not known from this trace")]
    held_out = get("gate_weight_lost_held_out")
    beside = "" if held_out is None else f", {percent(held_out)} in tokens held out"
    return [row, ("gate weight lost", f"{percent(lost)}{beside}")]


def prefetches(summary: Mapping[str, Any]) -> list[Row]:
    """What prefetches did, of a run that starts some."""
    started, late, hidden = (
        summary.get(key) for key in ("prefetches", "late_share", "stall_hidden_share")
    )
    if not started:
        return []
    late_share = "" if late is None else f", {percent(late)} of them late"
    used = f"{number(summary.get('prefetches_used'))} of {number(started)} started{late_share}"
    stall = [] if hidden is None else [("stall hidden by them", percent(hidden))]
    return [("prefetches used", used), *stall]


def slots(summary: Mapping[str, Any]) -> str:
    """Slots a layer, in how many there are none, and how far they reach where others differ."""
    text, by_layer = number(summary.get("slots_per_layer")), summary.get("slots_by_layer") or ()
    some = [slots for gpu in by_layer for slots in gpu if slots]
    none = max((gpu.count(0) for gpu in by_layer), default=0)
    if len(set(some)) > 1:
        text = f"{text}, from {min(some)} to {max(some)}"
    return f"{text}, none in {counted(none, 'layer')}" if none else text


def layers_on_cpu(summary: Mapping[str, Any]) -> list[Row]:
    """Of how many layers the CPU has the experts, if of some, or if memory was to decide."""
    layers, auto = summary.get("layers_on_cpu"), summary.get("layers_on_cpu_auto")
    if not (layers or auto):
        return []
    told = f"{number(layers)} of {counted(summary['moe_layers'], 'layer')}"
    return [("experts on the CPU", f"auto: {told}" if auto else told)]


def stages(summary: Mapping[str, Any]) -> list[Row]:
    """What the GPU of each stage holds at most, where layers are split over GPUs."""
    rows = enumerate(summary.get("stages") or ())
    return [
        (
            f"GPU {gpu}: layers {row['first_layer']} to {row['last_layer']}",
            f"{gib(row['peak_memory_bytes'])}, {number(row['slots_per_layer'])} slots per layer",
        )
        for gpu, row in rows
    ]


def host(summary: Mapping[str, Any]) -> list[Row]:
    """What offloaded experts take on the host, if there are any."""
    host, pinned = (summary.get(f"{name}_memory_bytes") or 0 for name in ("host", "pinned"))
    return [("host memory", f"{gib(host)} {'pinned' if pinned else 'pageable'}")] if host else []


def throughput(summary: Mapping[str, Any]) -> list[Row]:
    """Decoded tokens a second; all tokens where prompts are among them."""
    output, total = summary.get("output_throughput"), summary.get("total_token_throughput")
    rows = [("output throughput", f"{number(output)} tokens/s")] if output else []
    if not output or (total and total > output):
        rows.append(("total token throughput", f"{number(total)} tokens/s"))
    return rows


def drops(summary: Mapping[str, Any]) -> list[Row]:
    """What the gating dropped for that throughput."""
    share, choices = summary.get("dropped_share"), number(summary.get("dropped_choices"))
    return [("choices dropped", f"{share_in_words(share)} ({choices})")] if share else []


def skips(summary: Mapping[str, Any]) -> list[Row]:
    """The choices whose experts were skipped, and how much of the tokens' gate weight that is."""
    share, choices = summary.get(SKIPPED), number(summary.get("skipped_choices"))
    weight = summary.get(SKIPPED_WEIGHT)
    if not share:
        return []
    of_weight = "the trace has no gate weights"
    if weight is not None:
        of_weight = f"{share_in_words(weight)} of gate weight"
    return [("choices skipped", f"{share_in_words(share)} ({choices}); {of_weight}")]


def interval(summary: Mapping[str, Any], name: str, unit: str) -> list[Row]:
    """A number after the warm-up with its interval, if it has one; a ratio without a unit."""
    found = (summary.get("intervals") or {}).get(name) or {}
    if found.get("low") is None:
        return []
    value, low, high = (number(found[k] * (1 if unit else 100)) for k in ("value", "low", "high"))
    return [("  after the warm-up", f"{value} [{low}, {high}] {unit or '%'}")]
