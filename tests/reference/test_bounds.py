"""What is called a bound is never below what it bounds, on drawn runs.

The lower bounds of planners are in ``tests/contracts/test_planners.py``, MIN's on one layer in
``test_cache_policies.py``. No throughput is called a bound: none is one.
"""

from __future__ import annotations

from dataclasses import replace

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from moesim.engine.outcome import Outcome
from moesim.engine.replay.run import run_replay

from .strategies import POLICIES, Case, cases
from .wiring import engine_case

CACHES = sorted(set(POLICIES) - {"stream"})


def played(case: Case, policy: str) -> Outcome:
    config = replace(case.config, policy=policy, parameters={})
    return run_replay(engine_case(replace(case, config=config)), records="layer")


def fits(case: Case, outcome: Outcome) -> bool:
    """Whether the experts of every step have slots, on each GPU."""
    layers = range(len(case.model.moe_layers))
    given_slots = [case.config.slots_of(layer) or case.model.experts for layer in layers]
    if case.config.scope == "global":
        given_slots = [sum(given_slots)] * len(given_slots)
    most = outcome.counts.activations.max(axis=(0, 2))
    return all(most[layer] <= given_slots[layer] for layer in layers)


@settings(suppress_health_check=list(HealthCheck))
@given(cases(), st.sampled_from(CACHES), st.sampled_from(["layer", "global"]))
def test_no_policy_misses_less_than_min_where_every_step_fits(
    case: Case, policy: str, scope: str
) -> None:
    """Over scopes, orders, GPUs, gatings, batches and first residents; misses are loaded."""
    batch, room = min(case.config.batch_size, 2), case.config.slots
    room = max(room if isinstance(room, int) else 1, case.model.top_k * batch)
    config = replace(case.config, miss="load", uploads=None, prefill="cache", batch_size=batch)
    config = replace(config, gating="dynamic", kernels="grouped", scope=scope)
    case = replace(case, config=replace(config, slots=room))
    least = played(case, "min")
    assume(fits(case, least))
    other = played(case, policy)
    assert least.counts.misses.sum() <= other.counts.misses.sum()
