"""Experiments whose requests other schedulers than vLLM's serve, and what plays each of them: both
engines, and the reference where a judge decides for it; there is none of SGLang's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from hypothesis import strategies as st

from .served_by_vllm import served_by_vllm
from .serving_cases import ServingCase
from .strategies import Case
from .test_llama_cpp import of_llama_cpp, slots
from .test_llama_cpp import serve as by_llama_cpp
from .test_served_by_sglang import SCHEDULERS
from .test_served_by_sglang import agree as by_sglang
from .test_trtllm import WAITS, of_trtllm
from .test_trtllm import serve as by_trtllm


class Way(NamedTuple):
    """``play`` raises AssertionError where what plays a case with some ``rules`` differs; ``of``
    makes the requests and rooms of a case its scheduler's.
    """

    play: Callable[[Case, ServingCase, Any], object]
    of: Callable[[st.SearchStrategy[ServingCase]], st.SearchStrategy[ServingCase]]
    rules: st.SearchStrategy[Any]


WAYS = {
    "sglang": Way(by_sglang, lambda cases: cases, SCHEDULERS),
    "trtllm": Way(by_trtllm, of_trtllm, WAITS),
    "llama.cpp": Way(by_llama_cpp, of_llama_cpp, slots()),
}


@st.composite
def served_by(draw: st.DrawFn, kind: str) -> tuple[Case, ServingCase, Any]:
    """What the ``Way`` of the scheduler ``kind`` plays."""
    case, serving = draw(served_by_vllm())
    way = WAYS[kind]
    return case, draw(way.of(st.just(serving))), draw(way.rules)
