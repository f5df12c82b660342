"""Several formats of every expert: both engines against the reference."""

from __future__ import annotations

from hypothesis import given

from .agreement import agree
from .prices import ToyPrices
from .reference_words import Config, Variant
from .scenes import scene
from .strategies import Case, few
from .strategies_variants import variant_cases


@few
@given(variant_cases())
def test_all_agree(case: Case) -> None:
    """And what became of every choice is what serves its expert."""
    agree(case)


def test_what_the_cpu_computes_in_which_variant_by_hand() -> None:
    """The slot of the high variant keeps expert 0, that of the low one, of another kind of kernels,
    expert 1. The first expert of a token wants the high variant, the second is content with low.
    """
    trace, model = scene([[0, 1], [0, 2], [2, 1], [1, 2]], experts=3)
    trace["gate_weights"] = [[[0.75, 0.25]]] * 4
    config = Config(
        slots=1, variants=(Variant(100, 1), Variant(40, 1, kind=2)), choose="gate_cumulative",
        limits=(0.0, 1.0), miss="cpu", initial="lowest_ids", host_start_ns=1000,
    )  # fmt: skip
    costs = {"copy_latency": 5, "copy_bytes_a_ns": 1, "cpu_start": 10, "cpu_row": 20}
    verdict = agree(Case(trace, model, config, ToyPrices(**costs, tile=0)))
    found = [(one.step, one.expert, one.variant, one.place) for one in verdict.activations]
    assert found == [
        *[(0, 0, 0, ""), (0, 1, 1, "")],
        *[(1, 0, 0, ""), (1, 2, 1, "host")],
        *[(2, 2, 0, "host"), (2, 1, 1, "")],
        *[(3, 1, 0, "host"), (3, 2, 1, "host")],
    ]
    high, low = 1 + 10 + 20, 1 + 10 + 5 * 2 + 20  # on the CPU
    one_row, two_rows = (5 + 3) + (5 + 1), (5 + 6) + (5 + 2)  # down and up
    beside = 11 + 13 + 3 + 1  # the GPU's kernel of one row in high; of low it takes 2 more
    waits = [0, low + one_row - beside, high + one_row - (beside + 2), high + low + two_rows]
    expected = [0, *(1000 + of for of in waits[1:])]
    assert [row["cpu_wait_ns"] for row in verdict.layers] == expected
