"""Every registered transform, on traces that hypothesis makes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from moesim.config.errors import InputError
from moesim.testing.transforms import chooses_what_there_was, makes_a_sound_trace
from moesim.trace.routing import NO_EXPERT, RoutingTrace, TraceMetadata
from moesim.trace.transforms import registry
from moesim.trace.transforms.base import Transform
from moesim.trace.transforms.choices import Choices
from tests.contracts.kinds import own

FOLDER = Path(__file__).parents[2] / "moesim" / "trace" / "transforms"
ALLOWED: dict[str, list[dict[str, Any]]] = {
    "top_k": [{"k": 1}, {"k": 3}],
    "threshold": [{"epsilon": 0.0}, {"epsilon": 0.5}],
    "threshold_top_k": [{"epsilon": 0.5}],
    "top_p": [{"p": 0.9}, {"p": 1.0}],
    "gate_ratio": [{"least": 1, "ratio": 0.4}],
    "xshare": [{"experts": 1}, {"experts": 3, "least": 0}],
    "predicted": [{}],
    "prune": [
        {"keep": 0.5},
        {"keep": 0.4, "score": "tokens", "then": "next", "k": 2},
        {"windows": 3, "minimum": 2, "then": "drop", "beta": 0.9},
    ],
}


def made(kind: str, said: dict[str, Any]) -> Transform:
    """A transform, its shares written as files have them."""
    shares = {"keep", "p", "ratio", "beta"} & set(said)
    return registry.get(kind)(**said | {key: f"{100 * said[key]:g} %" for key in shares})


def transforms() -> list[Transform]:
    return [made(kind, said) for kind in own(registry) for said in ALLOWED.get(kind, [{}])]


def drawn(seed: int, tokens: int, layers: int, top_k: int, experts: int) -> RoutingTrace:
    """Random choices with falling weights; the first always makes one."""
    rng = np.random.default_rng(seed)
    order = rng.random((tokens, layers, experts)).argsort(axis=2)[:, :, :top_k]
    number = rng.integers(0, top_k + 1, (tokens, layers, 1))
    number[0] = top_k
    used = np.arange(top_k) < number
    weights = np.sort(rng.dirichlet(np.ones(experts), (tokens, layers)), axis=2)[:, :, ::-1]
    predicted = rng.random((tokens, layers, experts)).argsort(axis=2)[:, :, :top_k]
    return RoutingTrace(
        expert_ids=np.ascontiguousarray(np.where(used, order, NO_EXPERT).astype(np.uint16)),
        request_id=np.zeros(tokens, np.int32),
        position=np.arange(tokens, dtype=np.int32),
        phase=np.ones(tokens, np.uint8),
        gate_weights=np.ascontiguousarray(
            np.where(used, weights[:, :, :top_k], 0).astype(np.float16)
        ),
        predicted_ids=np.ascontiguousarray(predicted.astype(np.uint16)),
        metadata=TraceMetadata(None, experts, top_k, tuple(range(layers)), "drawn", "-", "none"),
    )


@st.composite
def traces(draw: st.DrawFn) -> RoutingTrace:
    experts = draw(st.integers(2, 9))
    top_k = draw(st.integers(1, experts))
    seed, tokens, layers = (draw(st.integers(1, most)) for most in (10_000, 12, 3))
    return drawn(seed, tokens, layers, top_k, experts)


def test_every_file_of_the_folder_is_registered() -> None:
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base", "choices", "faults"}
    assert files == set(own(registry))


@given(trace=traces())
def test_contract(trace: RoutingTrace) -> None:
    assert trace.gate_weights is not None
    weights = trace.gate_weights.astype(np.float64)
    living = np.ones((trace.moe_layers, trace.experts), np.bool_)
    for one in transforms():
        try:
            makes_a_sound_trace(one, trace)
        except InputError as error:
            assert "leaves no token a choice" in str(error)  # noqa: PT017 (allowed, and told)
        choices = Choices(trace.expert_ids, weights, weights, living, trace.predicted_ids)
        chooses_what_there_was(one, choices)


@pytest.mark.parametrize(
    "kind", ["threshold", "threshold_top_k", "top_p", "gate_ratio", "xshare", "prune"]
)
def test_one_that_reads_weights_says_so_where_there_are_none(kind: str) -> None:
    ids = np.zeros((2, 1, 1), np.uint16)
    choices = Choices(ids, None, None, np.ones((1, 4), np.bool_))
    with pytest.raises(InputError, match="reads gate weights, and the trace has none"):
        made(kind, ALLOWED[kind][0]).apply(choices)


class Writes(Transform):
    """Writes into what it is given."""

    kind: Literal["writes"] = "writes"

    def apply(self, choices: Choices) -> Choices:
        choices.living[:] = False
        return choices


class Turns(Transform):
    """Chooses the neighbour of each."""

    kind: Literal["turns"] = "turns"

    def apply(self, choices: Choices) -> Choices:
        return replace(choices, ids=(choices.ids + 1).astype(np.uint16) % 4)


def test_one_that_breaks_the_rules_is_named() -> None:
    with pytest.raises(InputError, match="'turns' chooses an expert that was no choice"):
        makes_a_sound_trace(Turns(), drawn(1, 2, 1, 1, 4))
    ids = np.zeros((2, 1, 1), np.uint16)
    for one, said in ((Writes(), "changes its input"), (Turns(), "an expert that was no choice")):
        choices = Choices(ids, None, None, np.ones((1, 4), np.bool_))
        with pytest.raises(AssertionError, match=f"{type(one).__name__}.* {said}"):
            chooses_what_there_was(one, choices)
