"""The chooser on the page of a sweep over models and machines."""

from __future__ import annotations

import shutil
import subprocess
from itertools import product
from pathlib import Path
from typing import Any

import pytest

import moesim
from moesim.report.page.chooser import chooser_of
from moesim.results import Result
from moesim.sweep import run_sweep

CHROMIUM = shutil.which("chromium")
HOSTILE = "</script><img src=x onerror=alert(1)>"
SHARES = {"30 %": 20.0, "50 %": 30.0, "70 %": 44.0}
MODELS, GPUS = ("small", HOSTILE), ("g1", "g2")


def evaluate(experiment: dict[str, Any]) -> Result:
    """Faster with a better host; nothing is resident on g2."""
    model, gpu, share, room = (experiment[key] for key in ("model", "gpu", "share", "room"))
    if gpu == "g2" and room == "all":
        return Result(
            {"name": "made", "status": "out_of_memory", "reason": "weights do not fit"}, experiment
        )
    speed = SHARES[share] * (2 if model == "small" else 1) * (1.5 if room == "all" else 1)
    summary = {
        "name": "made", "status": "ok", "reason": None, "tokens": 100, "duration_ms": 1e5 / speed,
        "output_throughput": speed, "mean_tpot_ms": 1e3 / speed, "peak_memory_bytes": 2**30,
        "joules_per_output_token": 100 / speed, "price_error": {"of": "a", "p90_percent": 25.0},
        "time_share": {"waiting_for_cpu": 0.75, "experts": 0.25},
    }  # fmt: skip
    return Result(summary, experiment)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("chooser") / "sweep"
    points = [
        (
            {"model": model, "hardware.gpu": gpu, "hardware.link": f"link of {gpu}",
             "hardware.host.expert_fraction": share, "experts.capacity": room},
            {"name": "made", "model": model, "gpu": gpu, "share": share, "room": room},
        )
        for model, gpu, share, room in product(MODELS, GPUS, SHARES, ("all", "auto"))
    ]  # fmt: skip
    drawn = {"name": "made", "figures": ["time_breakdown"]}
    run_sweep(drawn, points, out, evaluate=evaluate)
    return out


def rows(folder: Path) -> dict[tuple[str, ...], list[Any]]:
    """By model, GPU and choice: the numbers, and what is said of them."""
    found = chooser_of(moesim.read_sweep(folder))
    assert found is not None
    texts, titles = found["texts"], [values for _, values in found["had"]]
    return {
        (titles[0][row[0]], titles[1][row[1]], texts[row[2]]): [*row[3:9], texts[row[9]]]
        for row in found["rows"]
    }


def test_an_answer_has_its_range_and_what_it_waits_for(folder: Path) -> None:
    found = rows(folder)
    assert len(found) == 8
    speed, low, high, usd, joules, peak, told = found["small", "g1", "all"]
    assert (speed, low, high) == (90.0, 60 / 1.25, 132 * 1.25)
    assert (usd, peak) == (None, 1.0)
    assert joules == pytest.approx(100 / 90, rel=1e-3)
    assert told == "waiting for CPU, 75 % of the time"


def test_what_does_not_run_says_why(folder: Path) -> None:
    numbers = rows(folder)["small", "g2", "all"]
    assert numbers[:6] == [None] * 6
    assert numbers[6] == "out of memory: weights do not fit"


def test_a_link_that_follows_from_its_gpu_is_no_question(folder: Path) -> None:
    found = chooser_of(moesim.read_sweep(folder))
    assert found is not None
    assert [title for title, _ in found["had"]] == ["model", "gpu"]


def test_a_sweep_over_choices_alone_has_no_chooser(sweep: Path) -> None:
    assert chooser_of(moesim.read_sweep(sweep)) is None


@pytest.mark.skipif(CHROMIUM is None, reason="no chromium here: the chooser's script is not run")
def test_a_visitor_sees_what_was_picked(folder: Path, tmp_path: Path) -> None:
    page = moesim.write_report(folder, tmp_path / "page.html")
    assert "<img src=x" not in page.read_text(encoding="utf-8")
    shown = subprocess.run(
        [str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--dump-dom",
         "--virtual-time-budget=5000", f"{page.as_uri()}#choose:0,1"],
        capture_output=True, text=True, timeout=120, check=True,
    ).stdout  # fmt: skip
    table = shown[shown.index('id="answers"') :]
    table = table[: table.index("</table>")]
    assert table.count("<tr") == 2
    assert '<td class="number">60</td><td class="number">32</td>' in table
    gone = shown[shown.index('id="gone"') :]
    assert "all: out of memory: weights do not fit" in gone[: gone.index("</ul>")]
