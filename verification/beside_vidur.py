"""Vidur and moesim beside each other: the same requests, steps of the same constant time, batch by
batch, and the processor seconds of both.

``MOESIM_VIDUR`` names an interpreter that has Vidur 0.0.26. Its ``sarathi`` cuts prompts as vLLM V1
does, and is compared with scheduler ``vllm``; its ``vllm`` is vLLM V0, whose steps have either
prompts or answers, and is compared with ``enable_chunked_prefill: false`` where that is no matter.
``python -m verification.beside_vidur FILE`` keeps small workloads for the tests.
"""

from __future__ import annotations

import json
import sys
import time
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from moesim.workload.serving.state import PREEMPTED
from tests.reference.kept_schedules import steps_in
from verification import vidur_rows
from verification.check import Measured, check
from verification.peers import interpreter_of, told_by
from verification.vidur_workloads import (
    COUNT,
    FEW,
    MANY,
    Case,
    alike,
    differing,
    drawn,
    latencies,
    ours,
    unlike,
)

VARIABLE = "MOESIM_VIDUR"


def theirs(python: Path, cases: list[Case]) -> list[dict[str, Any]]:
    """What ``vidur_rows`` tells of each."""
    return told_by("Vidur", python, vidur_rows.__file__, cases)


def beside(case: Case, told: dict[str, Any]) -> tuple[int, str]:
    """Steps that differ, and a line of it."""
    state = ours(case)
    mine, other = steps_in(state), [step[:2] for step in told["steps"]]
    gone = sum(len(step[2]) for step in told["steps"])
    parts = [
        f"{len(steps):5} steps, {lost:3} preempted, TTFT {ttft:6.1f}, TPOT {tpot:.2f} steps"
        for steps, lost, (ttft, tpot) in (
            (mine, int(state.requests[PREEMPTED].sum()), latencies(case, mine)),
            (other, gone, latencies(case, other)),
        )
    ]
    apart = differing(mine, other)
    return apart, f"{case['name']:36} {' | '.join(parts)}: {apart} differ"


def whole_run(case: Case, folder: Path) -> tuple[float, int]:
    """Processor seconds and steps of a run of gpt-oss-20b on an H100 with the requests of ``case``:
    experts, prices, results and all.
    """
    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import simulate

    ticks = vidur_rows.TICKS
    lines = [f"{at / ticks},{prompt},{answer}" for prompt, answer, at in case["requests"]]
    head = "arrived_at,num_prefill_tokens,num_decode_tokens"
    (folder / "requests.csv").write_text("\n".join([head, *lines, ""]), encoding="utf-8")
    limits = {"max_num_batched_tokens": case["budget"], "max_num_seqs": case["most"]}
    workload = {
        "requests": len(lines),
        "arrivals": {"kind": "csv", "file": str(folder / "requests.csv")},
        "lengths": {"kind": "arrivals"},
        "routing": {"kind": "draw", "prompts_from": "decode"},
        "batching": {"kind": "continuous", "scheduler": {"kind": "vllm", **limits}},
    }
    asked = {"model": "gpt-oss-20b", "hardware": "h100-sxm", "workload": workload}
    begun = time.process_time()
    result = simulate(load_experiment(asked).experiment)
    return time.process_time() - begun, len(result.steps)


@cache
def speeds(python: Path) -> str:
    """Processor seconds of MANY requests, once all is loaded and compiled."""
    case = drawn("speed", MANY, gap=16, most=128, budget=2048)
    told = theirs(python, [drawn("speed", FEW), case])[1]
    ours(case)
    begun = time.process_time()
    state = ours(case)
    alone = time.process_time() - begun
    with TemporaryDirectory() as folder:
        whole_run(case, Path(folder))
        whole, steps = whole_run(case, Path(folder))
    apart = differing(steps_in(state), [step[:2] for step in told["steps"]])
    return (
        f"{MANY} requests, {len(told['steps'])} batches, of which {apart} differ: Vidur's batches"
        f" {told['seconds']:.2f} s, moesim's {alone:.2f} s; a whole run of moesim, {steps}"
        f" steps, {whole:.2f} s"
    )


if (PYTHON := interpreter_of("Vidur", VARIABLE)) is not None:

    @check(
        "batches of scheduler vllm are Vidur's where both have the same rules",
        tolerance=0,
        why="whole tokens, instants that are exact in both, and nothing is drawn in either",
        unit="steps that differ",
    )
    def beside_vidur() -> Measured:
        assert PYTHON is not None, "checks are registered where there is a Vidur"
        same, other = alike(COUNT), unlike(COUNT)
        told = theirs(PYTHON, same + other)
        found = [beside(*one) for one in zip(same + other, told, strict=True)]
        head = f"{'':36} {'moesim':54} | Vidur; the last {len(other)} by other rules"
        lines = [head, *(line for _, line in found), speeds(PYTHON)]
        deviation = float(sum(apart for apart, _ in found[: len(same)]))
        return Measured(deviation, "\n       ".join(lines))


def keep(path: Path, python: Path) -> None:
    """Write what Vidur tells of few requests."""
    cases = alike(FEW)
    told = theirs(python, cases)
    kept = [{**case, "steps": one["steps"]} for case, one in zip(cases, told, strict=True)]
    lines = ",\n".join(json.dumps(one, separators=(",", ":")) for one in kept)
    path.write_text(f'{{"vidur":"0.0.26","cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__" and PYTHON is not None:
    keep(Path(sys.argv[1]), PYTHON)
