"""Speed of the engine `replay` with one concept at a time, against the same run without, in
processor seconds; the least of several runs, each row's interleaved with those without.

    python benchmarks/concept_speed.py [--repeat 3] [--times 5] [--only storage variants]

gpt-oss-20b decodes `traces/quickstart.parquet`, so many `--times` over, on an H100 with 8 slots a
layer under LRU; each row changes one thing. Every row is first checked: `des` plays the first
passes, too. Rows are printed as they are done. Experts in variants are compared with plain experts
of the better format. Two rates are compared. Of activations: static gating runs all experts of a
layer, and is slower by layer-steps. And of choices: with drafts or batches a pass has several rows,
all of which are looked at, and which share experts, so that it is slower by activations.
"""

from __future__ import annotations

import argparse
import json
import platform
import tempfile
from dataclasses import replace
from pathlib import Path
from time import process_time
from typing import Any

import numpy as np
from agreement import must_agree, must_equal

from moesim.engine.case import Case
from moesim.engine.des.run import run_des
from moesim.engine.replay.run import run_replay
from moesim.experiment.building.build import build
from moesim.experiment.loading.resolve import load_experiment
from moesim.trace.parquet import load_trace, write_trace

CHECKED = 100
"""Forward passes of a case that `des` plays, too."""
TWO_FORMATS: dict[str, dict[str, Any]] = {
    "high": {"capacity": "70 %"},
    "low": {"format": "int4", "group": 64},
}
BY_GATE = {"kind": "gate_cumulative", "high": "60 %", "low": "100 %"}
BF16 = {"base": "gpt-oss-20b", "format": {"experts": "bf16"}}
BATCH_OF_16 = {"batching": {"kind": "static", "batch_size": 16}}
ROWS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "cpu": {"experts.miss": {"kind": "cpu"}},
    "cheapest": {"experts.miss": {"kind": "cheapest"}},
    "split": {"experts.miss": {"kind": "split"}},
    "zero_copy": {"experts.miss": {"kind": "zero_copy"}},
    "skip": {"experts.miss": {"kind": "skip"}},
    "arc": {"experts.policy": {"kind": "arc"}},
    "global pool": {"experts.policy": {"kind": "lru", "scope": "global"}},
    "storage": {
        "hardware": {"base": "h100-sxm", "storage": "nvme-pcie4"},
        "experts.host": {"capacity": "6 GiB"},
    },
    "variants": {"model": BF16, "experts.variants": TWO_FORMATS, "experts.choose": BY_GATE},
    "nested variants": {
        "model": BF16,
        "experts.variants": TWO_FORMATS | {"low": TWO_FORMATS["low"] | {"nested": True}},
        "experts.choose": BY_GATE,
    },
    "parts": {"experts.parts": {"hot": {"rows": "40 %", "resident": "50 %"}, "rest": {}}},
    "top_k": {"routing": [{"kind": "top_k", "k": 3}]},
    "gate_ratio": {"routing": [{"kind": "gate_ratio", "least": 2, "ratio": "40 %"}]},
    "speculation": {
        "workload": {
            "speculative": {"kind": "ngram", "num_speculative_tokens": 3, "acceptance": "80 %"}
        }
    },
    "predictions": {"experts.prefetch": {"kind": "oracle"}},
    "predictions, 90 % right": {
        "experts.prefetch": {"kind": "oracle", "recall": "90 %", "precision": "90 %"}
    },
    "next_layer": {"experts.prefetch": {"kind": "next_layer"}},
    "history": {"experts.prefetch": {"kind": "history"}},
    "static gating": {"gating": {"kind": "static"}},
    "4 GPUs, batch 16": {"parallelism": {"expert": 4}, "workload": BATCH_OF_16},
    "4 GPUs, batch 16, replicas": {
        "parallelism": {"expert": 4},
        "workload": BATCH_OF_16,
        "placement": {"kind": "eplb", "redundant": 4},
    },
}


def experiment(trace: Path, row: dict[str, Any]) -> dict[str, Any]:
    """The experiment of a row."""
    found: dict[str, Any] = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "trace": str(trace)}
    found["experts"] = {"capacity": "8 slots/layer"}
    for key, value in row.items():
        group, _, name = key.partition(".")
        if name:
            found[group][name] = value
        else:
            found[group] = value
    return found


def case_of(trace: Path, name: str) -> Case:
    """The case of a row."""
    return build(load_experiment(experiment(trace, ROWS[name])).experiment).case


def longer_trace(times: int, folder: Path) -> Path:
    """The quickstart's requests, so many ``times`` over."""
    trace, path = load_trace("traces/quickstart.parquet"), folder / f"{times}_times.parquet"
    requests = int(trace.request_id.max()) + 1
    numbers = np.repeat(np.arange(times), trace.tokens) * requests
    assert trace.gate_weights is not None, "choices between variants need them"
    longer = replace(
        trace,
        expert_ids=np.tile(trace.expert_ids, (times, 1, 1)),
        request_id=(np.tile(trace.request_id, times) + numbers).astype(np.int32),
        position=np.tile(trace.position, times),
        phase=np.tile(trace.phase, times),
        gate_weights=np.tile(trace.gate_weights, (times, 1, 1)),
    )
    write_trace(longer, path)
    return path


def check(case: Case, name: str) -> None:
    """Raise an AssertionError where `replay` is not what `des` is in the first passes, or as a
    whole is not what it is in parts: its counts by layer add up to those that are added up.
    """
    part = replace(case, schedule=case.schedule.first(CHECKED))
    must_agree(run_replay(part, records="summary"), run_des(part, records="summary"), name)
    whole, apart = (run_replay(case, records=records) for records in ("summary", "layer"))
    must_agree(whole, apart, f"{name}: without records and with them")
    must_equal(whole.charges, apart.charges, f"{name}: charges without records and with them")


def seconds_of(case: Case) -> tuple[float, int, int]:
    """Processor seconds of a run, its activations, and the choices that rows make."""
    begun = process_time()
    counts = run_replay(case, records="step").counts
    return process_time() - begun, int(counts.activations.sum()), int(counts.kept_rows.sum())


def measure(case: Case, without: Case, repeat: int) -> dict[str, float]:
    """Rates of ``case``: the least processor seconds of its runs, what they do a second, and that
    as a share of what the case ``without`` does, whose runs come between them.
    """
    runs = [(seconds_of(without), seconds_of(case)) for _ in range(repeat)]
    (plain, *plainly), (least, *own) = map(min, zip(*runs, strict=True))
    activations, choices = (one / least for one in own)
    return {
        "seconds": least,
        "layer_steps_a_second": case.schedule.passes * len(case.model.moe_layers) / least,
        "activations_a_second": activations,
        "choices_a_second": choices,
        "of_first": activations / (plainly[0] / plain),
        "choices_of_first": choices / (plainly[1] / plain),
    }


def main() -> None:
    """Measure, print, and write benchmarks/results/concept_speed.json."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--times", type=int, default=5, help="how often the trace is repeated")
    parser.add_argument("--only", nargs="*", default=[*ROWS][1:], choices=[*ROWS], metavar="ROW")
    options = parser.parse_args()
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        short, long = (longer_trace(times, Path(folder)) for times in (1, options.times))
        without = case_of(long, "nothing")
        for name in ("nothing", *options.only):
            check(case_of(short, name), name)
            found[name] = rates = measure(case_of(long, name), without, options.repeat)
            print(
                f"{name:28} {rates['seconds']:7.3f} s:"
                f" {rates['layer_steps_a_second'] / 1e6:6.2f} M layer-steps/s,"
                f" {rates['activations_a_second'] / 1e6:6.2f} M activations/s,"
                f" {rates['of_first']:4.0%} of the first row,"
                f" {rates['choices_of_first']:4.0%} by choices",
                flush=True,
            )
    result = {"machine": platform.machine(), "python": platform.python_version(), "rows": found}
    path = Path(__file__).parent / "results" / "concept_speed.json"
    path.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    main()
