from __future__ import annotations

from pathlib import Path

import pytest
from rich.console import Console, RenderableType

from moesim.report.amounts import gib, number
from moesim.report.run.rows import apart, promises, start_of_a_service
from moesim.report.run.table import lacks_memory, remedy, summary_table
from moesim.report.sweep.table import sweep_table
from moesim.sweep import read_points
from tests.unit.report import sweeps
from tests.unit.results import factory


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
    assert "waiting for GPUs" not in text


def test_an_out_of_memory_run_shows_its_reason() -> None:
    text = text_of(summary_table(factory.summary("out_of_memory")))
    assert "out of memory: expert_slots: 9.0 GB do not fit in 8.0 GB" in text
    assert "tokens/s" not in text


def test_a_run_is_titled_by_its_setting_not_by_its_files_name() -> None:
    given = {**factory.summary("out_of_memory"), "name": "gpt-oss-20b-on-8gb"}
    text = text_of(summary_table(given, "gpt-oss-120b on rtx-4090, quickstart, batch 1"))
    head = " ".join(text.split("┌")[0].split())
    assert head == "gpt-oss-120b on rtx-4090, quickstart, batch 1: out of memory"
    assert "gpt-oss-20b-on-8gb" not in text


def test_a_run_that_prefetches_says_what_came_of_it() -> None:
    numbers = {"prefetches": 1000, "prefetches_used": 700, "late_share": 0.25}
    text = text_of(summary_table({**factory.summary(), **numbers, "stall_hidden_share": -0.031}))
    assert "700 of 1,000 started, 25.0 % of them late" in text
    assert "-3.1 %" in text
    assert "prefetch" not in text_of(summary_table({**factory.summary(), "prefetches": 0}))


def test_a_run_shows_what_its_own_table_of_quality_says() -> None:
    text = text_of(summary_table({**factory.summary(), "quality": {"perplexity": 5.3256}}))
    assert "5.326, by its table" in text
    beyond = text_of(summary_table({**factory.summary(), "quality": {"perplexity": None}}))
    assert "not known: beyond its table" in beyond
    assert "by its table" not in text_of(summary_table(factory.summary()))


def test_a_sweep_has_a_row_a_point_and_marks_the_fastest(sweep: Path) -> None:
    axes = ("experts.capacity", "experts.policy.kind")
    text = text_of(sweep_table(read_points(sweep), axes))
    (best,) = (line for line in text.splitlines() if "ok *" in line)
    assert best.split()[0] == "12"
    assert "lfu" in best
    assert text.count("out of memory") == 1 + 4 + 1
    assert "out of memory (4 of 16): expert_slots do not fit" in text
    assert f"{1 / sweeps.summary(8, 'lru', 1)['mean_tpot_ms'] * 1000:.4g}" in text


def test_a_sweep_of_requests_has_their_first_tokens(sweep: Path) -> None:
    points = read_points(sweep)
    for never in (points, points.assign(mean_ttft_ms=None)):  # a sweep of decode steps has none
        assert "TTFT" not in text_of(sweep_table(never, ("experts.capacity",)))
    points["mean_ttft_ms"] = [1000.0 + n for n in range(len(points))]
    text = text_of(sweep_table(points, ("experts.capacity",)))
    assert " ".join(text.split("─")[0].split()).count("TTFT TPOT") == 1
    assert all(f"{1000 + n:,}" in text for n in range(len(points)))


def test_a_sweep_says_of_which_points_the_waiting_line_grows(sweep: Path) -> None:
    points = read_points(sweep)
    assert "saturated" not in text_of(sweep_table(points, ("experts.capacity",)))
    grew = points["status"].eq("ok") & points["experts.capacity"].eq("4 slots/layer")
    points["saturated"] = grew.where(points["status"] == "ok", None)
    text = text_of(sweep_table(points, ("experts.capacity",)))
    assert text.count("saturated") == grew.sum() + 1
    assert "saturated: the waiting line grows to the end" in text


def test_numbers_keep_four_digits_and_no_more() -> None:
    assert [number(v) for v in (None, float("nan"), 3, 1234567, 0.012345, 1234.56, 98765.4)] == [
        "-", "-", "3", "1,234,567", "0.01235", "1235", "98,765",
    ]  # fmt: skip


def test_a_narrow_terminal_keeps_the_status_and_its_star(sweep: Path) -> None:
    axes = ("experts.capacity", "experts.policy.kind")
    points = read_points(sweep)
    points["intervals.output_throughput.low"] = points["output_throughput"] * 0.9
    points["intervals.output_throughput.high"] = points["output_throughput"] * 1.1
    heads = {}
    for width in (100, 72, 50):
        text = text_of(sweep_table(points, axes, width), width)
        heads[width] = " ".join(text.split("─")[0].split())
        assert "ok *" in text, width
        assert "status" in text, width
        assert max(len(line) for line in text.splitlines()) <= width
    assert "95 %" in heads[100]
    assert "95 %" not in heads[72]
    assert "peak" in heads[72]
    assert "peak" not in heads[50]


def test_what_the_gpus_cannot_hold_has_a_remedy() -> None:
    full = {"status": "out_of_memory", "peak_memory_bytes": 9, "memory_capacity_bytes": 8}
    assert lacks_memory(full)
    assert not lacks_memory({**full, "peak_memory_bytes": 7})
    assert not lacks_memory({**full, "status": "ok"})
    line = remedy(Path("a.yaml"), 14, "{base: mine, format: q4_k_m}", slots=True)
    assert "experts.capacity: auto" in line
    assert "experts.on_cpu: {layers: 14}" in line
    assert "model: {base: mine, format: q4_k_m} needs fewer bytes" in line
    assert "'moesim fit a.yaml'" in line
    assert remedy(Path("a.yaml"), None, "", slots=False).startswith("remedy: 'moesim fit a.yaml'")
    given = remedy(Path("a.yaml"), None, "", slots=False, blocks=True)
    assert given.startswith("remedy: memory.kv: auto takes the blocks that fit; 'moesim fit")


def test_causes_are_written_as_words() -> None:
    shares = {"experts": 0.5, "waiting_for_gpus": 0.3, "waiting_for_cpu": 0.2}
    text = text_of(summary_table({**factory.summary(), "time_share": shares}))
    assert "waiting for GPUs" in text
    assert "waiting for CPU " in text


def test_requests_that_are_rejected_stand_beside_the_speed_of_the_others() -> None:
    told = text_of(summary_table({**factory.summary(), "completed": 2, "rejected": 4}))
    assert "requests served, rejected" in told
    assert "2, 4" in told
    assert "rejected" not in text_of(summary_table({**factory.summary(), "rejected": 0}))


def test_where_nothing_is_broken_nothing_binds() -> None:
    kept = {"all": 1.0, "ttft": 1.0, "tpot": 1.0}
    told = promises({"slo_attainment": kept, "request_goodput": 3.0})
    assert told == [("good requests", "100.0 %, 3 requests/s, all limits hold")]


def test_promises_and_what_binds_stand_beside_the_speed() -> None:
    kept = {"all": 0.5, "ttft": 0.6, "tpot": 0.9}
    served = {"slo_attainment": kept, "request_goodput": 2.0, "saturated": True}
    served |= {"after_first_end_share": 0.25}
    told = text_of(summary_table({**factory.summary(), **served}))
    assert "good requests" in told
    assert "ttft binds" in told
    assert "saturated" in told
    assert "only 25.0 % of the requests came after the first answer had ended" in told
    assert "good requests" not in text_of(summary_table(factory.summary()))


def test_a_start_says_how_many_requests_are_a_service() -> None:
    """75 of 100 were there before the first answer ended: a quarter of 300."""
    told = start_of_a_service({"after_first_end_share": 0.25, "completed": 100})
    assert told.endswith("; write 300 requests or more")
    assert start_of_a_service({"after_first_end_share": 0.25}).endswith("; write more requests")


@pytest.mark.parametrize("share", [None, 0.75, 1.0])
def test_a_service_is_no_start(share: float | None) -> None:
    assert not start_of_a_service({"after_first_end_share": share})


def test_prompts_and_answers_apart_are_told_by_role() -> None:
    busy = {"busy_by_role": {"prefill": 0.25, "decode": 0.5}}
    sent = {"kv_bytes_sent": 3 << 30, "mean_kv_exposed_ms": 4.5}
    told = text_of(summary_table({**factory.summary(), **busy, **sent}))
    assert "prefill 25.0 %, decode 50.0 %" in told
    assert "3.00 GiB by all GPUs, there 4.500 ms after prompts end, at the mean" in told
    assert (
        apart({**busy, "kv_bytes_sent": 0, "mean_kv_exposed_ms": None})[1][1]
        == "0.00 GiB by all GPUs"
    )
    assert "keys and values sent" not in text_of(summary_table(factory.summary()))


def test_misses_are_told_by_whose_tokens_need_the_expert() -> None:
    missed = {"decode_misses": 3, "prompt_misses": 4, "both_misses": 5}
    every = {**factory.summary(), **missed, "decode_misses_caused_by_prompts": 2}
    told = text_of(summary_table(every))
    assert "3, 4, 5 (2 of answers" in told


def test_small_amounts_are_not_nothing() -> None:
    assert [gib(size) for size in (0, 5_000, 3 << 20, 6 << 20, 1 << 30, None)] == [
        "0.00 GiB", "0.00477 MiB", "3 MiB", "0.01 GiB", "1.00 GiB", "-"
    ]  # fmt: skip
