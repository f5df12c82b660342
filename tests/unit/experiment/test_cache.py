"""Results used again: for what decides them, and only that."""

from __future__ import annotations

import importlib
import json
import re
import shutil
from pathlib import Path

import pytest
import yaml

import moesim
from moesim.config.errors import ChangedError, InputError
from moesim.config.files.paths import shipped_folder
from moesim.experiment.loading.inputs import inputs_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.running import cache as under_test
from moesim.experiment.running.cache import cache_folder, reused_or
from moesim.experiment.running.run import simulate
from moesim.results import Result
from moesim.results.store import REUSED
from moesim.trace import read_trace, write_trace
from moesim.trace.slicing import slice_trace

provenance = importlib.import_module("moesim.results.provenance")

BASE = {
    "name": "base",
    "model": "gpt-oss-20b",
    "hardware": "rtx-4060-8gb",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "experts": {"capacity": "8 slots/layer"},
}


def resolved(**changes):
    return load_experiment(BASE | changes).experiment


def key_of(experiment):
    return under_test.key_of(experiment, inputs_of([experiment]))


def counted(calls):
    def simulate(experiment, *, inputs):
        calls.append(experiment.name)
        return Result({"name": experiment.name, "status": "ok", "hits": 3}, experiment)

    return simulate


def test_the_same_run_is_simulated_once_and_says_so(tmp_path):
    first = moesim.run(BASE, cache=tmp_path)
    again = moesim.run({**BASE, "name": "other", "figures": []}, cache=tmp_path)
    assert REUSED not in first.provenance
    assert again.provenance[REUSED] == {"created": first.provenance["created"]}
    assert again.summary == {**first.summary, "name": "other"}
    assert again.layers.equals(first.layers)
    assert again.configuration["name"] == "other"


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"experts": {"capacity": "9 slots/layer"}},
        {"hardware": "rtx-4090"},
        {"software": "hf-eager"},
        {"records": "step"},
        {"workload": {"requests": 2}},
        {"trace": "stand-in:gpt-oss-20b"},
    ],
)
def test_what_decides_a_result_is_in_its_key(change):
    assert key_of(resolved(**change)) != key_of(resolved())


def test_the_content_of_a_file_counts_and_not_its_place(tmp_path):
    copy = shutil.copy(shipped_folder() / "traces/quickstart.parquet", tmp_path / "t.parquet")
    assert key_of(resolved(trace=str(copy))) == key_of(resolved())
    other = shutil.copy(shipped_folder() / "traces/small-moe.parquet", tmp_path / "t.parquet")
    assert key_of(resolved(trace=str(other))) != key_of(resolved())


def test_the_content_of_a_plan_counts_and_not_its_place(tmp_path):
    def key(name, order):
        rows = {"gpus": 2, "physical_to_logical_map": [order] * 24}
        (tmp_path / name).write_text(json.dumps(rows))
        plan = {"kind": "plan", "file": str(tmp_path / name)}
        return key_of(resolved(placement=plan, parallelism={"expert": 2}))

    forward, backward = list(range(32)), list(range(32))[::-1]
    assert key("plan.json", forward) == key("elsewhere.json", forward)
    assert key("plan.json", forward) != key("plan.json", backward)


def test_what_is_not_what_the_key_says_is_not_kept(tmp_path):
    """A trace that is replaced after the key is made, before the run reads it."""
    trace = tmp_path / "t.parquet"
    shutil.copy(shipped_folder() / "traces/quickstart.parquet", trace)
    experiment, cache = resolved(trace=str(trace)), tmp_path / "cache"
    cache.mkdir()

    def replaced_first(one, *, inputs):
        recorded = read_trace(trace)
        write_trace(slice_trace(recorded, requests=slice(0, 1)), trace)
        return simulate(one, inputs=inputs)

    with pytest.raises(ChangedError, match=re.escape(str(trace))):
        reused_or(replaced_first, experiment, cache)
    assert not list(cache.iterdir())


def test_a_profile_below_the_named_one_counts(tmp_path):
    shipped = (shipped_folder() / "hardware_profiles/rtx-4060-8gb.yaml").read_text()
    top = tmp_path / "top.yaml"
    top.write_text("title: top\nsources: {}\nbase: below.yaml\n")

    def key(text):
        (tmp_path / "below.yaml").write_text(text)
        return key_of(resolved(hardware=str(top)))

    profile = yaml.safe_load(shipped)
    before = key(yaml.safe_dump(profile, explicit_end=True))
    profile["datasheet"]["copies"]["h2d"]["pinned"]["bandwidth"]["value"] = "11 GB/s"
    assert key(yaml.safe_dump(profile, explicit_end=True)) != before


def test_other_sources_are_another_key(tmp_path, monkeypatch):
    before = key_of(resolved())
    monkeypatch.setattr(provenance, "SOURCES", tmp_path)

    def key(**sources):
        for folder, text in sources.items():
            (tmp_path / folder).mkdir(exist_ok=True)
            (tmp_path / folder / "one.py").write_text(text)
        forget_sources()
        return key_of(resolved())

    keys = [key(engine="SPEED = 1", cli="1"), key(engine="SPEED = 2"), key(cli="2")]
    monkeypatch.undo()
    forget_sources()
    assert len({before, *keys}) == 3
    assert keys[1] == keys[2]


def forget_sources():
    provenance.source_digest.cache_clear()
    provenance.code_digest.cache_clear()


def test_a_damaged_entry_is_simulated_again(tmp_path):
    calls: list[str] = []
    for _ in range(2):
        reused_or(counted(calls), resolved(), tmp_path)
    (entry,) = tmp_path.iterdir()
    entry.write_bytes(entry.read_bytes()[:-1])
    assert reused_or(counted(calls), resolved(), tmp_path).summary["hits"] == 3
    assert calls == ["base", "base"]
    assert [path.name for path in tmp_path.iterdir()] == [entry.name]


def test_a_component_from_elsewhere_is_never_used_again(tmp_path, monkeypatch):
    calls: list[str] = []
    monkeypatch.setattr(type(resolved().gating), "__module__", "somebody.gatings")
    for _ in range(2):
        reused_or(counted(calls), resolved(), tmp_path)
    assert calls == ["base", "base"]


def test_where_the_cache_is(tmp_path, monkeypatch):
    monkeypatch.delenv("MOESIM_CACHE", raising=False)
    assert cache_folder(None) is None
    monkeypatch.setenv("MOESIM_CACHE", str(tmp_path / "by-variable"))
    assert cache_folder(None) == tmp_path / "by-variable"
    assert cache_folder(str(tmp_path / "by-option")) == tmp_path / "by-option"
    assert cache_folder("none") is None
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"--cache: .*cannot be written"):
        cache_folder(str(tmp_path / "file" / "x"))
    monkeypatch.setenv("MOESIM_CACHE", str(tmp_path / "file"))
    with pytest.raises(InputError, match="MOESIM_CACHE: "):
        cache_folder(None)


def test_a_check_is_not_taken_from_the_cache(tmp_path):
    for _ in range(2):
        checked = moesim.run(BASE, cache=tmp_path, check=True, limit_steps=5)
        assert REUSED not in checked.provenance
    assert not list(Path(tmp_path).iterdir())
