"""Sweeps that really simulate: shared traces, the cache, clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest

from moesim.cli.main import main
from moesim.config.errors import InputError
from moesim.engine.replay.quick import reuse
from moesim.engine.replay.quick.activations import decide_all_of
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.loading.traces import write_shared
from moesim.memory.policy import CachePolicy
from moesim.results import read_result
from moesim.results.store import read_log
from moesim.sweep import SweepOptions, point_folder, run_sweep
from moesim.sweep.point import Simulation

YAML = """\
name: small
model: gpt-oss-20b
hardware: rtx-4090
trace: traces/quickstart.parquet
workload: {requests: 1}
records: step
sweep:
  experts.capacity: [4 slots/layer, 8 slots/layer]
  experts.policy.kind: [lru, fifo]
"""


@pytest.fixture
def experiment(tmp_path: Path) -> Path:
    (tmp_path / "small.yaml").write_text(YAML)
    return tmp_path / "small.yaml"


def tables(folder: Path) -> list[bytes]:
    return [(folder / name).read_bytes() for name in ("points.parquet", "points.csv")]


def test_a_mapped_trace_is_not_read_again(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = [point for _, point in load_experiment(experiment).points]
    shared = write_shared(points, tmp_path / "arrays")
    direct = Simulation()(points[0])

    def read(*_: object) -> None:
        raise AssertionError("a trace was read")

    monkeypatch.setattr("moesim.experiment.loading.traces._read", read)
    mapped = Simulation(shared)(points[0])
    with pytest.raises(AssertionError, match="a trace was read"):
        Simulation()(points[0])  # what one point is told holds for no other
    assert mapped.steps.equals(direct.steps)
    assert mapped.summary["duration_ms"] == direct.summary["duration_ms"]


def test_points_share_what_they_decide(
    experiment: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Twelve points on two machines: six sets of decisions, and the numbers of lone runs, of two
    rows a pass: one row's are decided anew at once.
    """
    two = "{requests: 2, batching: {kind: static, batch_size: 2}}"
    slots = "[8 slots/layer, 10 slots/layer, 12 slots/layer]"
    text = YAML.replace("[4 slots/layer, 8 slots/layer]", slots).replace("{requests: 1}", two)
    experiment.write_text(text.replace("lru", "lfu") + "  hardware: [rtx-4090, h100-sxm]\n")
    loaded, decided = load_experiment(experiment), []

    def deciding(policy: type[CachePolicy]) -> Any:
        decided.append(policy)
        return decide_all_of(policy)

    monkeypatch.setattr(reuse, "ACTIVATIONS", 1 << 30)
    monkeypatch.setattr("moesim.engine.replay.quick.residency_plan.decide_all_of", deciding)
    table = run_sweep(
        loaded.experiment, loaded.points, tmp_path / "out", options=SweepOptions(jobs=1)
    )
    assert len(decided) == 6
    alone = [Simulation()(point).summary for _, point in loaded.points]
    assert len(decided) == 6 + 12
    for key in ("duration_ms", "misses", "stall_ms", "hit_ratio_per_access"):
        assert table[key].tolist() == [summary[key] for summary in alone]
    assert table["duration_ms"].nunique() == 12


def test_processes_and_the_cache_give_the_tables_of_one_process(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cache = str(tmp_path / "cache")
    half = ["sweep", str(experiment), "--set", "sweep={experts.capacity: [4 slots/layer]}"]
    assert main([*half, "--cache", cache, "-o", str(tmp_path / "half")]) == 0
    assert "from the cache" not in capsys.readouterr().out
    both = ["sweep", str(experiment), "-j", "2", "--cache", cache, "-o", str(tmp_path / "two")]
    assert main(both) == 0
    assert "1 of 4 points from the cache" in capsys.readouterr().out
    assert not list((tmp_path / "two").glob(".writing-*"))
    resolved = load_experiment(experiment)
    run_sweep(resolved.experiment, resolved.points, tmp_path / "one")
    assert tables(tmp_path / "one") == tables(tmp_path / "two")


def test_a_stored_point_is_run_again_from_its_experiment(experiment: Path, tmp_path: Path) -> None:
    import moesim
    from moesim.results import rebuild

    resolved = load_experiment(experiment)
    run_sweep(resolved.experiment, resolved.points[:2], tmp_path / "out")
    stored = point_folder(tmp_path / "out", 1)
    again = moesim.run(rebuild(stored))
    assert again.steps.equals(read_result(stored).steps)


def test_a_dask_cluster_gives_the_same_tables_and_goes_on(experiment: Path, tmp_path: Path) -> None:
    pytest.importorskip("distributed")
    pytest.importorskip("cryptography")
    from moesim.sweep.dask import DaskCluster

    resolved = load_experiment(experiment)
    run_sweep(resolved.experiment, resolved.points, tmp_path / "one")
    whole = read_log(tmp_path / "one")
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        run_sweep(
            resolved.experiment,
            resolved.points,
            tmp_path / "dask",
            options=SweepOptions(executor=DaskCluster(None, 2)),
            progress=lambda done, total: seen.append((done, total)),
        )
    assert tables(tmp_path / "one") == tables(tmp_path / "dask")
    assert seen[0] == (0, len(whole))
    assert seen[-2:] == [(4, 4), (4, 4)]


def test_a_cluster_here_takes_work_from_this_process_alone() -> None:
    distributed = pytest.importorskip("distributed")
    pytest.importorskip("cryptography")
    from moesim.sweep.dask import DaskCluster

    with DaskCluster(None)._client() as client:
        address = client.scheduler_info()["address"]
        assert address.startswith("tls://127.0.0.1:")
        assert client.submit(sum, (1, 2)).result() == 3
        for stranger in (address, address.replace("tls", "tcp")):
            with pytest.raises((OSError, TypeError)):
                distributed.Client(stranger, timeout=2, set_as_default=False)
        with pytest.raises((OSError, TimeoutError)):
            distributed.Client(address, security=distributed.Security.temporary(), timeout=2)


def test_a_cluster_here_needs_a_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    distributed = pytest.importorskip("distributed")
    monkeypatch.setattr(distributed.Security, "temporary", Mock(side_effect=ImportError))
    from moesim.sweep.dask import DaskCluster

    with pytest.raises(InputError, match=r"needs the package 'cryptography'; install moesim\[dask"):
        DaskCluster(None)._client().__enter__()


def test_a_scheduler_that_is_not_there_is_named(
    experiment: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    pytest.importorskip("distributed")
    monkeypatch.setattr("moesim.sweep.dask.TIMEOUT_S", 0.2)
    command = ["sweep", str(experiment), "-o", str(tmp_path / "out"), "--executor", "dask"]
    assert main([*command, "--dask-address", "tcp://127.0.0.1:9"]) == 2
    assert "no scheduler answers at 'tcp://127.0.0.1:9'" in capsys.readouterr().err
    assert main([*command[:4], "--dask-address", "tcp://127.0.0.1:9"]) == 2
    assert "write --executor dask, too" in capsys.readouterr().err
