"""Copies, and what the host reads, on links that they share: `replay` against `des`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

from hypothesis import assume, given
from hypothesis import strategies as st

from moesim.engine import routing
from moesim.engine.case import Case as EngineCase
from moesim.engine.des.run import run_des
from moesim.engine.replay.foreseen import is_foreseen
from moesim.engine.replay.run import run_replay
from moesim.experiment.running.engines import outside_replay
from moesim.hardware.described.links import Links

from .agreement import assert_same
from .serving_cases import ServingCase, of_vllm
from .strategies import Case, cases, few
from .strategies_together import concept_cases
from .test_foreseen import foreseeing, scaled, served
from .wiring import engine_case

RATES = st.sampled_from([10**9, 2 * 10**9, 3 * 10**9, 2_999_999_999, 7 * 10**8, 12_345_678_901])
"""Bytes a second: a copy of the cases takes some 34 ns for a hundred bytes."""

GUESSED = st.tuples(st.sampled_from([1, 300, 3000]), st.sampled_from([1, 100, 50_000]))
"""How far apart requests come, and how wild durations are guessed."""


@st.composite
def links_of(draw: st.DrawFn, theirs: EngineCase) -> Links:
    """Links of the GPUs of ``theirs``, alike, that share a memory, and perhaps switches."""
    links, memories = Links(), draw(st.integers(1, 2))
    own, of_host = draw(RATES), draw(RATES)
    reads = theirs.miss.uses_host and not theirs.miss.near_memory and draw(st.booleans())
    for gpu in range(theirs.gpus):
        beyond: tuple[str, ...] = (f"memory {gpu % memories}",)
        if draw(st.booleans()):
            beyond = (f"switch {gpu // 2}", *beyond)
        links.h2d[gpu], links.capacity[f"gpu {gpu}"] = (f"gpu {gpu}", *beyond), own
        if reads:
            links.host[gpu], links.capacity[f"host {gpu}"] = (f"host {gpu}", beyond[-1]), of_host
    for name in sorted({name for path in links.h2d.values() for name in path[1:]}):
        links.capacity[name] = draw(RATES)
    return links


@st.composite
def behind_cases(draw: st.DrawFn) -> Case:
    """Copies that no launch of their pass waits for, so that they are on their way from layer to
    layer, beside what the host reads.
    """
    case = draw(cases(prompts=draw(st.booleans())))
    config = case.config
    config = replace(
        config,
        miss="background",
        uploads=draw(st.sampled_from([None, 1, 2])),
        policy="lru",
        parameters={},
        first_part=0.25,
        protect="step",
        prefill="cache" if config.prefill == "stream" else config.prefill,
        software=replace(config.software, overlap=True, blocking=False),
        near_memory=False,
    )
    return replace(case, config=config)


def shared(theirs: EngineCase, data: st.DataObject) -> EngineCase:
    """``theirs`` over links that are drawn."""
    assume(theirs.offloaded and not theirs.miss.uses_link)
    theirs = replace(theirs, links=data.draw(links_of(theirs)))
    assume(next(outside_replay(theirs, "layer", check=False), None) is None)
    return theirs


@given(concept_cases() | behind_cases(), st.sampled_from([1, 40, 1 << 21]), st.data())
def test_both_engines_say_the_same(case: Case, cells: int, data: Any) -> None:
    """Wherever a run is cut: what is on its way is carried over."""
    theirs = shared(engine_case(case), data)
    with patch.object(routing, "CELLS", cells):
        assert_same(run_replay(theirs), run_des(theirs))


@few
@given(concept_cases() | behind_cases(), of_vllm(), GUESSED, st.data())
def test_served_requests_too(
    case: Case, serving: ServingCase, guessed: tuple[int, int], data: Any
) -> None:
    """What was foreseen and does not hold is taken back from the links."""
    theirs = shared(engine_case(case), data)
    ranks = data.draw(st.sampled_from([n for n in (1, 2, 3, 4) if theirs.gpus % n == 0]))
    split = replace(serving.settings, split="static")
    asked = replace(scaled(serving, guessed[0]), settings=split, ranks=ranks)
    foresees, asks = served(theirs, asked), served(theirs, asked)
    assume(is_foreseen(foresees))
    with foreseeing(64, guessed[1]):
        assert_same(run_replay(foresees), run_des(asks))
