"""The judge: a slow, obvious reading of the design's section 3 over plain lists.

It shares no code with the package. ``judge`` decides first (batches, rows, turns), then runs the
clock: decisions never read it (3.2).
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .judge_batches import Pass, passes_of
from .judge_cache import Cache, usage_of
from .judge_clock import Clock
from .judge_gating import Routed, local_experts, route
from .judge_misses import HOST, LINK, Misses
from .judge_words import (
    CATEGORIES,
    DECODE,
    PHASE_NAMES,
    PREFILL,
    Config,
    Model,
    Prices,
    Trace,
    Turn,
    Verdict,
)


def judge(trace: Trace, model: Model, config: Config, prices: Prices) -> Verdict:
    passes = passes_of(trace, config)
    routed = [route_pass(one, trace, model, config) for one in passes]
    turns = decide(passes, routed, trace, model, config, prices)
    clock = Clock(trace, model, config, prices)
    verdict = Verdict(gpus=config.gpus)
    for one, layers in zip(passes, routed, strict=True):
        mine = {(g, m): turns[one.step, m, g] for m in layers for g in range(config.gpus)}
        before, starts = charged(clock), [gpu.t for gpu in clock.gpus]
        start, end, rows = clock.run_pass(one, layers, mine)
        after = charged(clock)
        verdict.times.append((starts, [gpu.t for gpu in clock.gpus]))
        verdict.layers += rows
        now = [turn for m in layers for g in range(config.gpus) for turn in mine[g, m]]
        verdict.turns += now
        for layer in layers.values():
            count_layer(verdict, layer, model, config)
        verdict.charges.append(
            [[b - a for a, b in zip(*gpu, strict=True)] for gpu in zip(before, after, strict=True)]
        )
        spent = total(verdict.charges[-1])
        verdict.steps.append(step_row(one, (start, end), now, spent, model))
        verdict.steps[-1]["bytes_h2d"] += clock.unneeded * model.expert_bytes
    finish(verdict, clock, trace, passes)
    return verdict


def route_pass(one: Pass, trace: Trace, model: Model, config: Config) -> dict[int, Routed]:
    """Every MoE layer that this pass runs, by its place among the MoE layers."""
    runs = model.layers_of(one.phase)
    return {
        m: route(one, m, trace, model, config)
        for m, layer in enumerate(model.moe_layers)
        if layer in runs
    }


def decide(
    passes: list[Pass],
    routed: list[dict[int, Routed]],
    trace: Trace,
    model: Model,
    config: Config,
    prices: Prices,
) -> dict[tuple[int, int, int], list[Turn]]:
    """The turns of every (step, MoE layer, GPU): each cache through all its steps."""
    turns = {}
    around = [config.prefill != "cache" and one.phase == PREFILL for one in passes]
    number = [sum(not a for a in around[:s]) for s in range(len(passes))]  # as caches count passes
    every = list(range(len(model.moe_layers)))
    for pool in [every] if config.scope == "global" else [[m] for m in every]:
        usage = {
            (m, e): count
            for m in pool
            for e, count in enumerate(usage_of(trace, m, model.experts, config.first_part))
        }
        for g, local in enumerate(local_experts(model, config)):
            needs = [
                (s, m, layers[m].needed[g])
                for s, layers in enumerate(routed)
                for m in pool
                if m in layers
            ]
            asked = [(number[s], m, ids) for s, m, ids in needs if not around[s]]
            cache = Cache(config, gpu=g, layers=pool, local=local, usage=usage, needs=asked)
            for step, m, ids in needs:
                weights = weights_of(passes[step], m, trace)
                misses = Misses(config, model, model.moe_layers[m], prices)
                rows = routed[step][m].rows
                if around[step]:
                    turns[step, m, g] = cache.pass_by(step, m, ids, rows, misses)
                else:
                    turns[step, m, g] = cache.step(
                        step, number[step], m, ids, rows, weights, misses
                    )
                for turn in turns[step, m, g]:
                    turn.kept_rows = routed[step][m].kept[turn.expert]
    return turns


def weights_of(one: Pass, moe_layer: int, trace: Trace) -> dict[int, int]:
    """Each expert's gate weights of all tokens, in units of 2**-24 (whole numbers in fp16)."""
    weights: dict[int, int] = {}
    if "gate_weights" not in trace:
        return weights
    for part in one.parts:
        for row in part.rows:
            ids, of_ids = (trace[c][row][moe_layer] for c in ("expert_ids", "gate_weights"))
            for expert, weight in zip(ids, of_ids, strict=True):
                weights[expert] = weights.get(expert, 0) + int(weight * 2**24)
    return weights


def charged(clock: Clock) -> list[list[int]]:
    return [[gpu.charged[c] for c in CATEGORIES] for gpu in clock.gpus]


def total(charges: list[list[int]]) -> dict[str, int]:
    """Over GPUs."""
    return {c: sum(gpu[i] for gpu in charges) for i, c in enumerate(CATEGORIES)}


def count_layer(verdict: Verdict, routed: Routed, model: Model, config: Config) -> None:
    verdict.layer_steps += 1
    verdict.dropped += routed.dropped
    verdict.rows_executed += sum(routed.rows)
    verdict.rows_kept += sum(routed.kept)
    on_gpu = [sum(routed.rows[e] for e in local) for local in local_experts(model, config)]
    verdict.sum_of_largest_rows += max(on_gpu)


def step_row(
    one: Pass, time: tuple[int, int], turns: list[Turn], spent: dict[str, int], model: Model
) -> dict[str, Any]:
    tokens = sum(len(part.rows) for part in one.parts)
    misses = sum(not turn.hit for turn in turns)
    host, link = (sum(turn.place == place for turn in turns) for place in (HOST, LINK))
    return {
        "step": one.step,
        "phase": PHASE_NAMES[one.phase],
        "start_ns": time[0],
        "end_ns": time[1],
        "tokens": tokens,
        "decode_tokens": tokens if one.phase == DECODE else 0,
        "live_requests": len(one.parts),
        "turns": len(turns),
        "hits": len(turns) - misses,
        "late": 0,
        "misses": misses,
        "host_turns": host,
        "zero_copy_turns": link,
        "accesses": sum(turn.kept_rows for turn in turns),
        "access_hits": sum(turn.kept_rows for turn in turns if turn.hit),
        "bytes_h2d": (misses - host) * model.expert_bytes,
        "stall_ns": spent["waiting_for_weights"],
        "barrier_ns": spent["waiting_for_gpus"],
        "cpu_wait_ns": spent["waiting_for_cpu"],
        "attention_ns": spent["attention"],
        "gate_ns": spent["gate"],
        "dispatch_combine_ns": spent["dispatch_combine"],
        "experts_ns": spent["experts"],
        "host_ns": spent["host"],
    }


def finish(verdict: Verdict, clock: Clock, trace: Trace, passes: list[Pass]) -> None:
    """The whole run's sums, and each request's time per output token."""
    counted = ("hits", "late", "misses", "host_turns", "zero_copy_turns", "accesses", "access_hits")
    spent = ("bytes_h2d", "stall_ns", "barrier_ns", "cpu_wait_ns")
    for name in ("tokens", "decode_tokens", *counted, *spent):
        setattr(verdict, name, sum(step[name] for step in verdict.steps))
    verdict.duration_ns = verdict.steps[-1]["end_ns"] if verdict.steps else 0
    verdict.time_ns = total(charged(clock))
    verdict.time_ns["idle"] = verdict.gpus * verdict.duration_ns - sum(verdict.time_ns.values())
    verdict.spans = clock.spans
    ends: dict[int, list[int]] = {}  # request -> ends of its decode steps
    tokens: dict[int, int] = {}
    for one, step in zip(passes, verdict.steps, strict=True):
        for part in one.parts:
            number = part.request.request_id
            ends.setdefault(number, [])
            tokens[number] = tokens.get(number, 0) + len(part.rows)
            if one.phase == DECODE:
                ends[number].append(step["end_ns"])
    for number in dict.fromkeys(trace["request_id"]):
        if number in ends:
            decoded = ends[number]
            tpot = Fraction(decoded[-1] - decoded[0], len(decoded) - 1) if decoded[1:] else None
            verdict.requests.append(
                {
                    "request_id": number,
                    "tokens": tokens[number],
                    "decode_tokens": len(decoded),
                    "first_ns": decoded[0] if decoded else None,
                    "last_ns": decoded[-1] if decoded else None,
                    "tpot_ns": tpot,
                    "ttft_ns": first_token(verdict, passes, number),
                }
            )


def first_token(verdict: Verdict, passes: list[Pass], request: int) -> list[int] | None:
    """From its first prompt token's pass to its last one's: time on its GPU, then by category."""
    mine = [
        (one.step, part.gpu)
        for one in passes
        if one.phase == PREFILL
        for part in one.parts
        if part.request.request_id == request
    ]
    if not mine:
        return None
    (first, gpu), (last, _) = mine[0], mine[-1]
    span = verdict.times[last][1][gpu] - verdict.times[first][0][gpu]
    charges = [step[gpu] for step in verdict.charges[first : last + 1]]
    return [span, *(sum(of_step) for of_step in zip(*charges, strict=True))]
