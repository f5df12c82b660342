"""Every registered importer: its sample becomes a sound trace that survives Parquet."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.trace import NO_EXPERT, read_trace, write_trace
from moesim.trace.importers import registry
from moesim.trace.importing import import_trace
from moesim.trace.recording import Recording
from moesim.trace.validate import findings

SAMPLES = Path(__file__).parents[1] / "data" / "importers"
FOLDER = Path(__file__).parents[2] / "moesim" / "trace" / "importers"
KINDS = sorted(
    path.stem.replace("_", "-")
    for path in FOLDER.glob("*.py")
    if path.stem not in {"__init__", "base"}
)


def sample(kind):
    (path,) = [p for p in SAMPLES.glob(f"{kind}.*") if not p.name.endswith(".options.json")]
    return path


def options(kind):
    path = SAMPLES / f"{kind}.options.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {**found, "model": load_model(found["model"])} if "model" in found else found


def test_every_file_of_the_folder_is_registered():
    assert set(KINDS) <= set(registry.components)


@pytest.mark.parametrize("kind", KINDS)
def test_the_sample_is_recognised_by_its_importer_alone(kind):
    recording = Recording(sample(kind), **options(kind))
    assert [k for k, c in registry.components.items() if c().recognises(recording)] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_the_sample_becomes_a_sound_trace(kind):
    trace = import_trace(sample(kind), **options(kind))
    assert findings(trace) == []
    ids = trace.expert_ids
    assert ids.dtype == np.uint16
    assert ids.flags.c_contiguous
    assert (ids[ids != NO_EXPERT] < trace.experts).all()
    assert trace.metadata.recorder
    assert trace.metadata.source == sample(kind).name
    assert trace.metadata.licence == "unknown"


@pytest.mark.parametrize("kind", KINDS)
def test_the_trace_survives_parquet(kind, tmp_path):
    trace = import_trace(sample(kind), **options(kind))
    write_trace(trace, tmp_path / "t.parquet")
    again = read_trace(tmp_path / "t.parquet")
    assert again.metadata == trace.metadata
    for name in ("expert_ids", "request_id", "position", "phase", "gate_weights", "predicted_ids"):
        before, after = getattr(trace, name), getattr(again, name)
        assert (before is None) == (after is None), name
        if before is not None:
            assert before.dtype == after.dtype, name
            np.testing.assert_array_equal(before, after, err_msg=name)


@pytest.mark.parametrize("kind", KINDS)
def test_a_truncated_sample_is_an_input_error(kind, tmp_path):
    whole = sample(kind).read_bytes()
    damaged = tmp_path / sample(kind).name
    damaged.write_bytes(whole[: 2 * len(whole) // 3])
    with pytest.raises(InputError, match=damaged.name):
        import_trace(damaged, **options(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_can_be_named(kind):
    named = import_trace(sample(kind), importer=kind, **options(kind))
    assert named.tokens == import_trace(sample(kind), **options(kind)).tokens
