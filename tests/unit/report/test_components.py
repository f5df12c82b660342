"""Components in words."""

from __future__ import annotations

import io
from collections.abc import Sequence

import pandas as pd
import pytest
from rich.console import Console

from moesim.report.sweep.table import sweep_table
from moesim.results.result import setting_in_words
from moesim.sweep.words import in_words, word


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ("lru", "lru"),
        (8, "8"),
        ('{"kind": "oracle", "recall": "50 %"}', "oracle, recall 50 %"),
        ('{"kind": "gshard", "min_capacity": 4}', "gshard, min capacity 4"),
        ('{"kind": "oracle", "recall": ["96 %", "90 %"]}', "oracle, recall 96 % / 90 %"),
        ('["85 %", "75 %"]', "85 % / 75 %"),
        ("[]", "none"),
        ("{}", "default"),
    ],
)
def test_a_component_is_told_by_its_kind(value: object, words: str) -> None:
    assert in_words(value) == words


@pytest.mark.parametrize(
    ("axis", "value", "words"),
    [
        ("experts.policy.kind", "lru", "lru"),
        ("experts.capacity", "8 slots/layer", "8 slots/layer"),
        ("workload.speculative.acceptance", "80 %", "acceptance 80 %"),
        ("experts.prefetch.kind", "none", "no prefetch"),
        ("experts.host.capacity", "all", "host memory all"),
        ("experts.host.capacity", "6 GiB", "host memory 6 GiB"),
    ],
)
def test_a_value_that_says_too_little_has_the_name_of_its_axis(
    axis: str, value: object, words: str
) -> None:
    assert word(axis, value) == words


def test_what_a_sweep_varies_of_a_machine_is_not_told_of_all_its_points() -> None:
    machine = "{gpu: rtx-4090, host: {base: desktop, cores: 8, memory: 64 GiB}, storage: ssd}"
    experiment = {"model": "gpt-oss-20b", "hardware": machine}
    whole = "gpt-oss-20b on rtx-4090 + desktop with cores 8, memory 64 GiB + ssd"
    assert setting_in_words(experiment) == whole
    part = setting_in_words(experiment, without=["hardware.storage", "hardware.host.cores"])
    assert part == "gpt-oss-20b on rtx-4090 + desktop with memory 64 GiB"


@pytest.mark.parametrize(
    ("more", "without", "words"),
    [
        ({}, (), "on h100-sxm"),
        ({"parallelism": {"expert": 4, "pipeline": 2}}, (), "on 8 GPUs of h100-sxm"),
        ({"parallelism": {"expert": 8}}, ["parallelism.expert"], "on h100-sxm"),
        ({"parallelism": {"expert": 8}}, ["parallelism.experts"], "on 8 GPUs of h100-sxm"),
        ({"serving": {"replicas": 2}}, ["serving.router"], "on 2 x h100-sxm"),
        ({"serving": {"replicas": 2}}, (), "on 2 x h100-sxm"),
        (
            {
                "parallelism": {"expert": 8},
                "serving": {"disaggregation": {"prefill": 1, "decode": 2}},
            },
            (),
            "on 3 x 8 GPUs of h100-sxm",
        ),
        ({"parallelism": {"expert": 8}, "serving": {"replicas": 2}}, ["serving.replicas"],
         "on 8 GPUs of h100-sxm"),
    ],
)  # fmt: skip
def test_a_setting_says_how_many_gpus_there_are(
    more: dict[str, object], without: Sequence[str], words: str
) -> None:
    """One instance for prompts and one for answers looked like the eight GPUs of one."""
    experiment = {"model": "gpt-oss-120b", "hardware": "h100-sxm", **more}
    assert setting_in_words(experiment, without) == f"gpt-oss-120b {words}"


def test_waits_for_a_drive_stand_beside_those_for_copies() -> None:
    points = pd.DataFrame({
        "hardware.storage": ["nvme-pcie3", "nvme-pcie4"], "status": "ok", "reason": None,
        "output_throughput": [9.0, 14.6], "time_share.waiting_for_weights": [0.099, 0.16],
        "time_share.waiting_for_storage": [0.778, None],
    })  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(sweep_table(points, ["hardware.storage"], 100))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["nvme-pcie3", "9", "9.9", "77.8", "ok"] in rows
    assert ["nvme-pcie4", "14.60", "16.0", "-", "ok", "*"] in rows


def test_where_nothing_is_put_out_the_speed_is_that_of_prompts() -> None:
    points = pd.DataFrame({
        "workload.batch": ["8", "16"], "status": "ok", "reason": None, "output_throughput": 0.0,
        "total_token_throughput": [15.95, 31.5],
    })  # fmt: skip
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(sweep_table(points, ["workload.batch"], 100))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["8", "15.95", "ok"] in rows
    points["output_throughput"] = [0.0, 2.5]
    console.print(sweep_table(points, ["workload.batch"], 100))
    rows = [line.split() for line in console.export_text().splitlines()]
    assert ["8", "0", "15.95", "ok"] in rows


@pytest.mark.parametrize(
    ("axis", "words"),
    [
        ("serving.disaggregation", "no disaggregation"),
        ("parallelism.dispatch_dtype", "activations' dispatch dtype"),
        ("parallelism.exchange", "default exchange"),
        ("workload.requests", "all requests"),
        ("workload.context", "contexts of the trace"),
    ],
)
def test_nothing_is_told_by_what_it_means(axis: str, words: str) -> None:
    assert word(axis, None) == words
