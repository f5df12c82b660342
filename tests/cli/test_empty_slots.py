"""A run whose slots begin empty and are never filled says so, and what to write."""

from __future__ import annotations

import pytest

from moesim.cli.main import main

QUICK = [
    "run", "experiments/quickstart.yaml", "--set", "sweep={}", "--set", "workload.requests=1",
]  # fmt: skip


@pytest.mark.parametrize(
    ("options", "warned"),
    [
        (["experts.miss.kind=skip"], True),
        (["experts.miss.kind=cpu"], True),
        (["experts.miss.kind=cpu", "experts.initial=most_used"], False),
        (["experts.miss.kind=cpu", "experts.prefetch.kind=oracle"], False),
        (["experts.miss.kind=cpu", "experts.capacity=all", "hardware=h100-sxm"], False),
        ([], False),
    ],
)
def test_what_nothing_ever_fills(options, warned, tmp_path, capsys):
    words = [text for option in options for text in ("--set", option)]
    assert main([*QUICK, *words, "-o", str(tmp_path / "out")]) == 0
    said = "experts.initial: 'empty' with miss" in capsys.readouterr().err
    assert said is warned


def test_a_sweep_says_at_how_many_points(tmp_path, capsys):
    axes = "sweep={experts.miss.kind: [load, skip, cpu]}"
    words = ["sweep", QUICK[1], "--set", axes, "--set", "workload.requests=1"]
    assert main([*words, "-o", str(tmp_path / "out")]) == 0
    lines = [line for line in capsys.readouterr().err.splitlines() if "experts.initial" in line]
    assert [line.endswith("(1 of 3 points)") for line in lines] == [True, True]
