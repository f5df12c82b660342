import json
from typing import Any

import pandas as pd
import pytest

from moesim.calibrate.collect.choice import points_of
from moesim.calibrate.collect.plan import Plan
from moesim.calibrate.collect.session import Session
from moesim.calibrate.collect.shapes import SMALL
from moesim.config.errors import InputError
from moesim.hardware.measurements.table import read_table
from tests.unit.calibrate.collecting import Clock, FakeDevice, fake_point


def session(out, points, name="Fake CPU (1 thread)"):
    clock = Clock()
    device: Any = FakeDevice(clock)
    device.name = name
    return Session(device, points, out, "2.9", clock)


def nothing(session, series):
    pass


def test_the_table_says_where_it_is_from_and_how_sure_it_is(tmp_path):
    run = session(tmp_path / "t.parquet", [fake_point(n, 1e4) for n in (1, 2)])
    run.measure(1, nothing)
    table = read_table(run.out)
    assert list(table["latency_ns"]) == [1e4, 1e4]
    assert set(table["device"]) == {"Fake CPU (1 thread)"}
    assert set(table["version"]) == {"2.9"}
    assert (table["repeats"] > 1).all()
    assert {"spread_percent", "interval_percent"} <= set(table.columns)
    assert table.attrs["machine"]["cores"] >= 1
    json.dumps(table.attrs)


def test_the_table_is_written_while_it_grows(tmp_path):
    run = session(tmp_path / "t.parquet", [fake_point(n, 1e8) for n in range(1, 80)])
    sizes = []

    def look(session, series):
        if session.out.exists():
            sizes.append(len(pd.read_parquet(session.out)))

    run.measure(0.5, look)
    assert len(set(sizes)) > 1
    assert sizes == sorted(sizes)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.parquet"]


def test_an_interrupted_table_is_filled_up(tmp_path):
    out = tmp_path / "t.parquet"
    first = session(out, [fake_point(n, 1e4) for n in range(1, 9)])

    def interrupt(run, series):
        if series.point.columns["bytes"] == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        first.measure(1, interrupt)
    assert list(read_table(out)["bytes"]) == [1, 2, 3]
    log: list[Any] = []
    second = session(out, [fake_point(n, 2e4, log=log) for n in range(1, 9)])
    assert second.resume() == 3
    second.measure(1, nothing)
    assert log[:5] == [4, 5, 6, 7, 8]
    assert sorted(read_table(out)["bytes"]) == list(range(1, 9))


def test_rows_that_this_run_does_not_measure_are_kept(tmp_path):
    out = tmp_path / "t.parquet"
    session(out, [fake_point(1, 1e4)]).measure(1, nothing)
    second = session(out, [fake_point(2, 2e4)])
    second.resume()
    second.measure(1, nothing)
    assert sorted(read_table(out)["latency_ns"]) == [1e4, 2e4]


def test_a_narrow_row_is_not_measured_again(tmp_path):
    out = tmp_path / "t.parquet"
    session(out, [fake_point(1, 1e4)]).measure(1, nothing)
    log: list[Any] = []
    second = session(out, [fake_point(1, 5e4, log=log)])
    second.resume()
    second.measure(1, nothing)
    assert log == []
    assert list(read_table(out)["latency_ns"]) == [1e4]


def test_a_table_of_another_machine_is_not_resumed(tmp_path):
    out = tmp_path / "t.parquet"
    session(out, [fake_point(1, 1e4)]).measure(1, nothing)
    with pytest.raises(InputError, match=r"t\.parquet: device: was measured with device 'Fake"):
        session(out, [fake_point(1, 1e4)], name="Another").resume()


def test_what_was_not_measured_is_told(tmp_path):
    points = [fake_point(1, 1e4, error=RuntimeError("no kernel"))]
    points += [fake_point(n, 5e9, 2) for n in range(2, 20)]
    run = session(tmp_path / "t.parquet", points)
    run.measure(0.2, nothing)
    failed, missed = run.notes()
    assert failed == "copy_h2d None: 1 not measured: no kernel"
    assert "of 19 not reached: give more --minutes" in missed


def test_every_row_is_known_again_after_it_was_written(tmp_path):
    planned = Plan("cuda", SMALL, ("bf16",), 4, 4, 2**25, 2**36)
    points = points_of(planned)
    first = session(tmp_path / "t.parquet", points)
    for series in first.series:
        series.visits.append([1e4])
    first.save()
    second = session(first.out, points)
    assert second.resume() == len(points)
    assert second.others == []
    assert all(series.earlier["latency_ns"] == 1e4 for series in second.series)


def test_two_at_once_do_not_overwrite_each_other(tmp_path):
    first, second = (session(tmp_path / "t.parquet", [fake_point(n, 1e4)]) for n in (1, 2))
    first.measure(1, nothing)
    with pytest.raises(InputError, match="another process"):
        second.measure(1, nothing)
    first.save()
    assert list(read_table(first.out)["bytes"]) == [1]


def test_a_table_that_names_no_device_is_not_resumed(tmp_path):
    run = session(tmp_path / "t.parquet", [fake_point(1, 1e4)])
    pd.DataFrame({"op": ["copy_h2d"], "bytes": [1], "latency_ns": [5.0]}).to_parquet(run.out)
    with pytest.raises(InputError, match="device ''"):
        run.resume()
