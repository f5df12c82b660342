"""The strategies draw what they promise, and the judge keeps its own books on all of it."""

from __future__ import annotations

from collections import Counter

from hypothesis import HealthCheck, given, settings

from .judge import judge
from .judge_placement import local_experts, physical, physical_experts
from .judge_words import CATEGORIES, Verdict
from .strategies import MISSES, POLICIES, PREFILLS, Case, cases, needs_exceed_slots


def test_a_third_of_the_draws_need_more_experts_than_slots() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(cases())
    def draw(case: Case) -> None:
        verdict = judge(case.trace, case.model, case.config, case.prices)
        rules = {turn.rule for turn in verdict.turns}
        seen["all"] += 1
        seen["exceeded"] += needs_exceed_slots(case, verdict)
        seen.update(f"rule {rule}" for rule in rules)
        seen.update(f"place {place}" for place in {turn.place for turn in verdict.turns})
        seen["chunks"] += case.config.chunk is not None
        seen["replicas"] += physical(case.model, case.config) > case.model.experts
        seen["replicas on one GPU"] += holds_twice(case)
        seen["cheapest does both"] += decided_both_ways(verdict)
        for choice in (
            "gpus",
            "policy",
            "scope",
            "miss",
            "gating",
            "placement",
            "phase",
            "batching",
            "execution",
            "order",
            "prefill",
        ):
            seen[f"{choice} {getattr(case.config, choice)}"] += 1

    draw()
    assert 3 * seen["exceeded"] >= seen["all"] >= 200, seen
    # Nothing that the semantics name is left out.
    names = [f"rule {rule}" for rule in ("free", "a", "b", "c")]
    names += [f"placement {kind}" for kind in ("contiguous", "round_robin", "plan")]
    names += ["replicas", "replicas on one GPU", "chunks", "rule layer", "rule staged"]
    names += [f"prefill {prefill}" for prefill in PREFILLS]
    names += [f"gpus {gpus}" for gpus in (1, 2, 3, 4)]
    names += [f"policy {policy}" for policy in POLICIES]
    names += [f"scope {scope}" for scope in ("layer", "global")]
    names += [f"miss {miss}" for miss in MISSES]
    names += [f"place {place}" for place in ("load", "host", "link", "skip")]
    names += ["cheapest does both"]
    names += [f"phase {phase}" for phase in ("decode", "prefill", "all", "encode")]
    names += [f"execution {execution}" for execution in ("eager", "piecewise", "graph")]
    for name in names:
        assert seen[name], (name, seen)


def holds_twice(case: Case) -> bool:
    """Whether a GPU holds the same expert more than once."""
    for m in range(len(case.model.moe_layers)):
        held = physical_experts(m, case.model, case.config)
        for local in local_experts(case.model, case.config):
            if len({held[p] for p in local}) < len(local):
                return True
    return False


def test_prompts_go_every_way_around_the_caches() -> None:
    seen: Counter[str] = Counter()

    @settings(max_examples=500, deadline=None, derandomize=True, database=None)
    @given(cases(prompts=True))
    def draw(case: Case) -> None:
        verdict = judge(case.trace, case.model, case.config, case.prices)
        prompts = [turn for turn in verdict.turns if verdict.steps[turn.step]["phase"] == "prefill"]
        staged = [turn for turn in prompts if turn.rule == "staged"]
        layers = [turn for turn in prompts if turn.rule == "layer"]
        software = case.config.software
        seen["staged"] += bool(staged)
        seen["staged over another"] += any(turn.victim is not None for turn in staged)
        seen["staged beside hits"] += bool(staged) and any(turn.hit for turn in prompts)
        seen["staged beside the host"] += bool(staged) and any(t.place == "host" for t in prompts)
        seen["layers"] += bool(layers)
        seen["third layer"] += any(turn.layer == 2 for turn in layers)
        seen["layers not ahead"] += bool(layers) and (software.blocking or not software.overlap)
        seen["several chunks"] += len({turn.step for turn in staged + layers}) > 1

    draw()
    assert len(seen) == 8
    assert all(seen.values()), seen


def decided_both_ways(verdict: Verdict) -> bool:
    """In some step and layer, one miss was loaded and one computed by the host."""
    ways: dict[tuple[int, int, int], set[str]] = {}
    for turn in verdict.turns:
        ways.setdefault((turn.step, turn.layer, turn.gpu), set()).add(turn.place)
    return any({"load", "host"} <= places for places in ways.values())


@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(cases())
def test_the_judges_books_balance(case: Case) -> None:
    verdict = judge(case.trace, case.model, case.config, case.prices)
    assert verdict.hits + verdict.misses == len(verdict.turns)
    assert verdict.rows_kept == verdict.accesses
    assert all(value >= 0 for value in verdict.time_ns.values())
    # Every nanosecond of every GPU is attributed once.
    assert sum(verdict.time_ns.values()) == verdict.gpus * verdict.duration_ns
    assert set(verdict.time_ns) == {*CATEGORIES, "idle"}
    assert verdict.stall_ns == sum(row["stall_ns"] for row in verdict.layers)
    assert verdict.cpu_wait_ns == sum(row["cpu_wait_ns"] for row in verdict.layers)
    assert verdict.barrier_ns == sum(row["barrier_ns"] for row in verdict.layers)
    assert verdict.rows_executed == sum(row["tokens"] for row in verdict.layers)
    engines_do_one_thing_at_a_time(verdict)


def engines_do_one_thing_at_a_time(verdict: Verdict) -> None:
    ends: dict[tuple[int, str], int] = {}
    for span in verdict.spans:
        engine = (span.gpu, span.engine)
        assert ends.get(engine, 0) <= span.start_ns <= span.end_ns
        ends[engine] = span.end_ns
