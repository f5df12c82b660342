"""A user's table of what lower formats do to answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from moesim.config.errors import InputError
from moesim.experiment.loading.quality import QualityTable, quality_of
from moesim.experiment.running.run import run
from moesim.report.run.rows import quality as quality_row
from moesim.report.run.trust import trust_lines

BASE: dict[str, Any] = {
    "model": "gpt-oss-20b",
    "hardware": "rtx-4090",
    "trace": "traces/quickstart.parquet",
    "workload": {"requests": 1},
    "records": "summary",
    "experts": {
        "capacity": "12 slots/layer",
        "variants": {"high": {"capacity": "50 %"}, "low": {"format": "q2_k"}},
        "choose": {"kind": "gate_cumulative", "beyond": "low"},
    },
}


def played(folder: Path, text: str) -> dict[str, Any]:
    table = folder / "mine.csv"
    table.write_text(text)
    return run({**BASE, "quality": {"table": str(table)}}).summary


def test_it_is_read_in_a_straight_line(tmp_path: Path) -> None:
    summary = played(tmp_path, "lowered_share, perplexity\n0,5\n1,9\n")
    assert 0 < summary["lowered_share"] < 1
    assert summary["quality"] == {"perplexity": 5 + 4 * summary["lowered_share"]}
    assert "quality_notes" not in summary


def test_beyond_its_rows_it_says_nothing(tmp_path: Path) -> None:
    summary = played(tmp_path, "lowered_share,accuracy\n0,0.7\n0.01,0.6\n")
    assert summary["quality"] == {"accuracy": None}
    assert "ends before the run's" in summary["quality_notes"][0]


CUT = {"routing": [{"kind": "top_k", "k": 2}]}
SKIP = {"experts": {"capacity": "4 slots/layer", "miss": {"kind": "skip"}}}
FEW = {
    "gating": {"kind": "static", "capacity_fraction": "10 %"},
    "workload": {"requests": 8, "batching": {"kind": "static", "batch_size": 8}},
}


@pytest.mark.parametrize(
    ("changed", "what"),
    [
        (CUT, "cuts 38.5 %"),
        (SKIP, "skips "),
        (FEW, "drops "),
        ({**CUT, **SKIP}, " and cuts 38.5 %"),
    ],
    ids=["cut", "skip", "drop", "both"],
)
def test_where_something_else_is_lost_it_says_nothing(
    tmp_path: Path, changed: dict[str, Any], what: str
) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("lowered_share,perplexity\n0,5.31\n1,9\n")
    plain = {**BASE, "experts": {"capacity": "12 slots/layer"}, "quality": {"table": str(table)}}
    assert run(plain, limit_steps=50).summary["quality"] == {"perplexity": 5.31}
    summary = run({**plain, **changed}, limit_steps=50).summary
    assert summary["quality"] == {"perplexity": None}
    (note,) = summary["quality_notes"]
    assert note.startswith("perplexity is not known: the run ")
    assert what in note
    ((name, told),) = quality_row(summary)
    assert (name, told) == ("perplexity", "not known: something else is lost")
    (line,) = (line for line in trust_lines(summary) if "quality" in line)
    assert line == f"note: quality: {note}"


def test_of_other_experts_than_the_trace_has_weights_of_it_says_nothing() -> None:
    table = QualityTable("accuracy", (0.0, 1.0), (0.7, 0.5))
    replaced = {"cut_share": 0.0, "gate_weight_lost": None}
    assert quality_of(table, {}) == {"quality": {"accuracy": 0.7}}
    assert quality_of(table, {"cut_share": 0.0, "gate_weight_lost": 0.0})["quality"] == {
        "accuracy": 0.7
    }
    assert "the trace says nothing" in quality_of(table, replaced)["quality_notes"][0]
    by_others = {"gate_weight_shares": {"full": 0.9, "substituted": 0.1}}
    assert "substitutes 10.0 %" in quality_of(table, by_others)["quality_notes"][0]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "mine.csv:1: begins with"),
        ("share,perplexity\n0,5", "mine.csv:1: begins with 'share,perplexity'"),
        ("lowered_share,x\n", "has no rows"),
        ("lowered_share,x\n0,5\n2,6", "mine.csv:3: '2,6' is no share"),
        ("lowered_share,x\n0,five", "mine.csv:2: '0,five' is no share"),
        ("lowered_share,x\n0.5,5\n0.5,6", "mine.csv:3: share 0.5 does not follow"),
        (f'lowered_share,x\n"{"5" * 200_000}",5', "mine.csv:2: is no row of a table"),
    ],
)
def test_what_is_no_table_is_told_with_its_line(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        played(tmp_path, text)


def test_a_table_has_to_be_there() -> None:
    with pytest.raises(InputError, match="nowhere"):
        run({**BASE, "quality": {"table": "nowhere.csv"}})


def test_a_table_that_a_spreadsheet_saved(tmp_path: Path) -> None:
    """With a byte order mark; one that is no text is refused."""
    marked = played(tmp_path, "\ufefflowered_share,perplexity\n0,5\n1,5\n")
    assert marked["quality"] == {"perplexity": 5.0}
    table = tmp_path / "bytes.csv"
    table.write_bytes(b"lowered_share,x\n0,\xff\n")
    with pytest.raises(InputError, match=r"bytes\.csv:2:3: the byte 0xFF is not UTF-8"):
        run({**BASE, "quality": {"table": str(table)}})
