"""Whole runs of vLLM, request by request, where such recordings are at hand.

``MOESIM_VLLM_RUNS`` names a folder with a folder a run: ``requests.csv`` (a row a request with
``input_tokens``, ``output_tokens``, ``ttft_ms``, ``tpot_ms``, ``e2el_ms``, and what another
simulator says of it: ``peer_ttft_ms`` and so on), ``workload_mooncake.jsonl`` (when requests come,
with ids of their blocks) and ``vllm_meta.json`` (settings, and ``num_gpu_blocks`` where it was
kept). Arrivals, lengths, prefixes and settings are the run's; all times are the shipped profiles',
without a front end, since the runs were timed in the engine. Nothing is fitted to them. The models
are dense: one network a layer, as one expert.
"""

from __future__ import annotations

import json
import os
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from verification.check import Measured, check

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.axes import Axes

VARIABLE = "MOESIM_VLLM_RUNS"
PROFILES = {"rtx4090": "rtx-4090", "rtxpro6000": "rtx-pro-6000"}
"""Profiles of the runs' cards, by what their folders begin with."""
TIMES = ("ttft_ms", "tpot_ms", "e2el_ms")
CARD = {
    "source": "Llama-3.1-8B's config.json, its dense networks as single experts",
    "model_type": "moe_decoder",
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "head_dim": 128,
    "intermediate_size": 14336,
    "moe_intermediate_size": 14336,
    "num_experts": 1,
    "num_experts_per_tok": 1,
    "gated": True,
    "hidden_act": "silu",
    "vocab_size": 128256,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "max_position_embeddings": 131072,
}
TRACE = """\
title: dense
experts: 1
top_k: 1
moe_layer_ids: 0-31
requests:
  count: 8
  prefill_tokens: {kind: fixed, tokens: 8}
  decode_tokens: {kind: fixed, tokens: 8}
parts:
  - {phases: [prefill, decode], layers: 32, popularity: {kind: zipf, exponent: [0.0]}}
"""
SOFTWARE = """\
end_mark: "..."
title: "vLLM, timed in the engine"
base: vllm
sources: {engine: "these runs are timed between the engine's queue and its token"}
frontend: {value: 0 us, source: engine}
tokenize: {value: 0 us, source: engine}
per_prompt_token: {value: 0 us, source: engine}
...
"""


def runs() -> list[Path]:
    """The folders of recorded runs whose card has a profile; none, and a line, without them."""
    given = Path(os.environ.get(VARIABLE, ""))
    found = sorted(path.parent for path in given.glob("*/requests.csv")) if given.name else []
    if not found:
        print(f"no recorded runs of vLLM here: their requests are skipped ({VARIABLE}=FOLDER)")
    return [path for path in found if path.name.split("_")[0] in PROFILES]


def experiment(run: Path, folder: Path) -> dict[str, Any]:
    """The run of ``run``; what it is made of is written to ``folder``."""
    meta = json.loads((run / "vllm_meta.json").read_text(encoding="utf-8"))
    knobs, blocks = meta["engine_kwargs"], meta.get("kv_cache", {}).get("num_gpu_blocks")
    for name, text in (
        ("dense.json", json.dumps(CARD)),
        ("dense.yaml", TRACE),
        ("engine.yaml", SOFTWARE),
    ):
        (folder / name).write_text(text, encoding="utf-8")
    limits = {key: knobs[key] for key in ("max_num_batched_tokens", "max_num_seqs")}
    return {
        "model": str(folder / "dense.json"),
        "hardware": PROFILES[run.name.split("_")[0]],
        "software": str(folder / "engine.yaml"),
        "trace": str(folder / "dense.yaml"),
        "workload": {
            "requests": meta["num_requests"],
            "arrivals": {"kind": "mooncake", "file": str(run / "workload_mooncake.jsonl")},
            "lengths": {"kind": "arrivals"},
            "routing": {"kind": "draw"},
            "batching": {"kind": "continuous", "scheduler": {"kind": "vllm", **limits}},
        },
        "records": "step",
        "memory": {"kv": f"{blocks} blocks" if blocks else "auto"},
    }


@cache
def simulated(run: Path) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The requests of ``run`` with the simulated times as ``our_ttft_ms`` and so on, and the
    summary.
    """
    import pandas as pd

    from moesim.experiment.loading.resolve import load_experiment
    from moesim.experiment.running.run import simulate

    table = pd.read_csv(run / "requests.csv")
    with TemporaryDirectory() as folder:
        asked = experiment(run, Path(folder))
        result = simulate(load_experiment(asked).experiment)
        ours = result.requests.sort_values("arrival_ns").reset_index(drop=True)
    return table.assign(**{f"our_{name}": ours[name] for name in TIMES}), result.summary


def off(table: pd.DataFrame, whose: str, name: str) -> tuple[float, float]:
    """By how many percent the mean of ``name`` is off, and the distance of the distributions."""
    from scipy.stats import ks_2samp

    theirs, real = table[f"{whose}_{name}"].dropna(), table[name].dropna()
    return 100 * (theirs.mean() / real.mean() - 1), float(ks_2samp(theirs, real).statistic)


if RUNS := runs():

    @check(
        "Requests of recorded runs of vLLM take as long as measured: the worst mean of TPOT, E2EL",
        tolerance=15,
        why="one card has priors alone, and prompts between answers are priced by other versions'"
        " kernels; TTFT under a line that grows is all of that summed over the run",
        unit="% of the measured",
    )
    def vllm_requests() -> Measured:
        worst, told = 0.0, []
        for run in RUNS:
            table, summary = simulated(run)
            words = []
            for name in TIMES:
                (ours, distance), (peer, theirs) = off(table, "our", name), off(table, "peer", name)
                told_of_peer = f"peer {peer:+.1f} %, {theirs:.2f}"
                words.append(f"{name} {ours:+.1f} % (KS {distance:.2f}; {told_of_peer})")
                worst = max(worst, abs(ours)) if name != "ttft_ms" else worst
            told.append(
                f"{run.name}: {', '.join(words)}; {summary['kv_blocks']} blocks,"
                f" {summary['preemptions']} preemptions"
            )
        return Measured(worst, "\n       ".join(told), draw)


def draw(axes: Axes) -> None:
    """Distributions of E2EL: measured (thin) and simulated."""
    import numpy as np

    for run in RUNS:
        table, _ = simulated(run)
        share = np.arange(1, len(table) + 1) / len(table)
        (line,) = axes.plot(np.sort(table["our_e2el_ms"]) / 1e3, share, label=run.name)
        axes.plot(np.sort(table["e2el_ms"]) / 1e3, share, color=line.get_color(), linewidth=0.7)
    axes.set(xlabel="end to end (s); thin: measured", ylabel="share of requests")
    axes.legend(fontsize=6)
