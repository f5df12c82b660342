import numpy as np
import pandas as pd
import pytest

from moesim.hardware import load_hardware
from moesim.hardware.card import card_of
from moesim.hardware.measurements.validate import LINE
from moesim.hardware.operations.experts.fit_shapes import expert_shapes, expert_work
from moesim.hardware.operations.experts.kernel import ExpertNumbers, terms

SHAPES = [
    (2048, 768, 128, 8),
    (4096, 1536, 128, 8),
    (4096, 14336, 8, 2),
    (2880, 2880, 32, 4),
    (7168, 2048, 256, 8),
    (6144, 2560, 160, 8),
]
TOKENS = [1, 2, 4, 8, 16, 32, 48, 64, 96, 128, 256, 512, 1024, 2048, 4096]
TRUE = ExpertNumbers(25_000, 0.88, 0.6, 3.0, 0.4, 1.5, 0.93, 0.2, 0.15)


@pytest.fixture(scope="session")
def card():
    return load_hardware("h100-sxm").model_copy(update={"calibrated": None})


def operations(**columns):
    table = pd.DataFrame({"op": "moe", "dtype": "bf16"} | columns)
    table[LINE] = np.arange(1, len(table) + 1)
    return table


def synthetic(card, numbers=TRUE, noise=0.0):
    """A table of times that the Triton formula itself makes, with log-normal noise."""
    grid = [(*shape, tokens) for shape in SHAPES for tokens in TOKENS]
    hidden, inter, experts, top_k, tokens = np.array(grid).T
    table = operations(tokens=tokens, hidden=hidden, inter=inter, experts=experts, top_k=top_k)
    work = expert_work(expert_shapes(table, card), "triton")
    time = terms(numbers, work, card_of(card)).total
    spread = np.random.default_rng(1).normal(0, noise, len(time))
    return table.assign(
        latency_ns=time * np.exp(spread),
        device="NVIDIA H100 80GB HBM3",
        framework="vllm",
        version="0.24.0",
        source="made",
    )
