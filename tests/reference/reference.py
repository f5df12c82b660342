"""The reference: a slow, obvious reading of the design's section 3 over plain lists.

It shares no code with the package. ``reference`` makes batches and rows, then runs the clock, which
asks for a layer's activations when its counts are known. Only prefetches let decisions read the
clock, and a scheduler, which says what passes there are when all that it said before have ended.
"""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from .reference_ahead import Ahead, prefetches
from .reference_batches import Pass, Scheduler, way_of, whole_run
from .reference_cache import Cache, usage_of
from .reference_clock import Clock
from .reference_gating import Routed, route, weights_lost
from .reference_misses import BEHIND, HOST, LINK, SKIP, SUBSTITUTE, Misses
from .reference_placement import dealt_weights, local_experts, physical_experts
from .reference_prefetch import Predictions, counted
from .reference_rebalance import Places
from .reference_storage import Host as Storage
from .reference_storage_ahead import HostAhead
from .reference_stored_variants import HostVariants
from .reference_variants import VariantCaches, bytes_of
from .reference_window import HostWindow
from .reference_words import (
    DECODE,
    PHASE_NAMES,
    PREFILL,
    Activation,
    Config,
    Model,
    Prices,
    Trace,
    Verdict,
)

AHEAD = (
    "prefetched",
    "prefetches_used",
    "prefetches_cancelled",
    "prefetches_promoted",
    "misses_caused",
)


def reference(
    trace: Trace, model: Model, config: Config, prices: Prices, scheduler: Scheduler | None = None
) -> Verdict:
    """``scheduler``: what yields the passes, by default all at once."""
    coming = scheduler or whole_run(trace, config)
    clock = Clock(trace, model, config, prices)
    passes = next(coming)
    decisions = Decisions(passes, trace, model, config, clock)
    if config.host_slots is not None:
        usage = {
            (m, e): count
            for m in range(len(model.moe_layers))
            for e, count in enumerate(usage_of(trace, m, model.experts, 0.25))
        }
        clock.hosts = [
            host_of(decisions)(config, model, prices, node, usage) for node in range(config.nodes)
        ]
    verdict = Verdict(gpus=config.gpus)
    while passes:
        play(passes, verdict, decisions, clock)
        try:
            passes = coming.send([gpu.t for gpu in clock.gpus])
        except StopIteration:
            break
        decisions.learn_of(passes)
    finish(verdict, clock, trace, decisions.passes)
    read = [copy for ahead in decisions.ahead for copy in ahead.made if copy.read]
    verdict.storage_reads_ahead = len(read)
    places = decisions.places
    verdict.rebalanced = (places.times, places.bytes, places.beside)
    verdict.storage_reads_used = sum(copy.used for copy in read)
    return verdict


def host_of(decisions: Decisions) -> type[Storage]:
    if decisions.config.variants:
        return HostVariants
    if decisions.config.host_layers_ahead is not None:
        return HostWindow
    return HostAhead if decisions.ahead else Storage


def play(passes: list[Pass], verdict: Verdict, decisions: Decisions, clock: Clock) -> None:
    trace, model, config = clock.trace, clock.model, clock.config
    for one in passes:
        layers = decisions.routed[one.step]
        before = charged(clock)
        clock.moving, clock.beside = decisions.moving[one.step]
        starts = clock.begin_pass(one)
        decisions.begin(one.step)
        for of_gpu in decisions.ahead:
            of_gpu.load_before(one.step)
        _, end, rows = clock.run_pass(one, layers, decisions.activations)
        after = charged(clock)
        verdict.times.append((starts, [gpu.t for gpu in clock.gpus]))
        for row in rows:
            row.update(decisions.prefetches(row["step"], row["layer"], row["gpu"]))
        verdict.layers += rows
        mine = {(g, m): decisions.made[one.step, m, g] for m in layers for g in range(config.gpus)}
        now = [activation for m in layers for g in range(config.gpus) for activation in mine[g, m]]
        verdict.activations += now
        for m, layer in layers.items():
            count_layer(verdict, layer, [mine[g, m] for g in range(config.gpus)], config.parts)
            lost, whole, left = weights_lost(one, m, trace, config, layer.capacity)
            verdict.lost_weight += lost * config.parts
            verdict.weight += whole * config.parts
            held = physical_experts(m, model, config)
            for activation in [activation for g in range(config.gpus) for activation in mine[g, m]]:
                if activation.place == SKIP:
                    verdict.skipped_rows += activation.kept_rows
                    weight = weight_of(activation.expert, held, layer.kept, left)
                    if config.variants and "gate_weights" in trace:
                        of_each = dealt_weights(one, m, trace, model, config)
                        weight = of_each.get(activation.expert, 0)
                    verdict.skipped_weight += weight
        verdict.charges.append(
            [[b - a for a, b in zip(*gpu, strict=True)] for gpu in zip(before, after, strict=True)]
        )
        spent = total(verdict.charges[-1], config)
        ahead = {name: sum(row[name] for row in rows) for name in AHEAD}
        times = (min(starts), end)
        verdict.steps.append(step_row(one, times, now, ahead, spent, model, config))
        ahead_bytes = sum(of_gpu.bytes_of_pass(one.step) for of_gpu in decisions.ahead)
        verdict.steps[-1]["bytes_h2d"] += clock.unneeded + ahead_bytes
        verdict.steps[-1]["bytes_h2d"] *= not config.in_place
        copied = [one for one in model.layers_of(one.phase) if one.index < config.copied_layers]
        size = sum(model.layer_bytes(layer, config.reads_layers) for layer in copied)
        verdict.steps[-1]["bytes_h2d"] += size
        verdict.copied_bytes += size


def route_pass(one: Pass, trace: Trace, model: Model, config: Config) -> dict[int, Routed]:
    """Every MoE layer that this pass runs, by its place among the MoE layers."""
    runs = model.layers_of(one.phase)
    return {
        m: route(one, m, trace, model, config)
        for m, layer in enumerate(model.moe_layers)
        if layer in runs
    }


class Decisions:
    """The activations of every (pass, MoE layer, GPU), decided when they are asked for, in
    order.
    """

    def __init__(
        self,
        passes: list[Pass],
        trace: Trace,
        model: Model,
        config: Config,
        clock: Clock,
    ) -> None:
        """``passes``: the first ones; only what they say is known of the future."""
        self.trace, self.clock, self.config, self.model = trace, clock, config, model
        self.passes: list[Pass] = []
        self.places = Places(trace, model, config, clock.prices)
        self.moving: list[tuple[int, int]] = []
        self.routed: list[dict[int, Routed]] = []
        self.around: list[bool] = []
        self.number: list[int] = []  # as caches count passes
        self.learn_of(passes)
        self.caches: list[dict[int, Cache]] = []  # [gpu][MoE layer]
        self.made: dict[tuple[int, int, int], list[Activation]] = {}
        self.variants: list[dict[int, VariantCaches]] = []
        for g, local in enumerate(local_experts(model, config)):
            self.caches.append(self.caches_of(g, local))
            if config.variants:
                self.variants.append(self.variants_of(g, local))
        predictions = Predictions(config, model, trace, self.passes, self.routed)
        on = prefetches(config, {one.phase for one in passes})
        self.ahead = [
            Ahead(clock, g, of, predictions, self.variants[g] if self.variants else {})
            for g, of in enumerate(self.caches)
            if on
        ]

    def learn_of(self, passes: list[Pass]) -> None:
        """``passes`` come next."""
        for one in passes:
            self.number.append(self.around.count(False))
            self.around.append(way_of(one, self.config) in ("around", "whole"))
            self.passes.append(one)
            placed, *moving = self.places.next(one)
            self.moving.append((moving[0], moving[1]))
            self.routed.append(route_pass(one, self.trace, self.model, placed))

    def caches_of(self, g: int, local: list[int]) -> dict[int, Cache]:
        config, caches = self.config, {}
        every = list(range(len(self.model.moe_layers)))
        for pool in [every] if config.scope == "global" else [[m] for m in every]:
            usage = {
                (m, e): count
                for m in pool
                for e, count in self.each_replica(
                    m,
                    dict(enumerate(usage_of(self.trace, m, self.model.experts, config.first_part))),
                )
            }
            asked = [
                (self.number[s], m, layers[m].needed[g])
                for s, layers in enumerate(self.routed)
                for m in pool
                if m in layers and not self.around[s]
            ]
            sizes = {m: self.model.bytes_in(m) for m in pool}
            if len(set(sizes.values())) == 1:
                sizes = dict.fromkeys(pool, 1)
            cache = Cache(
                config, sizes, gpu=g, layers=pool, local=local, usage=usage, active_experts=asked
            )
            caches.update(dict.fromkeys(pool, cache))
        return caches

    def variants_of(self, g: int, local: list[int]) -> dict[int, VariantCaches]:
        """Caches of each variant, by MoE layer."""
        caches: dict[int, VariantCaches] = {}
        every = list(range(len(self.model.moe_layers)))
        for pool in [every] if self.config.scope == "global" else [[m] for m in every]:
            usage = {
                (m, e): count
                for m in pool
                for e, count in self.each_replica(
                    m,
                    dict(
                        enumerate(
                            usage_of(self.trace, m, self.model.experts, self.config.first_part)
                        )
                    ),
                )
            }
            of_pool = VariantCaches(self.config, self.trace, self.model, g, pool, local, usage)
            caches.update(dict.fromkeys(pool, of_pool))
        return caches

    def each_replica(self, m: int, of_experts: dict[int, int]) -> list[tuple[int, int]]:
        """The whole number of its expert for each physical one."""
        held = physical_experts(m, self.model, self.config)
        return [(p, of_experts.get(e, 0)) for p, e in enumerate(held)]

    def activations(self, step: int, m: int, g: int, now: int) -> list[Activation]:
        cache, routed = self.caches[g][m], self.routed[step][m]
        of_experts = weights_of(self.passes[step], m, self.trace)
        weights = dict(self.each_replica(m, of_experts))
        told = self.model.moe_layers[m], self.clock.prices, self.clock.share
        misses = Misses(self.config, self.model, *told)
        ids, rows = routed.needed[g], routed.rows
        cache.marks = self.marks(step, m, ids)
        if self.passes[step].given:
            cache.give(self.passes[step].given[g], step, m)
        held = physical_experts(m, self.model, self.config)
        logical = {e: held[e] for e in ids}
        if self.ahead:
            self.ahead[g].run_copies(now)
            served = dict.fromkeys(ids, 0)
            if self.variants:
                served = self.variants[g][m].serving(self.passes[step], m, logical)
            self.ahead[g].end_layer(step, m, served)
        if self.variants:
            activations = self.variants[g][m].step(
                self.passes[step], self.number[step], m, logical, rows, weights, misses, now
            )
        elif self.around[step]:
            whole = way_of(self.passes[step], self.config) == "whole"
            activations = cache.pass_by(step, m, ids, rows, misses, whole=whole)
        elif way_of(self.passes[step], self.config) == "apart" and not cache.all_resident:
            mine = [e for e in ids if cache.marks[e] in ("decode", "both")]
            others = [e for e in ids if e not in mine]
            activations = cache.step(step, self.number[step], m, mine, rows, weights, misses, now)
            misses = Misses(self.config, self.model, *told)
            behind = cache.pass_by(step, m, others, rows, misses, whole=False)
            for activation in behind:
                activation.part = 1
                activation.activation += len(activations)
            activations += behind
        else:
            activations = cache.step(step, self.number[step], m, ids, rows, weights, misses, now)
        if self.ahead:
            self.ahead[g].read(step, m, activations, now)
            self.ahead[g].issue(step, m, activations, now)
        for activation in activations:
            activation.kept_rows = routed.kept[activation.expert]
            activation.mark = cache.marks[activation.expert]
        self.made[step, m, g] = activations
        return activations

    def marks(self, step: int, m: int, ids: list[int]) -> dict[int, str]:
        """Whose tokens choose each of the experts ``ids``."""
        one, held = self.passes[step], physical_experts(m, self.model, self.config)
        choose: dict[int, set[str]] = {}
        for part in one.parts:
            for row in part.rows:
                for expert in self.trace["expert_ids"][row][m]:
                    choose.setdefault(expert, set()).add("decode" if part.decodes else "prompt")
        mine = {e: choose.get(held[e], set()) for e in ids}
        return {e: "both" if len(who) > 1 else "".join(who) for e, who in mine.items()}

    def begin(self, step: int) -> None:
        """Tell policies of a pass without a request of the one before."""
        near = self.passes[max(step - 1, 0) : step + 1]
        before, now = ({part.request.request_id for part in near[at].parts} for at in (0, -1))
        if step and before & now:
            return
        for g, of_gpu in enumerate(self.caches):
            for m, cache in of_gpu.items():
                for one in self.variants[g][m].caches if self.variants else [cache]:
                    one.policy.started(self.number[step])

    def prefetches(self, step: int, m: int, g: int) -> dict[str, int]:
        """What was meant for one layer, and the misses there that prefetches caused."""
        caused = sum(activation.caused for activation in self.made[step, m, g])
        copies = self.ahead[g].of_layer(step, m) if self.ahead else []
        made = self.ahead[g].made if self.ahead else []
        used = sum(copy.used_in == step and copy.expert[0] == m for copy in made)
        return {**counted(copies, used), "misses_caused": caused}


def weight_of(expert: int, held: list[int], kept: list[int], left: dict[int, int]) -> int:
    """The kept gate weight of a physical expert: replicas have theirs by their rows."""
    every = sum(rows for e, rows in zip(held, kept, strict=True) if e == held[expert])
    return left.get(held[expert], 0) * kept[expert] // every if every else 0


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
    return [[gpu.charged[c] for c in clock.config.categories] for gpu in clock.gpus]


def total(charges: list[list[int]], config: Config) -> dict[str, int]:
    """Over GPUs."""
    return {c: sum(gpu[i] for gpu in charges) for i, c in enumerate(config.categories)}


def count_layer(
    verdict: Verdict, routed: Routed, activations: list[list[Activation]], parts: int
) -> None:
    """A choice counts on every GPU that has one of the ``parts`` of its expert."""
    verdict.layer_steps += 1
    verdict.dropped += routed.dropped * parts
    on_gpu = [sum(activation.rows for activation in mine) for mine in activations]
    verdict.rows_executed += sum(on_gpu)
    verdict.rows_kept += sum(routed.kept) * parts
    verdict.sum_of_largest_rows += max(on_gpu)
    if sum(on_gpu):
        verdict.largest_shares.append(Fraction(max(on_gpu), sum(on_gpu)))


def step_row(
    one: Pass,
    time: tuple[int, int],
    activations: list[Activation],
    ahead: dict[str, int],
    spent: dict[str, int],
    model: Model,
    config: Config,
) -> dict[str, Any]:
    tokens = sum(part.kept for part in one.parts)
    misses = sum(activation.missed for activation in activations)
    host, link, skipped, behind, substituted = (
        sum(activation.place == place for activation in activations)
        for place in (HOST, LINK, SKIP, BEHIND, SUBSTITUTE)
    )

    def came(activation: Activation) -> int:
        moves = activation.place not in (HOST, SKIP, SUBSTITUTE) and not config.in_place
        return bytes_of(activation, model, config) if moves else 0

    return {
        "step": one.step,
        "phase": PHASE_NAMES[one.phase],
        "start_ns": time[0],
        "end_ns": time[1],
        "tokens": tokens,
        "decode_tokens": sum(part.kept for part in one.parts if one.decoding(part)),
        "live_requests": len(one.parts),
        "activations": len(activations),
        "hits": sum(activation.hit for activation in activations),
        "late": sum(activation.late for activation in activations),
        "misses": misses,
        "host_activations": host + behind,
        "zero_copy_activations": link,
        "skipped_activations": skipped,
        "substituted_activations": substituted,
        **ahead,
        "accesses": sum(activation.kept_rows for activation in activations),
        "access_hits": sum(activation.kept_rows for activation in activations if activation.hit),
        "bytes_h2d": sum(
            bytes_of(activation, model, config)
            for activation in activations
            if activation.missed and activation.place not in (HOST, SKIP, SUBSTITUTE)
        ),
        **{
            f"{mark}_{what}": sum(number(a) for a in activations if a.mark == mark and a.missed)
            for what, number in (("misses", lambda a: 1), ("bytes_h2d", came))
            for mark in ("decode", "prompt", "both")
        },
        "decode_misses_caused_by_prompts": sum(
            a.missed and a.mark == "decode" and a.after == "prompt" for a in activations
        ),
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
    known = ("hits", "late", "misses", "accesses", "access_hits")
    handled = ("host_activations", "zero_copy_activations", "skipped_activations")
    counted = (*known, *handled, "substituted_activations", *AHEAD)
    spent = ("bytes_h2d", "stall_ns", "barrier_ns", "cpu_wait_ns")
    for name in ("tokens", "decode_tokens", *counted, *spent):
        setattr(verdict, name, sum(step[name] for step in verdict.steps))
    verdict.duration_ns = verdict.steps[-1]["end_ns"] if verdict.steps else 0
    verdict.time_ns = total(charged(clock), clock.config)
    verdict.time_ns["idle"] = verdict.gpus * verdict.duration_ns - sum(verdict.time_ns.values())
    verdict.spans = clock.spans
    verdict.host_hits = sum(host.hits for host in clock.hosts)
    verdict.storage_reads = sum(host.reads for host in clock.hosts)
    verdict.bytes_storage = sum(host.bytes for host in clock.hosts)
    ends: dict[int, list[int]] = {}  # request -> ends of its decode steps
    kept: dict[int, list[int]] = {}  # request -> tokens of them
    tokens: dict[int, int] = {}
    for one, step in zip(passes, verdict.steps, strict=True):
        for part in one.parts:
            number = part.request.request_id
            ends.setdefault(number, [])
            tokens[number] = tokens.get(number, 0) + part.kept
            given = part.kept if part.first is None else part.answers
            if given and (part.answers or one.phase == DECODE):
                ends[number].append(step["end_ns"])
                kept.setdefault(number, []).append(given)
    verdict.answer_tokens = sum(sum(of) for of in kept.values())
    for number in sorted({*trace["request_id"], *ends}):
        if number in ends:
            decoded, own = ends[number], kept.get(number, [])
            later = sum(own[1:])
            tpot = Fraction(decoded[-1] - decoded[0], later) if later else None
            verdict.requests.append(
                {
                    "request_id": number,
                    "tokens": tokens[number],
                    "decode_tokens": sum(own),
                    "first_ns": decoded[0] if decoded else None,
                    "last_ns": decoded[-1] if decoded else None,
                    "tpot_ns": tpot,
                    "ttft_ns": first_token(verdict, passes, number),
                }
            )


def first_token(verdict: Verdict, passes: list[Pass], request: int) -> list[int] | None:
    """From its first prompt token's pass to its last one's: time on its GPU, then by category."""
    theirs = [
        (one, part) for one in passes for part in one.parts if part.request.request_id == request
    ]
    mine = [(one.step, part.gpu) for one, part in theirs if one.phase == PREFILL]
    if theirs[0][1].first is not None:  # served: until its first token is there
        until = [place for place, (_, part) in enumerate(theirs) if part.answers]
        mine = [(one.step, part.gpu) for one, part in theirs[: until[0] + 1 if until else 0]]
    if not mine:
        return None
    (first, gpu), (last, _) = mine[0], mine[-1]
    span = verdict.times[last][1][gpu] - verdict.times[first][0][gpu]
    charges = [step[gpu] for step in verdict.charges[first : last + 1]]
    return [span, *(sum(of_step) for of_step in zip(*charges, strict=True))]
