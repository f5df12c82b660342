"""``moesim trace curve``: the table, the figure, the verdict, and plain words for mistakes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from moesim.cli.main import main
from moesim.trace import read_trace, write_trace
from moesim.trace.routing import NO_EXPERT
from moesim.trace.slicing import slice_trace

QUICKSTART = Path(__file__).parents[2] / "traces" / "quickstart.parquet"


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    path = tmp_path_factory.mktemp("curve") / "short.parquet"
    write_trace(slice_trace(read_trace(QUICKSTART), slice(0, 4), 60, slice(0, 3)), path)
    return str(path)


def test_a_table_a_figure_and_a_verdict(short, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    out = tmp_path / "new" / "curves.parquet"
    assert main(["trace", "curve", short, "-o", str(out), "--batch", "2"]) == 0
    shown = capsys.readouterr().out
    table = pd.read_parquet(out)
    assert len(table) == 6 * 4 * 32
    lru = table[(table["policy"] == "lru") & (table["layer"] == -1)].set_index("slots")
    assert f"{100 * lru['miss_ratio'][5]:.1f}" in next(
        line for line in shown.splitlines() if line.split()[:1] == ["5"]
    )
    assert "short.parquet: decode, batch 2, step rule" in shown
    assert "slots that save 90% of what all experts' slots save over one: lru " in shown
    assert "1 to " in shown
    assert "working set; even MIN misses most of these" in shown
    assert all(len(line) <= 80 for line in shown.splitlines() if "curves." not in line)
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_one_policy_by_the_textbook_has_no_verdict(short, tmp_path, capsys):
    out, figure = tmp_path / "c.parquet", tmp_path / "f.svg"
    command = ["trace", "curve", short, "-o", str(out), "--policy", "min", "--rule", "textbook"]
    assert main([*command, "--figure", str(figure)]) == 0
    assert "no verdict: it compares lru with min" in capsys.readouterr().out
    assert set(pd.read_parquet(out)["method"]) == {"one pass"}
    assert figure.read_text().startswith("<?xml")


def test_policies_are_named_at_once_or_one_by_one(short, tmp_path, capsys):
    """The last one alone was taken, and a line said to name both."""
    out = tmp_path / "c.parquet"
    each = ["--policy", "lifo", "--policy", "lru, min"]
    assert main(["trace", "curve", short, "-o", str(out), *each]) == 0
    assert "no verdict" not in capsys.readouterr().out
    assert list(dict.fromkeys(pd.read_parquet(out)["policy"])) == ["lifo", "lru", "min"]


def test_the_same_curves_draw_the_same_picture(short, tmp_path):
    pictures = [tmp_path / name for name in ("a.svg", "b.svg")]
    for picture in pictures:
        out = str(tmp_path / "c.parquet")
        assert main(["trace", "curve", short, "-o", out, "--figure", str(picture)]) == 0
    assert pictures[0].read_bytes() == pictures[1].read_bytes()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["-o", "c.csv"], "--out: 'c.csv' must be a file that ends in .parquet"),
        (["-o", "c.parquet", "--figure", "c.pdf"], "must be a file that ends in .png or .svg"),
        (
            ["-o", "c.parquet", "--policy", "lru,belady"],
            "'belady' is no cache policy; Belady's policy, which knows the future, is min; allowed",
        ),
        (["-o", "c.parquet", "--phase", "prefill"], "the trace has no token in phase 'prefill'"),
        (["-o", "c.parquet", "--batch", "0"], "greater than or equal to 1"),
    ],
)
def test_mistakes_are_said_in_a_line(short, tmp_path, monkeypatch, capsys, options, words):
    monkeypatch.chdir(tmp_path)
    assert main(["trace", "curve", short, *options]) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_trace_without_experts_is_one_line(short, tmp_path, capsys):
    whole = read_trace(Path(short))
    nothing = np.full_like(whole.expert_ids, NO_EXPERT)
    write_trace(replace(whole, expert_ids=nothing, gate_weights=None), tmp_path / "none.parquet")
    out = tmp_path / "c.parquet"
    assert main(["trace", "curve", str(tmp_path / "none.parquet"), "-o", str(out)]) == 2
    assert "uses no expert in phase 'decode'" in capsys.readouterr().err
    assert not out.exists()
