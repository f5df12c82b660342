"""Write experiments/chooser.yaml: models, GPUs, hosts and contexts, each with what can be done.

Which experts can stay on a GPU is asked of ``moesim fit`` for each model, GPU and context: all, or
those of all layers but so many; then missing experts may also be copied when they are needed. The
sweep itself is ``moesim sweep experiments/chooser.yaml -j 2 --report``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from itertools import product
from pathlib import Path
from typing import Any

from moesim.config.files.files import write_whole
from moesim.experiment.loading.resolve import load_experiment
from moesim.experiment.questions.fit import fewest_on_cpu
from moesim.hardware.described.reached import experts_reach
from moesim.model import load_model

FILE = Path(__file__).resolve().parents[1] / "experiments" / "chooser.yaml"
MODELS = (
    "gpt-oss-20b@mxfp4_moe", "gemma-4-26b-a4b@q4_k_m", "qwen3-30b-a3b@q4_k_m",
    "qwen3-next-80b-a3b@q4_k_m", "gpt-oss-120b@mxfp4_moe", "minimax-m2.5@q4_k_m",
    "qwen3-235b-a22b@q4_k_m", "deepseek-v3@q4_k_m",
)  # fmt: skip
GPUS: Mapping[str, tuple[str, int]] = {
    "rtx-3060-12gb": ("pcie4-x16", 280),
    "rtx-3090": ("pcie4-x16", 800),
    "rtx-4060-ti-16gb": ("pcie4-x8", 450),
    "rtx-4070-ti-super": ("pcie4-x16", 800),
    "rtx-4090": ("pcie4-x16", 1900),
    "rtx-5060-ti-16gb": ("pcie5-x8", 450),
    "rtx-5070": ("pcie5-x16", 600),
    "rtx-5080": ("pcie5-x16", 1200),
    "rtx-5090": ("pcie5-x16", 2600),
    "radeon-ai-pro-r9700": ("pcie5-x16", 1300),
    "l40s": ("pcie4-x16", 8000),
    "rtx-pro-6000": ("pcie5-x16", 8500),
}
"""Links, and prices in dollars: from memory, of new or used cards in 2025."""
HOSTS: Mapping[str, int] = {
    "ddr4-3200-2ch-64gb": 600,
    "ddr5-5600-2ch-64gb": 900,
    "ddr5-6000-2ch-96gb": 1100,
    "ddr5-5200-4ch-256gb": 3500,
    "ddr5-4800-8ch-512gb": 6500,
    "ddr5-4800-12ch-768gb": 9000,
}
"""Prices of a machine without its GPU, in dollars: from memory, likewise."""
CONTEXTS = ("4k", "32k")
LEAST, MOST = (f"{100 * share:.0f} %" for share in experts_reach())
PRIOR = "50 %"
REACHED = (LEAST, PRIOR, MOST)
"""Of the DRAM peak by experts on the CPU: the prior, and between which nine of ten further hosts
lie by those that were fitted to a run, as every run's range has it.
"""
AXES = (
    "model", "hardware.gpu", "hardware.link", "workload.context", "experts.on_cpu.layers",
    "experts.capacity", "hardware.host.expert_fraction",
)  # fmt: skip
HEAD = """\
# Which model runs how fast on which machine, and with which flags? Eight models, twelve GPUs, six
# hosts, two contexts, and what can be done with experts that do not fit: on the CPU by layers (at
# three shares of the DRAM peak, since nobody measured these hosts: the prior, and between which
# nine of ten further hosts lie by the ten of docs/evidence.md), or copied when needed, into
# as many slots as there is room for. It takes about four minutes on two cores:
#   moesim sweep experiments/chooser.yaml -j 2 --report
# and open results/chooser/report.html. Prices are from memory, of 2025: write your own.
# Written by scripts/chooser.py.
name: chooser
model: gpt-oss-20b@mxfp4_moe
hardware: {gpu: rtx-3090, host: ddr5-5600-2ch-64gb, link: pcie4-x16}
software: llama.cpp
workload: {requests: 1, context: 4k, batching: {kind: static, batch_size: 1}, phase: decode}
experts: {on_cpu: {layers: 0}}
records: summary
"""
TAIL = "figures: [throughput_vs_cost]\n"


def rows(
    models: tuple[str, ...] = MODELS, gpus: tuple[str, ...] = tuple(GPUS)
) -> Iterator[tuple[str, ...]]:
    """The values of ``AXES``."""
    for model, gpu, context in product(models, gpus, CONTEXTS):
        link = GPUS[gpu][0]
        layers = len(load_model(model).moe_layers)
        fewest = fewest_on_cpu(_experiment(model, gpu, context))
        head = (model, gpu, link, context)
        if fewest is None:
            yield (*head, str(layers), "all", PRIOR)  # which says what is too large
        elif fewest == 0:
            yield (*head, "0", "all", PRIOR)
        else:
            yield from ((*head, str(fewest), "all", share) for share in REACHED)
            yield (*head, "0", "auto", PRIOR)


def _experiment(model: str, gpu: str, context: str) -> Any:
    """With the largest host: what it lacks is not the GPU's."""
    host = {"base": max(HOSTS, key=lambda name: HOSTS[name])}
    hardware = {"gpu": gpu, "host": host["base"], "link": GPUS[gpu][0]}
    workload = {"requests": 1, "context": context, "phase": "decode"}
    base = {"name": "a", "model": model, "hardware": hardware, "software": "llama.cpp"}
    return load_experiment(base | {"workload": workload}, alone=True).experiment


def text(found: list[tuple[str, ...]]) -> str:
    """The file."""
    prices = {name: price for name, (_, price) in GPUS.items()} | dict(HOSTS)
    listed = ", ".join(f"{name}: {price} $" for name, price in prices.items())
    lines = [
        HEAD,
        "energy: {other: 50 W}\n",
        f"cost:\n  prices: {{{listed}}}\n  life: 3 years\n  electricity: 0.3 $/kWh\n",
        "sweep:\n",
        f"  hardware.host: [{', '.join(HOSTS)}]\n",
        f'  "{", ".join(AXES)}":\n',
        *(f"    - [{', '.join(row)}]\n" for row in found),
        TAIL,
    ]
    return "".join(lines)


def main() -> int:
    """Write the file."""
    found = list(rows())
    write_whole(FILE, text(found))
    print(f"{FILE}: {len(found) * len(HOSTS)} points")
    return 0


if __name__ == "__main__":
    sys.exit(main())
