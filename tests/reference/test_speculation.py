"""Decode steps that verify drafts: the engines, the reference, and laws."""

from __future__ import annotations

import zlib
from dataclasses import replace

import numpy as np
from hypothesis import given

from .agreement import agree, verdict_of
from .reference_batches import passes_of
from .reference_words import DECODE, Config
from .strategies import Case, few
from .strategies_concepts import speculating_cases


@few
@given(speculating_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


@few
@given(speculating_cases())
def test_every_token_is_decoded_once_whatever_is_accepted(case: Case) -> None:
    """Drafts change how many steps there are, not what is said; none accepted saves no step."""
    plain = verdict_of(replace(case, config=replace(case.config, drafts=0, chances=())))
    depth = len(case.config.chances)
    for chance in (0.0, 1.0):
        config = replace(case.config, chances=(chance,) * depth)
        found = verdict_of(replace(case, config=config))
        assert (found.tokens, found.decode_tokens) == (plain.tokens, plain.decode_tokens)
        assert found.rows_kept + found.dropped >= plain.rows_kept + plain.dropped
        steps = [one for one in found.steps if one["phase"] == "decode"]
        before = [one for one in plain.steps if one["phase"] == "decode"]
        if chance == 0:
            assert len(steps) == len(before)
        elif case.config.batch_size == 1:
            assert len(steps) == sum(
                -(-one["decode_tokens"] // (1 + depth)) for one in found.requests
            )


@few
@given(speculating_cases())
def test_whose_experts_rejected_drafts_need_moves_no_step(case: Case) -> None:
    """Nor a place, nor what is kept; and where all drafts are right none is rejected."""
    own, other = (
        verdict_of(replace(case, config=replace(case.config, rejected=rejected)))
        for rejected in ("continuation", "other")
    )
    of_both = [[step["decode_tokens"] for step in one.steps] for one in (own, other)]
    assert of_both[0] == of_both[1]
    assert own.time_ns["attention"] == other.time_ns["attention"]
    if case.config.drafts == len(case.config.chances) and set(case.config.chances) == {1.0}:
        assert own.duration_ns == other.duration_ns


def test_rejected_drafts_by_hand() -> None:
    """Six decode tokens of one request, a draft each that is never right."""
    trace = {"expert_ids": [[[row]] for row in range(6)], "request_id": [4] * 6,
             "position": list(range(6)), "phase": [DECODE] * 6}  # fmt: skip
    config = Config(drafts=1, chances=(0.0,), rejected="other", seed=3)
    steps = passes_of(trace, config)
    drawn = np.random.default_rng([3, zlib.crc32(b"speculative.rejected")]).random(6)
    for token, one in enumerate(steps[:-1]):
        (part,) = one.parts
        others = [row for row in range(6) if row != token + 1]
        assert part.places == [token, token + 1]
        assert part.rows == [token, others[int(drawn[token + 1] * 5)]]
    assert steps[-1].parts[0].rows == [5]
