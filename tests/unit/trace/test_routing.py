from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.trace import TraceMetadata, read_trace


def test_sizes_and_offsets(random_trace):
    assert (random_trace.tokens, random_trace.moe_layers, random_trace.top_k) == (61, 3, 3)
    assert random_trace.requests == 5
    assert random_trace.request_offsets().tolist() == [0, 20, 21, 36, 46, 61]
    assert random_trace.request_offsets().dtype == np.int64


def test_largest_ids_leave_unused_slots_out(make):
    ids = [[[1, 65535], [65535, 65535]], [[5, 2], [65535, 65535]]]
    assert make(ids, [2]).largest_ids.tolist() == [5, -1]


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("expert_ids", np.zeros((61, 3, 3), np.int32), "int32: must be uint16"),
        ("expert_ids", np.zeros((61, 3, 2), np.uint16), "must be (61, 3, 3)"),
        ("expert_ids", np.zeros((61, 9), np.uint16), "must be [tokens, moe_layers, top_k]"),
        ("expert_ids", np.zeros((0, 3, 3), np.uint16), "at least one token"),
        ("expert_ids", np.zeros((61, 3, 6), np.uint16)[:, :, ::2], "not C-contiguous"),
        ("request_id", np.zeros(60, np.int32), "shape (60,): must be (61,)"),
        ("position", np.zeros(61, np.int64), "int64: must be int32"),
        ("phase", np.zeros(61, np.int8), "int8: must be uint8"),
        ("gate_weights", np.zeros((61, 3, 2), np.float16), "must be (61, 3, 3)"),
        ("predicted_ids", np.zeros((61, 3, 3), np.int16), "must be uint16"),
    ],
)
def test_wrong_arrays_are_refused(random_trace, name, array, words):
    with pytest.raises(InputError) as error:
        replace(random_trace, **{name: array})
    assert words in str(error.value)
    assert str(error.value).startswith(name)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"experts": 0}, "experts = 0"),
        ({"experts": 65535}, "must be from 1 to 65534"),
        ({"top_k": 9}, "top_k = 9: must be from 1 to experts = 8"),
        ({"moe_layer_ids": ()}, "moe_layer_ids = []"),
        ({"moe_layer_ids": (1, 1)}, "must rise"),
    ],
)
def test_wrong_metadata_is_refused(change, words):
    good = TraceMetadata(None, 8, 2, (0, 1), "test", "", "")
    with pytest.raises(InputError) as error:
        replace(good, **change)
    assert words in str(error.value)


def test_fits_its_own_model(quickstart):
    read_trace(quickstart).check_fits(load_model("gpt-oss-20b"))


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ("gpt-oss-120b", "has 24 MoE layers, but model 'gpt-oss-120b' has 36"),
        ("olmoe-1b-7b", "has 24 MoE layers, but model 'olmoe-1b-7b' has 16"),
        ("llama-3.1-8b", "has 0"),
    ],
)
def test_other_models_do_not_fit(quickstart, model, words):
    with pytest.raises(InputError) as error:
        read_trace(quickstart).check_fits(load_model(model))
    assert words in str(error.value)
    assert "recorded from gpt-oss-20b" in str(error.value)


def test_ids_and_top_k_must_fit(make):
    model = load_model("mixtral-8x7b")  # 32 layers, 8 experts, top-2
    ids = np.tile(np.array([1, 7], np.uint16), (2, 32, 1))
    make(ids, [2], experts=64).check_fits(model)  # what counts are the ids
    ids[1, 5, 0] = 8
    with pytest.raises(InputError, match=r"expert id 8 in MoE layer 5.*experts 0 to 7"):
        make(ids, [2], experts=9).check_fits(model)
    wide = np.tile(np.array([1, 7, 3], np.uint16), (2, 32, 1))
    with pytest.raises(InputError, match=r"3 experts a token.*routes to 2"):
        make(wide, [2]).check_fits(model)
