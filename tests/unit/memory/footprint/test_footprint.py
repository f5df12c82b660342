"""Bytes worked out by hand: a toy model, and gpt-oss-20b on an 8 GB card."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import moesim
from moesim.config.amounts.capacity import parse_capacity
from moesim.experiment.building.build import build
from moesim.experiment.questions.fit import largest_fit
from moesim.memory.footprint.footprint import Footprint, Residence, expert_bytes, slots_of
from moesim.memory.footprint.live import COUNTS, LayerRows, Tokens, Widths, live_parts
from moesim.memory.footprint.shares import whole
from moesim.model import load_model
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec

EXPERT = 600
ATTENTION, NORM, ROUTER, TABLES = 50, 8, 12, 1000


def toy(layers=2, experts=8):
    """Hidden 10, inner 20, top 2 of 8 gated experts of 600 bytes; vocabulary 30; fp16."""
    expert = FfnSpec(10, 20, True, 300, EXPERT, "fp16")
    moe = MoeSpec(experts, 2, expert, None, 6, ROUTER)
    attention = AttentionSpec(1, 1, 10, 10, None, 25, ATTENTION, 40)
    made = (LayerSpec(i, "decoder", attention, None, None, moe, 4, NORM) for i in range(layers))
    sizes = (300, TABLES, 0, 0, 0, 0)
    return ModelSpec("toy", "toy", tuple(made), 10, 30, *sizes, activation_bytes=2)


def column(*values):
    return np.array(values, np.int64).reshape(1, -1)


def on_gpu(local, *slots, buffers=None, staging=0):
    """Slots of both layers, or of each."""
    return Residence(local, slots * (2 // len(slots)), buffers, staging)


def routed(tokens, capacity=None):
    """Two choices a token, or ``capacity`` rows a sender and expert with masks; even over GPUs."""
    if capacity is None:
        rows = 2 * tokens
        return LayerRows(moved(rows), rows, rows, 0 * rows, 0 * rows, 0 * rows, padded=False)
    rows = np.full_like(tokens, 8 * capacity)
    masks = np.full_like(tokens, tokens.max() * 8 * capacity)
    places = np.full_like(tokens, tokens.max() * capacity * 2)
    alone = tokens.shape[1] == 1
    return LayerRows(moved(rows), rows, rows, masks, 16 * tokens, places, padded=alone)


def rows_of(tokens, *counts, padded):
    """So many times the tokens by count; 0 of what is not given."""
    every = (*counts, *[0] * (len(COUNTS) - len(counts)))
    return LayerRows(
        **{name: tokens * count for name, count in zip(COUNTS, every, strict=True)}, padded=padded
    )


def moved(rows):
    """Sent and received by each of several GPUs."""
    return 2 * rows if rows.shape[1] > 1 else 0 * rows


def footprint(*residences, tokens, capacity=None, pinned=True):
    tokens = column(*tokens)
    widths = Widths.of(toy(), 4, fused=True)
    live = live_parts(widths, routed(tokens, capacity), Tokens(tokens, tokens, 0 * tokens))
    shares = whole(toy(), len(residences))
    return Footprint.of(shares, residences, kv_bytes=tokens * 1000, live=live, pinned=pinned)


REPLICATED = 2 * (ATTENTION + NORM + ROUTER) + TABLES


def test_one_gpu_with_all_experts():
    parts = footprint(on_gpu(8, 8), tokens=[3]).at_peak()
    assert parts == {
        "weights": REPLICATED + 2 * 8 * EXPERT,
        "kv_cache": 3000,
        # four hidden rows; two routed rows with gate and up (20 each), more than the logits
        "activations": 3 * (4 * 10 + 2 * (10 + 2 * 20)) * 2,
        "masks": 0,
        "all_to_all_buffers": 0,
        "expert_slots": 0,
        "copies_in_flight": 0,
    }


def test_slots_take_the_place_of_weights_and_the_host_holds_all():
    offloaded = footprint(on_gpu(8, 3), tokens=[1])
    parts = offloaded.at_peak()
    assert parts["weights"] == REPLICATED
    assert parts["expert_slots"] == 2 * 3 * EXPERT
    assert offloaded.host == 2 * 8 * EXPERT
    assert footprint(on_gpu(8, 8), tokens=[1]).host == 0


def test_slots_by_layer_take_their_own_bytes():
    """All 8 of the first layer stay on the GPU; the host keeps those of the second."""
    parts = footprint(on_gpu(8, 8, 3), tokens=[1])
    assert parts.at_peak()["weights"] == REPLICATED + 8 * EXPERT
    assert parts.at_peak()["expert_slots"] == 3 * EXPERT
    assert parts.host == 8 * EXPERT


def test_only_offloaded_experts_are_on_the_host():
    two = footprint(on_gpu(4, 4), on_gpu(4, 3), tokens=[1, 1])
    assert two.host == 2 * 4 * EXPERT


@pytest.mark.parametrize(("pinned", "word"), [(True, "pinned"), (False, "pageable")])
def test_the_host_runs_out_of_memory(pinned, word):
    parts = footprint(on_gpu(8, 3), tokens=[1], pinned=pinned)
    assert parts.pinned_bytes == (parts.host if pinned else 0)
    assert f"of {word} memory do not fit" in parts.overflow(10**9, parts.host - 1)
    assert parts.overflow(10**9, parts.host) is None


@given(
    slots=st.lists(st.tuples(*[st.integers(1, 8)] * 2), min_size=1, max_size=3),
    tokens=st.lists(st.integers(0, 50), min_size=3, max_size=3),
    rows=st.none() | st.integers(1, 20),
    missed=st.booleans(),
)
def test_bytes_are_conserved(slots, tokens, rows, missed):
    """The categories add up to the total, before and after copies fill slots, and an expert is in
    slots or weights on the GPU, and on the host unless its layer stays.
    """
    residences = [on_gpu(8, *one) for one in slots]
    parts = footprint(*residences, tokens=tokens[: len(slots)], capacity=rows)
    before = parts.total.copy()
    held = [sum(one) * EXPERT + REPLICATED for one in slots]
    assert (parts.parts["weights"] + parts.parts["expert_slots"]).tolist() == [held]
    assert parts.host == sum(8 * EXPERT for one in slots for count in one if count < 8)
    offloaded = np.array([[[count < 8 for count in one] for one in slots]]).transpose(0, 2, 1)
    parts.in_flight(offloaded * np.int64(EXPERT) * missed)
    assert parts.total.tolist() == before.tolist()
    assert sum(parts.at_peak().values()) == before.max()
    assert all((part >= 0).all() for part in parts.parts.values())


def test_shared_buffers_are_held_once_for_all_layers():
    parts = footprint(on_gpu(8, 3, buffers=2), tokens=[1]).at_peak()
    assert parts["expert_slots"] == 2 * EXPERT


def test_two_gpus_send_and_receive_their_rows():
    """GPU 1 has the most tokens: 5 x 2 rows of 10 fp16 values, one buffer each way."""
    two = footprint(on_gpu(4, 4), on_gpu(4, 4), tokens=[2, 5])
    assert two.parts["all_to_all_buffers"].tolist() == [[2 * 2 * 2 * 20, 2 * 5 * 2 * 20]]
    assert two.parts["weights"].tolist() == [[REPLICATED + 2 * 4 * EXPERT] * 2]


def test_masks_are_tokens_by_experts_by_capacity():
    """The fullest GPU's 50 tokens x 8 experts x 2 rows: 15 bytes each while they are built, with no
    rows yet, on both GPUs.
    """
    two = footprint(on_gpu(4, 4), on_gpu(4, 4), tokens=[20, 50], capacity=2)
    assert two.parts["masks"].tolist() == [[50 * 8 * 2 * 15] * 2]
    assert two.parts["all_to_all_buffers"].tolist() == [[0, 0]]
    assert two.parts["activations"].tolist() == [[20 * 4 * 20, 50 * 4 * 20]]


def test_masks_stay_in_part_while_few_tokens_fill_wide_rows():
    """5 tokens: 16 rows out and in, 16 outputs and inner rows, and 5 bytes an element of masks."""
    two = footprint(on_gpu(4, 4), on_gpu(4, 4), tokens=[5, 5], capacity=2)
    assert two.parts["masks"].tolist() == [[5 * 8 * 2 * 5] * 2]
    assert two.parts["all_to_all_buffers"].tolist() == [[2 * 16 * 20] * 2]
    assert two.parts["activations"].tolist() == [[5 * 4 * 20 + 16 * (20 + 2 * 20 * 2)] * 2]


def test_only_one_moment_is_live():
    """Logits of 600 bytes a token outweigh 8 bytes of an expert's rows, which then are gone."""
    widths = Widths(row=2, inner=1, logits=600)
    tokens = column(3)
    parts = live_parts(widths, routed(tokens), Tokens(tokens, tokens, 0 * tokens))
    assert {name: part.tolist() for name, part in parts.items()} == {
        "activations": [[3 * 4 * 2 + 3 * 600]],
        "masks": [[0]],
        "all_to_all_buffers": [[0]],
    }


def test_positions_live_while_masks_are_built():
    """26 bytes a position, 8 a place: beside 15 bytes an element of masks, and only then."""
    tokens = column(20, 20)
    rows = routed(tokens, 2)
    widths = Widths(20, 80, 0, position=26, place=8)
    parts = live_parts(widths, rows, Tokens(tokens, tokens, 0 * tokens))
    assert rows.masks.tolist() == [[20 * 8 * 2] * 2]
    masks = 20 * 8 * 2 * 15 + 20 * 8 * 2 * 26 + 20 * 2 * 2 * 8
    assert parts["masks"].tolist() == [[masks] * 2]
    few, wide = column(5, 5), Widths(20, 8000, 0, position=26, place=8)
    few = live_parts(wide, routed(few, 2), Tokens(few, few, 0 * few))
    assert few["masks"].tolist() == [[5 * 8 * 2 * 5] * 2]


def test_padded_rows_of_one_gpu_are_held_before_they_are_computed():
    tokens = column(1)
    padded, gathered = (
        live_parts(
            Widths(20, 80, 0),
            rows_of(tokens, 0, 16, 16, padded=padded),
            Tokens(tokens, tokens, 0 * tokens),
        )
        for padded in (True, False)
    )
    assert int((padded["activations"] - gathered["activations"])[0, 0]) == 16 * 20


def test_a_kernel_that_is_not_fused_holds_what_its_activation_makes():
    fused, apart = (Widths.of(toy(), 4, fused=fused).inner for fused in (True, False))
    assert (fused, apart) == (2 * 20 * 2, 3 * 20 * 2)


def test_rows_grow_with_tokens_and_masks_with_their_square():
    rows = rows_of(column(1), 10, 7, 3, 40, 6, 8, padded=True).times(3, 2)
    assert [int(part[0, 0]) for part in (rows.moved, rows.received, rows.inside)] == [15, 11, 5]
    assert rows.masks.tolist() == [[90]]
    assert (rows.positions.tolist(), rows.places.tolist()) == ([[9]], [[18]])


def test_a_copy_in_flight_fills_a_slot():
    offloaded = footprint(on_gpu(8, 3), tokens=[1])
    before = offloaded.total.copy()
    offloaded.in_flight(np.array([[[0], [EXPERT]]]))
    assert offloaded.parts["copies_in_flight"].tolist() == [[EXPERT]]
    np.testing.assert_array_equal(offloaded.total, before)


def test_overflow_names_what_is_largest():
    parts = footprint(on_gpu(8, 3), tokens=[1])
    total = int(parts.total[0, 0])
    assert parts.overflow(total, 10**9) is None
    reason = parts.overflow(total - 1, 10**9)
    assert reason.startswith("GPU 0 at step 0 needs")
    assert "first without room" not in reason
    assert reason.index("expert slots") < reason.index("weights") < reason.index("kv cache")
    assert "host" in parts.overflow(10**9, 2 * 8 * EXPERT - 1)
    assert parts.overflow(10**9, 2 * 8 * EXPERT) is None


def test_overflow_names_a_step_only_where_requests_are_too_much():
    """What no request adds to has no step; else the peak is told, and the first without room."""
    sizes = {"weights": [6, 6, 6, 6], "expert_slots": [3, 3, 4, 4],
             "copies_in_flight": [1, 1, 0, 0], "kv_cache": [2, 3, 4, 3]}  # fmt: skip
    parts = {name: np.array(column)[:, None] for name, column in sizes.items()}
    said = Footprint(parts, 0, whole(toy(), 1))
    reasons = {room: said.overflow(room, 1, "{} (told)".format) for room in range(9, 15)}
    assert reasons[14] is None
    assert (reasons[13] or "").startswith("GPU 0 at step 2 (told) needs")
    assert "without room" not in (reasons[13] or "")
    assert (reasons[12] or "").endswith("; the first without room is step 1 (told)")
    assert (reasons[10] or "").endswith("; the first without room is step 0 (told)")
    assert (reasons[9] or "").startswith("GPU 0 needs")
    assert (reasons[9] or "").endswith("before any keys and values")
    assert "kv cache" not in (reasons[9] or "")


@pytest.mark.parametrize(
    ("capacity", "local", "slots"),
    [
        ("3 slots/layer", 8, 3),
        ("30 slots/layer", 8, 8),  # no more than there are
        ("all", 5, 5),
        ("25 %", 8, 2),
        ("40 %", 8, 3),  # 3.2
        ("58 %", 50, 29),  # 28.999999999999996 in floating point
        ("1 %", 8, 1),  # at least one
        ("7200 B", 8, 6),  # 7200 / (2 layers x 600)
        ("7199 B", 8, 5),
        ("1 B", 8, 1),
        ("1 GB", 8, 8),
    ],
)
def test_slots_of_a_capacity(capacity, local, slots):
    assert slots_of(parse_capacity(capacity), expert_bytes(toy()), local) == slots


@pytest.mark.parametrize("percent", range(1, 101))
def test_a_percent_is_rounded_down_exactly(percent):
    for local in (4, 8, 25, 32, 100, 128):
        exact = max(1, percent * local // 100)
        assert slots_of(parse_capacity(f"{percent} %"), expert_bytes(toy()), local) == exact


# gpt-oss-20b by hand, from its config.json and the checkpoint's formats
HIDDEN, INNER, VOCABULARY, LAYERS = 2880, 2880, 201_088, 24
GPT_OSS_EXPERT = 3 * HIDDEN * INNER * 17 // 32 + 2 * (2 * INNER + HIDDEN)  # mxfp4: 4.25 bits; bf16
QUERY, KEY = 64 * 64, 8 * 64
GPT_OSS_LAYER = 2 * (
    HIDDEN * (QUERY + 2 * KEY) + QUERY + 2 * KEY  # q, k, v with biases
    + QUERY * HIDDEN + HIDDEN + 64  # output, its bias, and a sink for each head
    + 32 * HIDDEN + 32  # router
    + 2 * HIDDEN  # norms
)  # fmt: skip
GPT_OSS_REST = 2 * (2 * VOCABULARY * HIDDEN + HIDDEN)  # embedding, head, last norm
LIMIT = 8 * 2**30 - 512 * 2**20


def on_8_gb(slots):
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/quickstart.parquet",
        "experts": {"capacity": f"{slots} slots/layer"},
    }
    return moesim.load_experiment(source).experiment


def needed(slots, context):
    """Bytes of a decode step of one request: 12 of 24 layers see 128 tokens at most."""
    kv = 2 * 8 * 64 * 2 * 12 * (context + min(context, 128))
    live = 4 * HIDDEN * 2 + max(4 * (HIDDEN + 2 * INNER) * 2, 4 * VOCABULARY)
    return LAYERS * GPT_OSS_LAYER + GPT_OSS_REST + LAYERS * slots * GPT_OSS_EXPERT + kv + live


def test_13_slots_fit_on_an_8_gb_card_and_14_do_not():
    experiment = on_8_gb(13)
    context = int(build(experiment).case.trace.position.max()) + 1
    assert needed(13, context) < LIMIT < needed(14, context)
    for slots, fits in ((13, True), (14, False)):
        built = build(on_8_gb(slots))
        assert built.limit_bytes == LIMIT
        assert int(built.footprint.total.max()) == needed(slots, context)
        assert (built.out_of_memory is None) == fits
    assert largest_fit(experiment)["largest_slots"] == 13


def test_the_hand_count_is_the_checkpoint():
    whole = LAYERS * (GPT_OSS_LAYER + 32 * GPT_OSS_EXPERT) + GPT_OSS_REST
    assert whole == load_model("gpt-oss-20b").bytes


def test_staging_buffers_lie_beside_the_slots_of_a_gpu_that_copies():
    def held(*slots, **choices):
        return footprint(on_gpu(8, *slots, staging=2, **choices), tokens=[1]).at_peak()

    assert held(3)["expert_slots"] == (2 * 3 + 2) * EXPERT
    assert held(8, 3)["expert_slots"] == (3 + 2) * EXPERT
    assert held(3, buffers=2)["expert_slots"] == (2 + 2) * EXPERT
    assert held(8)["expert_slots"] == 0
