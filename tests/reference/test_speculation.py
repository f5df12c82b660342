"""Decode steps that verify drafts: the engines, the reference, and laws."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given

from .agreement import agree, verdict_of
from .strategies import Case
from .strategies_concepts import speculating_cases


@given(speculating_cases())
def test_both_engines_and_the_reference_agree(case: Case) -> None:
    agree(case)


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
