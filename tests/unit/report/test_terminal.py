from __future__ import annotations

from pathlib import Path

import factory
import sweeps
from rich.console import Console, RenderableType

from moesim.report.terminal import number, summary_table, sweep_table
from moesim.sweep import read_points


def text_of(renderable: RenderableType, width: int = 140) -> str:
    console = Console(width=width, record=True, force_terminal=False, quiet=False)
    with console.capture() as capture:
        console.print(renderable)
    return capture.get()


def test_a_run_shows_its_numbers_and_where_its_time_goes() -> None:
    text = text_of(summary_table(factory.summary()))
    for expected in ("500 tokens/s", "60.0 % of experts", "70.0 % of accesses", "5.59 GiB"):
        assert expected in text
    bars = {line.split()[0]: line.count("█") for line in text.splitlines() if "█" in line}
    assert bars["experts"] > bars["attention"] > bars["gate"] > 0
    assert "waiting for gpus" not in text


def test_an_out_of_memory_run_shows_its_reason() -> None:
    text = text_of(summary_table(factory.summary("out_of_memory")))
    assert "out of memory: expert_slots: 9.0 GB do not fit in 8.0 GB" in text
    assert "tokens/s" not in text


def test_a_sweep_has_a_row_a_point_and_marks_the_fastest(sweep: Path) -> None:
    axes = ("experts.capacity", "experts.policy.kind")
    text = text_of(sweep_table(read_points(sweep), axes))
    (best,) = (line for line in text.splitlines() if "ok *" in line)
    assert best.split()[0] == "12"
    assert "min" in best
    assert text.count("out of memory") == 1 + 4 + 1
    assert "out of memory (4 of 16): expert_slots do not fit" in text
    assert f"{1 / sweeps.summary(8, 'lru', 1)['mean_tpot_ms'] * 1000:.4g}" in text


def test_numbers_keep_four_digits_and_no_more() -> None:
    assert [number(v) for v in (None, float("nan"), 3, 1234567, 0.012345, 1234.56, 98765.4)] == [
        "-", "-", "3", "1,234,567", "0.01235", "1235", "98,765",
    ]  # fmt: skip
