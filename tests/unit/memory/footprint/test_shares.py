"""Layers divided over GPUs: a toy by hand, and against every division."""

from __future__ import annotations

from itertools import combinations, pairwise

from hypothesis import given
from hypothesis import strategies as st

from moesim.memory.footprint.shares import divided, stages, whole
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec

EXPERT, ATTENTION, NORM, ROUTER, DENSE = 600, 50, 8, 12, 900
EMBEDDING, OTHER = 1000, 20


def toy(dense: int, moe: int, head_bytes: int = 0) -> ModelSpec:
    """So many dense layers of 958 bytes, then MoE layers of 70 bytes and 4 experts of 600."""
    network = FfnSpec(10, 30, True, 450, DENSE, "fp16")
    experts = MoeSpec(4, 2, FfnSpec(10, 20, True, 300, EXPERT, "fp16"), None, 6, ROUTER)
    attention = AttentionSpec(1, 1, 10, 10, None, 25, ATTENTION, 40)
    layers = [
        LayerSpec(
            index,
            "decoder",
            attention,
            None,
            network if index < dense else None,
            None if index < dense else experts,
            4,
            NORM,
        )
        for index in range(dense + moe)
    ]
    head = head_bytes // 2
    sizes = (500, EMBEDDING, head, head_bytes, 10, OTHER)
    return ModelSpec("toy", "toy", tuple(layers), 10, 30, *sizes, activation_bytes=2)


def test_an_odd_number_of_layers_behind_dense_ones() -> None:
    """Layers of 958, 958 and five times 2470 bytes, the first with 1000 more, the last with 1020:
    1958, 958, 2470, 2470 | 2470, 2470, 3490 is 7856 and 8430; every other division has more.
    """
    model = toy(2, 5)
    first, last = stages(model, [4] * 5, [0] * 7, 2)
    assert (first.layers, last.layers) == ((0, 3), (4, 6))
    assert (first.model.bytes, last.model.bytes) == (7856, 8430)
    assert first.model.bytes + last.model.bytes == model.bytes + EMBEDDING  # the tied head's copy
    assert (first.moe, last.moe) == (slice(0, 2), slice(2, 5))
    assert [len(one.model.moe_layers) for one in (first, last)] == [2, 3]
    assert (first.model.head_bytes, last.model.embedding_bytes) == (0, 0)


def test_a_head_of_its_own_is_with_the_last_layer_alone() -> None:
    model = toy(0, 3, head_bytes=700)
    parts = stages(model, [4] * 3, [0] * 3, 3)
    assert [one.model.bytes for one in parts] == [3470, 2470, 3190]
    assert sum(one.model.bytes for one in parts) == model.bytes
    assert sum(one.model.parameters for one in parts) == model.parameters


def test_experts_on_the_host_and_the_cache_count_as_they_are_held() -> None:
    """Layers of 70 bytes and their slots; with 5000 bytes of cache a layer only that counts."""
    model = toy(0, 6)
    bare = stages(model, [0, 0, 0, 4, 4, 4], [0] * 6, 2)
    assert [one.layers for one in bare] == [(0, 3), (4, 5)]  # 1000 + 3*70 + 2470 | 2*2470 + 1020
    cached = stages(model, [0, 0, 0, 4, 4, 4], [50_000] * 6, 2)
    assert [one.layers for one in cached] == [(0, 2), (3, 5)]
    slots = stages(model, [2] * 6, [0] * 6, 3)
    assert [one.layers for one in slots] == [(0, 1), (2, 3), (4, 5)]


def test_equal_layers_are_spread_evenly_and_the_first_gpus_have_more() -> None:
    assert divided((1,) * 25, 4) == (7, 13, 19, 25)
    assert divided((1,) * 3, 2) == (2, 3)
    assert divided((5, 1, 1, 1, 1), 3) == (1, 3, 5)


def test_without_stages_every_gpu_holds_all() -> None:
    model = toy(1, 2)
    assert [(one.gpu, one.model, one.moe) for one in whole(model, 2)] == [
        (0, model, slice(0, 2)),
        (1, model, slice(0, 2)),
    ]


@given(st.lists(st.integers(0, 9), min_size=1, max_size=9).map(tuple), st.data())
def test_no_division_is_better(sizes: tuple[int, ...], data: st.DataObject) -> None:
    count = data.draw(st.integers(1, len(sizes)))

    def judged(ends: tuple[int, ...]) -> tuple[int, int]:
        runs = [sum(sizes[begin:end]) for begin, end in pairwise((0, *ends))]
        return max(runs), sum(run * run for run in runs)

    every = [(*cut, len(sizes)) for cut in combinations(range(1, len(sizes)), count - 1)]
    found = divided(sizes, count)
    assert found in every
    assert judged(found) == min(map(judged, every))
    assert found == max(ends for ends in every if judged(ends) == judged(found))
