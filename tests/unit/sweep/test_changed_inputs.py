"""Files that change before, while and after a sweep reads them: never two contents in one table."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import ChangedError, InputError
from moesim.config.files.paths import shipped_folder
from moesim.experiment.loading.inputs import inputs_of
from moesim.experiment.loading.resolve import Resolved, load_experiment
from moesim.results.store import read_log
from moesim.sweep import SweepOptions, run_sweep
from moesim.sweep import identity as under_test
from moesim.sweep.identity import claim, identity
from moesim.sweep.point import Point, Simulation, Work
from moesim.sweep.run import Progress

SHIPPED = shipped_folder()
QUICKSTART = SHIPPED / "traces/quickstart.parquet"
CARD = SHIPPED / "moesim/model/cards/gpt-oss-20b.json"
TITLE = "title: mine\nsources: {}\n"
EXPERIMENT = {
    "name": "small",
    "model": "model",
    "hardware": "top.yaml",
    "software": "software.yaml",
    "trace": "t.parquet",
    "workload": {"requests": 1},
    "records": "summary",
    "placement": {"kind": "plan", "file": "plan.json"},
    "quality": {"table": "quality.csv"},
    "experts": {"capacity": "8 slots/layer"},
    "sweep": {"experts.policy.kind": ["lru", "fifo", "lfu"]},
}


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Resolved:
    monkeypatch.chdir(tmp_path)
    shutil.copy(QUICKSTART, "t.parquet")
    (tmp_path / "model").mkdir()
    card = json.loads(CARD.read_text())
    del card["quantization_config"]
    (tmp_path / "model/config.json").write_text(json.dumps(card))
    quantized("FP8")
    profiles = SHIPPED / "hardware_profiles"
    shutil.copy(profiles / "rtx-4090.yaml", "below.yaml")
    shutil.copy(profiles / "h100-sxm.yaml", "wiring.yaml")
    shutil.copy(profiles / "software/ideal.yaml", "software.yaml")
    Path("top.yaml").write_text(f"{TITLE}base: below.yaml\ntopology: wiring.yaml\n")
    planned(range(32))
    Path("quality.csv").write_text("lowered_share,perplexity\n0,5\n1,7\n")
    return load_experiment(EXPERIMENT)


def planned(order: Any) -> None:
    plan = {"gpus": 1, "physical_to_logical_map": [list(order)] * 24}
    Path("plan.json").write_text(json.dumps(plan))


def quantized(kind: str) -> None:
    content = {"quantization": {"quant_algo": kind}}
    Path("model/hf_quant_config.json").write_text(json.dumps(content))


def appended(name: str, content: bytes = b"\n") -> Callable[[], None]:
    def change() -> None:
        with Path(name).open("ab") as stream:
            stream.write(content)

    return change


CHANGES: dict[str, Callable[[], None]] = {
    "t.parquet": appended("t.parquet", b"PAR1"),
    "model/config.json": appended("model/config.json"),
    "model/hf_quant_config.json": lambda: quantized("NVFP4"),
    "below.yaml": appended("below.yaml"),
    "wiring.yaml": appended("wiring.yaml"),
    "software.yaml": appended("software.yaml"),
    "plan.json": lambda: planned(range(31, -1, -1)),
    "quality.csv": appended("quality.csv"),
}


@pytest.mark.parametrize("name", CHANGES)
def test_a_worker_refuses_what_is_not_as_at_the_start(
    sweep: Resolved, tmp_path: Path, name: str
) -> None:
    point = sweep.points[0][1]
    work = Work(Simulation(inputs=inputs_of([point])), tmp_path)
    CHANGES[name]()
    with pytest.raises(ChangedError, match=re.escape(f"{name}: ")) as caught:
        work([Point(0, point)])
    assert len(caught.value.problems) == 1


@pytest.mark.parametrize("name", CHANGES)
def test_a_sweep_is_not_gone_on_with_over_other_content(
    sweep: Resolved, tmp_path: Path, name: str
) -> None:
    points = [point for _, point in sweep.points]
    claim(tmp_path, identity({}, [], inputs_of(points)))
    load_experiment(EXPERIMENT)
    claim(tmp_path, identity({}, [], inputs_of(points)))
    CHANGES[name]()
    with pytest.raises(InputError, match=r"its content has changed") as error:
        claim(tmp_path, identity({}, [], inputs_of(points)))
    assert Path(name.removesuffix("/config.json")).name in error.value.problems[0].path
    assert len(error.value.problems) == 2


def test_a_folder_of_another_version_of_the_code_says_so(sweep: Resolved, tmp_path: Path) -> None:
    now = identity({}, [], inputs_of([point for _, point in sweep.points]))
    claim(tmp_path, {**now, "sources": "0" * 64, "digest": "1" * 64})
    with pytest.raises(InputError, match="sources: moesim's own code has changed"):
        claim(tmp_path, now)


def test_a_file_beside_the_model_that_comes_or_goes_is_a_change(sweep: Resolved) -> None:
    point = sweep.points[0][1]
    simulation = Simulation(inputs=inputs_of([point]))
    Path("model/hf_quant_config.json").unlink()
    with pytest.raises(ChangedError, match=r"hf_quant_config.json: .*gone since the start"):
        simulation(point)
    simulation = Simulation(inputs=inputs_of([point]))
    quantized("FP8")
    with pytest.raises(ChangedError, match=r"hf_quant_config.json: .*not read at the start"):
        simulation(point)


def test_other_sources_are_another_sweep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    claim(tmp_path, identity({}, [], {}))
    monkeypatch.setattr(under_test, "source_digest", lambda: "other")
    with pytest.raises(InputError, match="sources: "):
        claim(tmp_path, identity({}, [], {}))


def replace_trace() -> None:
    """Another recording of the same shape in the place of the trace."""
    shutil.copy(OTHER, "new.parquet")
    Path("new.parquet").replace("t.parquet")


OTHER = Path("other.parquet")


@pytest.fixture
def replacing(sweep: Resolved) -> Progress:
    """Replaces the trace after the first point."""
    from moesim.trace import read_trace, write_trace
    from moesim.trace.slicing import slice_trace

    trace = read_trace("t.parquet")
    requests = trace.request_offsets()
    write_trace(slice_trace(trace, requests=slice(1, len(requests))), OTHER)

    def told(finished: int, total: int) -> None:
        if finished == 1:
            replace_trace()

    return told


def test_a_trace_replaced_during_a_sweep_stops_it(
    sweep: Resolved, tmp_path: Path, replacing: Progress
) -> None:
    out = tmp_path / "out"
    with pytest.raises(ChangedError, match=r"t\.parquet: trace: its content changed"):
        run_sweep(sweep.experiment, sweep.points, out, progress=replacing)
    assert list(read_log(out)) == [0]
    shutil.copy(QUICKSTART, "t.parquet")
    whole = run_sweep(sweep.experiment, sweep.points, tmp_path / "undisturbed")
    assert run_sweep(sweep.experiment, sweep.points, out)["misses"].equals(whole["misses"])


def test_processes_all_use_the_trace_of_the_start_and_keep_it_under_its_key(
    sweep: Resolved, tmp_path: Path, replacing: Progress
) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    arguments = (sweep.experiment, sweep.points)
    old = run_sweep(
        *arguments, tmp_path / "old", options=SweepOptions(jobs=2, cache=cache), progress=replacing
    )
    new = run_sweep(*arguments, tmp_path / "new", options=SweepOptions(cache=cache))
    assert not any(entry.reused for entry in read_log(tmp_path / "new").values())
    assert not set(old["misses"]) & set(new["misses"])
    shutil.copy(QUICKSTART, "t.parquet")
    again = run_sweep(*arguments, tmp_path / "again", options=SweepOptions(cache=cache))
    assert all(entry.reused for entry in read_log(tmp_path / "again").values())
    assert again["misses"].equals(old["misses"])
