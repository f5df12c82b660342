"""Cases with variants that are decided at once give what the common program gives."""

from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine.replay import run
from moesim.engine.replay.quick.varied_program import is_varied
from moesim.engine.replay.run import run_replay

from .agreement import assert_same
from .strategies import Case, few
from .strategies_variants import variant_cases
from .wiring import engine_case


@few
@given(variant_cases(alone=False), st.sampled_from(["layer", "step", "summary"]))
def test_variants_decided_at_once(case: Case, records: str) -> None:
    one = engine_case(case)
    assume(is_varied(one))
    cuts = np.arange(0, one.schedule.passes, 2)
    at_once = run_replay(one, records=records, cuts=cuts)
    with patch.object(run, "is_varied", return_value=False):
        common = run_replay(engine_case(case), records=records, cuts=cuts)
    if records == "summary":
        assert at_once.counts.apart is not None
        assert common.counts.apart is not None
        mine, theirs = at_once.counts.apart, common.counts.apart
        for one_of, other_of in zip(
            (*mine.loads, mine.copied), (*theirs.loads, theirs.copied), strict=True
        ):
            np.testing.assert_array_equal(one_of, other_of)
        at_once.counts.apart = common.counts.apart = None
    assert_same(at_once, common)
    assert at_once.fates is not None
    assert common.fates is not None
    assert at_once.fates.names == common.fates.names
    for name in ("by_layer", "by_request", "unpacking_ns"):
        np.testing.assert_array_equal(getattr(at_once.fates, name), getattr(common.fates, name))
