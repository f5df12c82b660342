"""The sweep's log and its packs."""

from __future__ import annotations

import hashlib
import json
from operator import attrgetter
from pathlib import Path
from unittest.mock import Mock

import pandas as pd
import pytest

import moesim
from moesim.config.errors import InputError
from moesim.results import Result, is_result, read_result
from moesim.results.pack import MAGIC, DamagedError, pack, unpack
from moesim.results.store import (
    LOG,
    PACKS,
    Finished,
    LogWriter,
    PackFile,
    read_entry,
    read_log,
    remove_leftovers,
)
from moesim.sweep import SweepOptions, point_folder, run_sweep
from moesim.sweep.groups import groups_of
from moesim.sweep.point import Batch, Point, failure
from moesim.sweep.queue import BATCH_S, Queue
from tests.unit.sweep.evaluations import EXPERIMENT, Counted, points


def result(n: int) -> Result:
    table = pd.DataFrame({"request_id": [1, 2], "tokens": [n, n], "tpot_ms": [0.5, None]})
    return Result({"status": "ok", "ratio": float("nan")}, {"n": n}, requests=table)


def test_a_result_comes_back_from_its_bytes() -> None:
    read = unpack(pack(result(3)))
    assert read.summary == {"status": "ok", "ratio": None}
    assert read.configuration == {"n": 3}
    pd.testing.assert_frame_equal(read.requests, result(3).requests)
    assert list(read.steps.columns) == list(result(3).steps.columns)
    assert unpack(pack(result(3)), tables=()).requests.empty


@pytest.mark.parametrize("place", [0, 20, 60, -1])
def test_one_wrong_byte_is_noticed(place: int) -> None:
    content = bytearray(pack(result(3)))
    content[place] ^= 1
    with pytest.raises(DamagedError):
        unpack(bytes(content))
    with pytest.raises(DamagedError):
        unpack(pack(result(3))[:-1])


def test_every_torn_end_of_the_log_is_cut_off(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as log:
        log.add([failure(0, "first")])
        whole = (tmp_path / LOG).read_bytes()
        log.add([failure(1, "second")])
    both = (tmp_path / LOG).read_bytes()
    for end in range(len(whole), len(both)):
        (tmp_path / LOG).write_bytes(both[:end])
        assert list(read_log(tmp_path)) == [0]
        with LogWriter(tmp_path) as log:
            log.add([failure(2, "third")])
        assert {n: e.summary["reason"] for n, e in read_log(tmp_path).items()} == {
            0: "first",
            2: "third",
        }


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[1]",
        '{"number": ' + "[" * 100_000,
        '{"number": 1}',
        '{"number": 1, "summary": {"status": "ok", "hits": "many"}}',
        '{"number": 1, "summary": {"status": "ok"}, "pack": "../../other.pack"}',
        '{"number": 1, "summary": {"status": "ok"}, "pack": "a.pack", "start": -1}',
        '{"number": 1, "summary": {"status": "ok"}, "more": 1}',
    ],
)
def test_a_damaged_log_is_named_with_its_line(tmp_path: Path, line: str) -> None:
    (tmp_path / LOG).write_text(f'{{"number": 1, "summary": {{"status": "ok"}}}}\n{line}\n')
    with pytest.raises(InputError, match=rf"{LOG}:2: .*restore the file"):
        read_log(tmp_path)


def test_packs_that_no_line_names_are_removed(tmp_path: Path, markers: Path) -> None:
    run_sweep(EXPERIMENT, points(2), tmp_path / "out", evaluate=Counted(markers))
    (stray := tmp_path / "out" / PACKS / "stray.pack").write_bytes(b"half")
    remove_leftovers(tmp_path / "out")
    assert not stray.exists()
    assert read_result(point_folder(tmp_path / "out", 1)).summary["hits"] == 1


def test_a_point_is_read_by_the_name_of_its_folder(tmp_path: Path, markers: Path) -> None:
    out = tmp_path / "out"
    run_sweep(EXPERIMENT, points(3, n1="raise"), out, evaluate=Counted(markers))
    assert not (out / "points").exists()
    assert is_result(out / "points" / "0002")
    assert read_result(out / "points" / "0002").configuration["n"] == 2
    with pytest.raises(InputError, match="the point failed: ValueError: no such thing"):
        read_result(out / "points" / "0001")
    with pytest.raises(InputError, match="no such finished point"):
        read_result(out / "points" / "0007")
    assert "Traceback" in read_log(out)[1].details


def test_a_damaged_pack_is_named(tmp_path: Path, markers: Path) -> None:
    run_sweep(EXPERIMENT, points(1), tmp_path / "out", evaluate=Counted(markers))
    (pack_file,) = (tmp_path / "out" / PACKS).iterdir()
    pack_file.write_bytes(pack_file.read_bytes()[:-1])
    with pytest.raises(InputError) as caught:
        read_result(tmp_path / "out" / "points" / "0000")
    (problem,) = caught.value.problems
    assert problem.where == str(pack_file)
    for words in (
        "point 0 cannot be read from it (not as it was written): its tables are lost",
        f"restore the file, or remove the lines of {LOG} that name it",
    ):
        assert words in problem.what
    pack_file.unlink()
    with pytest.raises(InputError, match=r"cannot be read from it \(there is no such file\)"):
        read_result(tmp_path / "out" / "points" / "0000")


def test_a_damaged_pack_is_mended_as_its_message_says(tmp_path: Path, markers: Path) -> None:
    whole = run_sweep(EXPERIMENT, points(3), tmp_path / "out", evaluate=Counted(markers))
    (pack_file,) = (tmp_path / "out" / PACKS).iterdir()
    pack_file.write_bytes(b"")
    log = tmp_path / "out" / LOG
    kept = [line for line in log.read_text().splitlines(True) if pack_file.name not in line]
    log.write_text("".join(kept))
    mended = run_sweep(EXPERIMENT, points(3), tmp_path / "out", evaluate=Counted(markers))
    pd.testing.assert_frame_equal(mended, whole)
    assert read_result(tmp_path / "out" / "points" / "0002").summary["hits"] == 4


def test_folders_are_written_on_demand_and_later(tmp_path: Path, markers: Path) -> None:
    out = tmp_path / "out"
    for folders in (False, True, True):
        run_sweep(
            EXPERIMENT,
            points(3, n1="raise"),
            out,
            options=SweepOptions(folders=folders),
            evaluate=Counted(markers),
        )
    assert sorted(path.name for path in (out / "points").iterdir()) == ["0000", "0002"]
    moved = (out / "points" / "0002").rename(tmp_path / "moved")
    assert read_result(moved).summary["hits"] == 4


def test_the_disk_has_few_files(tmp_path: Path, markers: Path) -> None:
    run_sweep(
        EXPERIMENT,
        points(40),
        tmp_path / "out",
        options=SweepOptions(jobs=2),
        evaluate=Counted(markers),
    )
    assert len([path for path in (tmp_path / "out").rglob("*") if path.is_file()]) <= 8


def test_a_pack_says_where_each_result_is(tmp_path: Path) -> None:
    (tmp_path / PACKS).mkdir()
    file = PackFile(tmp_path)
    entries = [e for n in (5, 6) for e in file.append([Finished.of(n, result(n))] * 2)]
    assert [read_entry(tmp_path, e).configuration["n"] for e in entries] == [5, 5, 6, 6]


def test_batches_grow_with_speed_and_shrink_to_the_end() -> None:
    queue = Queue([Point(n, None) for n in range(100)], workers=2)
    taken = [len(queue.take())]
    while queue:
        queue.learn(Batch([failure(0, "")], BATCH_S / 10))
        taken.append(len(queue.take()))
    assert taken[:2] == [1, 10]
    assert taken[-1] == 1
    assert sum(taken) == 100


def test_what_decides_the_same_goes_to_one_process() -> None:
    axes = [{"hardware": h, "slots": s} for h in "abc" for s in range(20)]
    points = [Point(n, None, group) for n, group in enumerate(groups_of(axes))]
    queue = Queue(sorted(points, key=attrgetter("group")), workers=2)
    assert [point.number for point in queue.take()] == [0, 20, 40]
    queue.learn(Batch([failure(0, "")], 10 * BATCH_S))
    assert [point.number for point in queue.take()] == [1, 21, 41]


def test_suspects_go_alone_and_first() -> None:
    queue = Queue([Point(n, None) for n in range(100)], workers=1)
    queue.learn(Batch([failure(0, "")], BATCH_S / 3))
    queue.suspect(queue.take())
    assert [[p.number for p in queue.take()] for _ in range(4)] == [[0], [1], [2], [3, 4, 5]]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_disk_that_takes_no_more_ends_the_sweep_in_one_line(
    tmp_path: Path, markers: Path, jobs: int
) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        run_sweep(
            EXPERIMENT,
            points(4, n2="unwritable"),
            tmp_path / "out",
            options=SweepOptions(jobs=jobs),
            evaluate=Counted(markers),
        )
    assert read_log(tmp_path / "out")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a full disk of Linux")
def test_a_full_disk_is_told_once(tmp_path: Path) -> None:
    (tmp_path / LOG).touch()
    with Path("/dev/full").open("ab") as full:
        log = LogWriter(tmp_path)
        log._stream.close()
        log._stream = full
        with pytest.raises(InputError, match="cannot be written"), log:
            log.add([failure(0, "it broke")])


@pytest.mark.parametrize(
    "head",
    [
        b"[" * 100_000,
        b"{}",
        {"summary": {"status": 1}, "experiment": {}, "provenance": {"format": 1}, "tables": {}},
        {"summary": {"status": "ok"}, "experiment": {}, "provenance": {"format": 1}, "tables": 1},
        {"summary": {"status": "ok"}, "experiment": {}, "provenance": {"format": 1},
         "tables": {"steps": 5}},
    ],
)  # fmt: skip
def test_a_pack_of_anything_with_its_digest_is_damaged(head: bytes | dict[str, object]) -> None:
    head = head if isinstance(head, bytes) else json.dumps(head).encode()
    body = len(head).to_bytes(8, "little") + head + b"arrow"
    with pytest.raises(DamagedError, match=r"^no result, "):
        unpack(MAGIC + hashlib.sha256(body).digest() + body)


def test_a_disk_that_is_full_at_the_very_end_is_one_line_and_loses_nothing(
    tmp_path: Path, markers: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, full = tmp_path / "out", OSError(28, "No space left on device")
    run_sweep(EXPERIMENT, points(2), out, evaluate=Counted(markers))
    table = (out / "points.csv").read_bytes()
    monkeypatch.setattr("moesim.config.files.files._flush", Mock(side_effect=full))
    with pytest.raises(InputError, match=r"points.parquet' cannot be written \(No space left"):
        run_sweep(EXPERIMENT, points(2), out, evaluate=Counted(markers))
    assert (out / "points.csv").read_bytes() == table


@pytest.mark.usefixtures("unrendered")
def test_a_point_is_plotted_again_and_reported(tmp_path: Path) -> None:
    """Its figures make the folder that names it, in which there is no result."""
    axes = {"experts.capacity": ["4 slots/layer", "8 slots/layer"]}
    base = {"model": "small-moe", "hardware": "rtx-4060-8gb", "trace": "traces/small-moe.parquet"}
    made = moesim.sweep({**base, "workload": {"requests": 1}, "sweep": axes}, tmp_path / "out")
    point = made.folder / "points" / "0001"
    for _ in range(2):
        assert moesim.plot(point)
    assert moesim.write_report(point).is_file()
    with pytest.raises(InputError, match="is a sweep; name one of its points"):
        read_result(made.folder)
