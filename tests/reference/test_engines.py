"""Both engines and the reference, to the nanosecond, on experiments that hypothesis makes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given

from .agreement import agree
from .prices import ToyPrices
from .reference_words import Config, Prefetch
from .scenes import scene
from .strategies import Case, cases
from .strategies_prefetch import prefetching_cases


@given(cases())
def test_the_engines_agree_with_the_reference(case: Case) -> None:
    agree(case)


@given(cases(prompts=True))
def test_the_engines_agree_with_the_reference_on_prompts(case: Case) -> None:
    agree(case)


@given(prefetching_cases())
def test_the_engines_agree_with_the_reference_on_prefetches(case: Case) -> None:
    agree(case)


def test_the_first_part_is_counted_exactly() -> None:
    """28 % of 25 tokens are 7: expert 0 four times, 1 three times; with the 8th they would tie."""
    steps = [[0], [0], [0], [1], [1], [1], [0], [1], *[[2], [0], [1], [2]] * 4, [2]]
    trace, model = scene(steps, 3)
    config = Config(slots=2, policy="static", first_part=0.28)
    case = Case(trace, model, config, ToyPrices())
    agree(case)


def test_a_tie_is_loaded_and_a_nanosecond_more_is_not() -> None:
    """A copy of 17 + 34 and a kernel of 33 cost what the host does: 17 + 1, 1 + 24 + 23, 17 + 1."""
    trace, model = scene([[0]], 3)
    for cpu_start, host_activations in ((24, 0), (23, 1)):
        config = Config(slots=2, miss="cheapest")
        case = Case(trace, model, config, ToyPrices(cpu_start=cpu_start))
        assert agree(case).host_activations == host_activations


@pytest.mark.parametrize("prefetch", [Prefetch(), Prefetch(kind="oracle")])
def test_padded_rows_of_one_token_tell_their_tokens(prefetch: Prefetch) -> None:
    """A row that is padded to 128 has the tokens of 128 choices, of a pass of one token, too."""
    trace, model = scene([[0], [1], [2], [0]], 3)
    config = Config(slots=2, kernels="block_sparse", prefetch=prefetch)
    agree(Case(trace, replace(model, varies=True), config, ToyPrices()))


@pytest.mark.parametrize("prefetch", [Prefetch(), Prefetch(kind="oracle")])
def test_a_host_begins_once_a_layer_and_pass(prefetch: Prefetch) -> None:
    """Two experts of the host in each of two steps: two starts."""
    trace, model = scene([[0, 1], [1, 2]], 4)
    config = Config(slots=1, miss="cpu", initial="most_used", prefetch=prefetch)
    slower = replace(config, host_start_ns=1_000)
    first, later = (agree(Case(trace, model, one, ToyPrices())) for one in (config, slower))
    assert later.duration_ns - first.duration_ns <= 2 * 1_000
    assert later.time_ns["waiting_for_cpu"] - first.time_ns["waiting_for_cpu"] > 1_000


def test_a_kernel_reads_over_the_link_only_what_is_not_resident() -> None:
    """Expert 0 is resident; 1 and 2 are read in the same launch, 17 + 67, more than the kernel."""
    trace, model = scene([[0, 1, 2]], 4)
    prices = ToyPrices(expert_start=0, expert=0)
    config = Config(slots=1, initial="most_used", miss="zero_copy")
    (span,) = agree(Case(trace, model, config, prices)).spans
    assert span.end_ns - span.start_ns == 17 + 67


def test_replicas_have_the_whole_gate_weight_of_their_expert() -> None:
    """Expert 0 has two replicas and 0.6, expert 1 has 0.4 and goes; with 0.3 it would be expert 0,
    which is then a hit.
    """
    trace, model = scene([[0], [1], [2], [0]], 3)
    trace["gate_weights"] = [[[weight]] for weight in (0.6, 0.4, 0.5, 0.5)]
    config = Config(
        slots=2,
        policy="gate_score",
        parameters={"decay": 0.1},
        placement="plan",
        plan=[[0, 2, 1, 0]],
    )
    case = Case(trace, model, config, ToyPrices())
    assert [activation.hit for activation in agree(case).activations] == [False, False, False, True]
