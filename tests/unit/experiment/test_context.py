"""Decode steps at a context that the trace's requests do not reach."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.building.built import Built
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import longest_context
from moesim.trace.routing import Phase
from moesim.workload.context import at_context

KV_BYTES = 49_152
"""gpt-oss-20b's of a token: 24 layers, 8 heads of 64, keys and values in 2 bytes."""
WINDOW = 128
"""Tokens that every other of its layers keeps."""


def built(context: int | str | None, **workload: Any) -> Built:
    source = {
        "model": "gpt-oss-20b",
        "hardware": "rtx-4060-8gb",
        "trace": "traces/quickstart.parquet",
        "workload": {"requests": 1, "context": context, **workload},
        "experts": {"capacity": "auto"},
    }
    return build(load_experiment(source).experiment, 20)


def test_every_step_has_the_caches_of_that_context() -> None:
    parts = built("16k").footprint.parts["kv_cache"]
    assert (parts == (16_384 + WINDOW) * KV_BYTES // 2).all()


def test_longer_requests_stay_as_long_as_they_are() -> None:
    own = built(None)
    longest = longest_context(own)
    assert longest > 1
    assert longest_context(built(1)) == longest
    same = built(1).footprint.parts["kv_cache"]
    assert np.array_equal(same, own.footprint.parts["kv_cache"])


def test_the_caches_take_room_from_the_slots() -> None:
    short, long = built(None), built("64k")
    more = int((long.footprint.parts["kv_cache"] - short.footprint.parts["kv_cache"]).max())
    moes = [layer.moe for layer in short.case.model.moe_layers]
    slot = sum(moe.expert.bytes for moe in moes if moe)
    fewer = short.slots_per_layer[0] - long.slots_per_layer[0]
    assert more // slot <= fewer <= more // slot + 1


def test_attention_takes_longer_and_the_routing_stays() -> None:
    short, long = (run_replay(built(context, phase="decode").case) for context in (None, "64k"))
    assert long.ends[-1] > short.ends[-1]
    assert np.array_equal(long.counts.activations, short.counts.activations)


def test_prompts_keep_their_lengths_and_a_trace_has_one_copy() -> None:
    trace = built(None, phase="all").case.trace
    longer = at_context(trace, 5000)
    prompt = trace.phase == Phase.PREFILL
    assert np.array_equal(longer.position[prompt], trace.position[prompt])
    assert (longer.position[trace.phase == Phase.DECODE] == 4999).all()
    assert at_context(trace, 5000) is longer


@pytest.mark.parametrize(
    ("workload", "told"),
    [
        (
            {"context": "1M"},
            "131,072 of gpt-oss-20b; write 131072 or less, or name a config.json with more",
        ),
        ({"context": "16k", "phase": "prefill"}, "phase 'prefill' has none"),
        ({"context": "16 words"}, "16384 or 16k"),
    ],
)
def test_what_is_no_context_is_refused(workload: dict[str, Any], told: str) -> None:
    source = {"model": "gpt-oss-20b", "hardware": "rtx-4060-8gb", "workload": workload}
    with pytest.raises(InputError, match=told) as error:
        load_experiment(source)
    assert error.value.problems[0].path == "workload.context"
