"""Every registered importer: its sample becomes a sound trace that survives Parquet."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import pytest

from moesim.config.errors import InputError
from moesim.model import load_model
from moesim.testing.importers import (
    reads_a_sound_trace,
    recognises_without_an_error,
    refuses_what_is_damaged,
)
from moesim.testing.traces import toy_trace
from moesim.trace.importers import registry
from moesim.trace.importers.base import Importer
from moesim.trace.importing import import_trace
from moesim.trace.recording import Recording
from tests.contracts.kinds import own

SAMPLES = Path(__file__).parents[1] / "data" / "importers"
FOLDER = Path(__file__).parents[2] / "moesim" / "trace" / "importers"
KINDS = own(registry)


def sample(kind):
    (path,) = [p for p in SAMPLES.glob(f"{kind}.*") if not p.name.endswith(".options.json")]
    return path


def options(kind):
    path = SAMPLES / f"{kind}.options.json"
    found = json.loads(path.read_text()) if path.exists() else {}
    return {**found, "model": load_model(found["model"])} if "model" in found else found


def test_every_file_of_the_folder_is_registered():
    files = {path.stem for path in FOLDER.glob("*.py")} - {"__init__", "base"}
    assert files == {kind.replace("-", "_") for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_the_sample_is_recognised_by_its_importer_alone(kind):
    recording = Recording(sample(kind), **options(kind))
    assert [k for k, c in registry.components.items() if c().recognises(recording)] == [kind]


@pytest.mark.parametrize("kind", KINDS)
def test_contract(kind):
    importer = registry.get(kind)()
    reads_a_sound_trace(importer, sample(kind), **options(kind))
    recognises_without_an_error(importer, sample(kind))
    refuses_what_is_damaged(importer, sample(kind), **options(kind))


@pytest.mark.parametrize("kind", KINDS)
def test_an_import_says_where_it_is_from(kind):
    trace = import_trace(sample(kind), **options(kind))
    assert trace.metadata.source == sample(kind).name
    assert trace.metadata.licence == "unknown"


class Careless(Importer):
    """Fails on files of others, and makes ids beyond the experts."""

    kind: Literal["careless"] = "careless"

    def recognises(self, recording):
        return bool(recording.head[0])

    def read(self, recording):
        trace = toy_trace([(1, 2)])
        return replace(trace, expert_ids=trace.expert_ids + 9)


def test_one_that_breaks_the_rules_is_named(tmp_path):
    path = tmp_path / "some.bin"
    path.write_bytes(b"1234")
    with pytest.raises(AssertionError, match="Careless: "):
        reads_a_sound_trace(Careless(), path)
    with pytest.raises(AssertionError, match="Careless makes a damaged file a trace"):
        refuses_what_is_damaged(Careless(), path)
    with pytest.raises(IndexError):
        recognises_without_an_error(Careless(), path)


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
