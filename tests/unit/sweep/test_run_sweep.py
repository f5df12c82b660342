from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from moesim.config.errors import InputError
from moesim.config.files.inputs import file_of
from moesim.results import Result
from moesim.results.overwrite import BEFORE
from moesim.sweep import SweepOptions, read_points, run_sweep
from moesim.sweep.table import tabulate, write_points
from tests.unit.sweep.evaluations import EXPERIMENT, Counted, points

AWKWARD = {"n1": "raise", "n2": "out_of_memory"}


def test_the_table_has_a_row_a_point_in_the_order_of_the_axes(
    tmp_path: Path, markers: Path
) -> None:
    run_sweep(EXPERIMENT, points(4, **AWKWARD), tmp_path / "out", evaluate=Counted(markers))
    table = read_points(tmp_path / "out")
    assert list(table.columns) == [
        "n",
        "status",
        "reason",
        "hits",
        "hit_ratio",
        "time_share.experts",
    ]
    assert table["n"].tolist() == [0, 1, 2, 3]
    assert table["status"].tolist() == ["ok", "failed", "out_of_memory", "ok"]
    assert table["reason"].tolist()[1:3] == ["ValueError: no such thing", "weights do not fit"]
    assert table["hits"].dropna().tolist() == [0, 9]
    assert table["hit_ratio"][3] == 1 / 6


def test_a_number_that_no_point_has_is_a_column_of_numbers_and_a_text_one_of_texts() -> None:
    table = tabulate([{"n": None}] * 2, [{"status": "ok", "mean_ttft_ms": None}] * 2)
    assert table["mean_ttft_ms"].isna().all()
    assert pd.isna(table["mean_ttft_ms"].mean())
    assert {name: str(table[name].dtype) for name in ("n", "reason")} == dict.fromkeys(
        ("n", "reason"), "str"
    )


def test_words_where_numbers_should_be_are_refused_and_nothing_at_all_is_not(
    tmp_path: Path, markers: Path
) -> None:
    out = tmp_path / "out"
    run_sweep(EXPERIMENT, points(3), out, evaluate=Counted(markers))
    table = read_points(out)
    nothing = pd.Series([None] * 3, dtype="str")
    write_points(out, table.assign(tokens=nothing, reason=["a", "b", "c"]))
    assert read_points(out)["tokens"].isna().all()
    write_points(out, table.assign(tokens=["1", "2", "3"]))
    with pytest.raises(InputError, match="has the column 'tokens' of what are no numbers"):
        read_points(out)


def test_the_csv_says_what_the_parquet_says(tmp_path: Path, markers: Path) -> None:
    run_sweep(EXPERIMENT, points(4, **AWKWARD), tmp_path / "out", evaluate=Counted(markers))
    csv = pd.read_csv(tmp_path / "out" / "points.csv", dtype={"hits": "Int64"})
    pd.testing.assert_frame_equal(csv, read_points(tmp_path / "out"), check_dtype=False, rtol=0)


@pytest.mark.parametrize("jobs", [2, 3])
def test_processes_give_the_same_bytes_as_one(tmp_path: Path, markers: Path, jobs: int) -> None:
    for name, n in (("one", 1), ("many", jobs)):
        run_sweep(
            EXPERIMENT,
            points(7, **AWKWARD),
            tmp_path / name,
            options=SweepOptions(jobs=n),
            evaluate=Counted(markers),
        )
    for file in ("points.parquet", "points.csv"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "many" / file).read_bytes()


def test_a_process_that_dies_fails_its_point_only(tmp_path: Path, markers: Path) -> None:
    table = run_sweep(
        EXPERIMENT,
        points(5, n0="die", n3="die"),
        tmp_path / "out",
        options=SweepOptions(jobs=2),
        evaluate=Counted(markers),
    )
    assert table["status"].tolist() == ["failed", "ok", "ok", "failed", "ok"]
    assert "signal 9" in table["reason"][3]


def test_a_finished_sweep_evaluates_nothing_again(tmp_path: Path, markers: Path) -> None:
    seen: list[tuple[int, int]] = []
    for _ in range(2):
        run_sweep(
            EXPERIMENT,
            points(3, n1="raise"),
            tmp_path / "out",
            evaluate=Counted(markers),
            progress=lambda finished, total: seen.append((finished, total)),
        )
    assert [len((markers / str(n)).read_text().splitlines()) for n in range(3)] == [1, 1, 1]
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3), (3, 3)]


def test_failed_points_alone_are_retried_on_demand(tmp_path: Path, markers: Path) -> None:
    again = points(3, n1="raise")
    run_sweep(EXPERIMENT, again, tmp_path / "out", evaluate=Counted(markers))
    run_sweep(
        EXPERIMENT,
        again,
        tmp_path / "out",
        options=SweepOptions(retry_failed=True),
        evaluate=Counted(markers),
    )
    assert [len((markers / str(n)).read_text().splitlines()) for n in range(3)] == [1, 2, 1]


def test_another_experiment_in_the_folder_is_named(tmp_path: Path, markers: Path) -> None:
    run_sweep(EXPERIMENT, points(2), tmp_path / "out", evaluate=Counted(markers))
    with pytest.raises(InputError) as error:
        run_sweep({**EXPERIMENT, "seed": 2}, points(2), tmp_path / "out", evaluate=Counted(markers))
    assert "experiment.seed: 2 now, 1 in this folder" in str(error.value)


def test_a_changed_input_file_is_another_sweep(tmp_path: Path, markers: Path) -> None:
    trace = tmp_path / "trace"
    for text in ("one", "two"):
        trace.write_text(text)
        arguments = (EXPERIMENT, points(2), tmp_path / "out")
        inputs = {("trace", "t"): (file_of(trace),)}
        if text == "two":
            with pytest.raises(InputError, match=r"inputs\.trace t"):
                run_sweep(*arguments, evaluate=Counted(markers), inputs=inputs)
        else:
            run_sweep(*arguments, evaluate=Counted(markers), inputs=inputs)


def test_a_folder_with_other_files_is_refused(tmp_path: Path, markers: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")
    with pytest.raises(InputError, match="holds files but no sweep"):
        run_sweep(EXPERIMENT, points(2), tmp_path, evaluate=Counted(markers))


def test_reading_an_unfinished_sweep_says_how_to_go_on(tmp_path: Path) -> None:
    (tmp_path / "sweep.json").write_text(json.dumps({"points": [{"n": 1}]}))
    with pytest.raises(InputError, match="not finished"):
        read_points(tmp_path)
    with pytest.raises(InputError, match="holds no sweep"):
        read_points(tmp_path / "nowhere")


def test_a_file_that_a_killed_sweep_was_writing_does_not_stand_in_the_way(
    tmp_path: Path, markers: Path
) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / ".writing-1-sweep.json").write_text("{")
    assert len(run_sweep(EXPERIMENT, points(2), out, evaluate=Counted(markers))) == 2
    assert not list(out.glob(".writing-*"))


def test_what_is_overwritten_stays_until_every_point_has_a_result(
    tmp_path: Path, markers: Path
) -> None:
    out, anew = tmp_path / "out", SweepOptions(overwrite=True)
    run_sweep(EXPERIMENT, points(4), out, evaluate=Counted(markers))

    def stopped(experiment: Any) -> Result:
        if experiment["n"] == 1:
            raise KeyboardInterrupt
        return Counted(markers)(experiment)

    with pytest.raises(KeyboardInterrupt):
        run_sweep(EXPERIMENT, points(3), out, options=anew, evaluate=stopped)
    assert read_points(out / BEFORE)["n"].tolist() == [0, 1, 2, 3]

    def failing(experiment: Any) -> Result:
        raise ValueError(experiment["n"])

    run_sweep(EXPERIMENT, points(3), out, options=anew, evaluate=failing)
    assert set(read_points(out)["status"]) == {"failed"}
    assert read_points(out / BEFORE)["n"].tolist() == [0, 1, 2, 3]
    again = SweepOptions(retry_failed=True)
    run_sweep(EXPERIMENT, points(3), out, options=again, evaluate=Counted(markers))
    assert read_points(out)["n"].tolist() == [0, 1, 2]
    assert not (out / BEFORE).exists()


def test_another_sweep_takes_the_folder_only_with_overwrite(tmp_path: Path, markers: Path) -> None:
    out = tmp_path / "out"
    run_sweep(
        EXPERIMENT, points(4), out, options=SweepOptions(folders=True), evaluate=Counted(markers)
    )
    with pytest.raises(InputError, match="--overwrite"):
        run_sweep(EXPERIMENT, points(3), out, evaluate=Counted(markers))
    run_sweep(
        EXPERIMENT, points(3), out, options=SweepOptions(overwrite=True), evaluate=Counted(markers)
    )
    assert read_points(out)["n"].tolist() == [0, 1, 2]
    (out / "mine.txt").touch()
    with pytest.raises(InputError, match="which moesim did not write"):
        run_sweep(
            EXPERIMENT,
            points(2),
            out,
            options=SweepOptions(overwrite=True),
            evaluate=Counted(markers),
        )
    assert len(read_points(out)) == 3
