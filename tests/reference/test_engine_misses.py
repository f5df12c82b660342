"""The engine's misses against the table of the real trace, which an independent program counted."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.engine.replay.log import DecisionLog
from moesim.engine.replay.run import run_replay
from moesim.memory.policies import registry as policies

from .prices import ToyPrices
from .reference_words import Config, Layer, Model
from .strategies import Case
from .test_reference_misses import ROUTING, SLOTS, TABLE, excerpt
from .wiring import engine_case


@pytest.mark.skipif(not ROUTING.exists(), reason="the full real trace is not beside the repository")
@pytest.mark.parametrize(("requests", "tokens"), TABLE)
def test_the_engine_counts_the_table_of_misses(requests: int, tokens: int) -> None:
    activations, rows = TABLE[requests, tokens]
    trace = excerpt(requests, tokens)
    model = Model([Layer(i, moe=True) for i in range(24)], 32, 4, 2880, 2, 13_000_000)
    first = engine_case(Case(trace, model, Config(batch_size=requests), ToyPrices()))
    log = DecisionLog()
    for policy, expected in rows.items():
        case = replace(first, policy=policies.get(policy)())
        counted = []
        for slots in SLOTS:
            sized = replace(case, slots=np.full_like(case.slots, slots))
            counts = run_replay(sized, records="summary", log=log).counts
            assert counts.activations.sum() == activations
            counted.append(int(counts.misses.sum()))
        assert tuple(counted) == expected, policy
