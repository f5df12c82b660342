"""Advice on EPLB: on or off, how many redundant experts, how often."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from moesim.cli.main import main
from moesim.experiment.loading.resolve import load_experiment
from moesim.metrics.blocks import Blocks
from moesim.results.overwrite import check_replaceable
from moesim.results.result import BLOCKS
from moesim.sweep.advise.choices import PLAIN, RESIDENT
from moesim.sweep.advise.rebalanced import Moves, Rebalanced, can_move, moving_points
from moesim.sweep.advise.scored import Scored

pytestmark = pytest.mark.usefixtures("unrendered")

SERVED: dict[str, Any] = {
    "name": "moving",
    "model": "small-moe",
    "hardware": "dgx-h100",
    "trace": "small-moe",
    "workload": {
        "requests": 40,
        "arrivals": {"kind": "closed_loop", "max_concurrency": 8},
        "lengths": {"kind": "fixed", "input_len": 8, "output_len": 30},
        "routing": {"kind": "draw"},
        "batching": {"kind": "continuous"},
    },
    "parallelism": {"expert": 4},
    "memory": {"kv": "64 MiB"},
}


def ran(speed: float | None, spread: float = 0.0) -> Scored:
    """Twelve blocks of ten steps, every second one slower by ``spread``."""
    if speed is None:
        return Scored(RESIDENT, {"status": "out_of_memory", "reason": "no room"})
    steps = np.full(12, 10)
    each = np.rint(steps / speed * 1e9 * (1 + spread * (np.arange(12) % 2))).astype(np.int64)
    columns = {"duration_ns": each, "first_step": steps.cumsum() - steps}
    sums = pd.DataFrame({name: columns.get(name, steps) for name in BLOCKS})
    summary = {"status": "ok", "output_throughput": 120e9 / int(each.sum())}
    return Scored(RESIDENT, summary, Blocks(sums, "batch"))


@pytest.mark.parametrize(
    ("stays", "moves", "worth", "best"),
    [
        (ran(100.0), [ran(90.0), ran(104.0)], True, 1),
        (ran(100.0), [ran(90.0), ran(97.0)], False, 1),
        (ran(100.0), [ran(104.0), ran(None)], True, 0),
        (ran(100.0), [ran(None), ran(None)], False, None),
        (ran(100.0), [ran(90.0), ran(103.0, spread=0.06)], None, 1),
    ],
)
def test_it_is_on_where_moving_is_faster_and_open_where_runs_cannot_tell(
    stays: Scored, moves: list[Scored], worth: bool | None, best: int | None
) -> None:
    tried = tuple(Moves(100, 8 * n, one) for n, one in enumerate(moves))
    found = Rebalanced(stays, tried)
    assert found.best == (None if best is None else tried[best])
    assert found.worth is worth
    plain = found.to_dict()
    assert [one["redundant"] for one in plain["tried"]] == [0, 8]
    first = moves[0].throughput
    assert plain["tried"][0]["ratio"] == (first and pytest.approx(first / 100.0))


def test_whole_experts_of_several_gpus_can_move() -> None:
    def moving(choice: Any = RESIDENT, **parallelism: Any) -> bool:
        base = load_experiment({**SERVED, "parallelism": parallelism}).experiment
        return can_move(base, choice)

    assert moving(expert=4)
    assert not moving(expert=1)
    assert not moving(expert=4, dense="tensor", experts="tensor")
    assert not moving(PLAIN, expert=4)  # some of the experts are elsewhere


def test_points_have_each_interval_with_each_number_of_redundant_experts() -> None:
    base = load_experiment(SERVED).experiment
    asked, points, reason = moving_points(base, RESIDENT, 800)
    assert reason is None
    assert asked == [(i, r) for i in (50, 200) for r in (0, 4, 8)]
    assert [one.placement.rebalances is not None for _, one in points] == [False, *[True] * 6]
    rules = points[-1][1].placement.rebalances
    assert rules is not None
    assert (rules.interval, rules.window) == (200, 200)
    short = moving_points(base, RESIDENT, 63)
    assert short == ([], [], "the run has 63 steps, too few to learn loads from; ask for more")


def test_an_advice_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("moving.yaml").write_text(json.dumps(SERVED))
    assert main(["advise", "moving.yaml", "-o", "out", "-j", "1", "--no-report"]) == 0
    told = " ".join(capsys.readouterr().out.split())
    found = json.loads(Path("out/advice.json").read_text())["rebalancing"]
    speeds = [one["throughput_tokens_per_s"] for one in found["tried"]]
    best = found["tried"][int(np.argmax(speeds))]
    said = {True: "turn it on", False: "leave it off", None: "it makes no difference here"}
    assert f"EPLB: {said[found['worth']]}. The best of 6 settings is every" in told
    assert f"every {best['interval']} steps" in told
    assert f"x {best['ratio']:.3f} of experts that stay" in told
    assert min(one["rebalanced_bytes"] for one in found["tried"]) > 0
    check_replaceable(Path("out"))  # as --overwrite does
