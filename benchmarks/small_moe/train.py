"""Train one small Mixture-of-Experts on the Python standard library's sources; record its trace.

    python benchmarks/small_moe/train.py FOLDER [--steps N]

Needs ``pip install 'moesim[record]'``, no GPU and no download; minutes on one CPU thread. FOLDER
gets the model (config.json and weights) and small-moe.parquet: the routing of held-out prompts,
prefill and greedy decode. The text is at hand wherever Python is (PSF licence). Seeds are fixed;
another Python (other text), torch or CPU gives another trace of the same kind.
"""

from __future__ import annotations

import argparse
import math
import platform
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from text import counted_bits, prompts, runs, texts, windows
from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM
from transformers.models.qwen3_moe.modeling_qwen3_moe import load_balancing_loss_func

from moesim.trace import write_trace
from moesim.trace.record import find_routers, record, recorded_trace

SEED = 20
WINDOW = 256
BATCH = 4
STEPS = 1200
WARM_UP_STEPS = 100
PEAK_LEARNING_RATE = 2e-3
BALANCING = 0.01
REPORT_EVERY = 200
HELD_OUT_WINDOWS = 64
PROMPT_BYTES = range(64, 192, 4)
NEW_TOKENS = 65
BASELINES = ("single bytes", "the byte before", "the two bytes before")


def main() -> None:
    """Train, save, compare with baselines, record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--steps", type=int, default=STEPS)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(SEED)
    training, held_out = texts()
    model = Qwen3MoeForCausalLM(configuration())
    train(model, training, arguments.steps)
    model.save_pretrained(arguments.folder)
    bits = held_out_bits(model, held_out)
    print(f"seen {arguments.steps * BATCH * WINDOW:,} of {len(training):,} bytes")
    for order, name in enumerate(BASELINES):
        print(f"held out, counts of {name}: {counted_bits(training, held_out, order):.2f} bits")
    print(f"held out, the model: {bits:.2f} bits a byte")
    write_recording(model, held_out, arguments.folder / "small-moe.parquet", bits)


def configuration() -> Qwen3MoeConfig:
    """8 layers, top-4 of 32 experts as in gpt-oss-20b; a token is a byte."""
    return Qwen3MoeConfig(
        vocab_size=256,
        hidden_size=128,
        intermediate_size=256,
        moe_intermediate_size=64,
        num_hidden_layers=8,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=32,
        num_experts=32,
        num_experts_per_tok=4,
        norm_topk_prob=True,
        # its own balancing loss pools the layers, so that each may be uneven
        router_aux_loss_coef=0.0,
        max_position_embeddings=WINDOW,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        pad_token_id=None,
    )


def train(model: Any, text: NDArray[np.uint8], steps: int) -> None:
    """AdamW, with the usual load-balancing loss in every layer."""
    optimiser = torch.optim.AdamW(
        model.parameters(), lr=PEAK_LEARNING_RATE, betas=(0.9, 0.98), weight_decay=0.1
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: rate(step, steps))
    model.train()
    begun, losses = perf_counter(), []
    for step, rows in enumerate(windows(text, steps, BATCH, WINDOW, SEED), 1):
        batch = torch.from_numpy(rows)
        out = model(input_ids=batch, labels=batch, output_router_logits=True)
        optimiser.zero_grad()
        (out.loss + BALANCING * unbalance(out.router_logits, model.config)).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        losses.append(out.loss.item() / math.log(2))
        if step == 1 or step % REPORT_EVERY == 0:
            recent = np.mean(losses[-REPORT_EVERY:])
            print(f"step {step:5}  {recent:.2f} bits a byte  {perf_counter() - begun:4.0f} s")


def unbalance(router_logits: tuple[Any, ...], config: Qwen3MoeConfig) -> Any:
    """The load-balancing loss (Switch Transformers), mean of the layers; top_k when balanced."""
    layers = [
        load_balancing_loss_func((logits,), config.num_experts, config.num_experts_per_tok)
        for logits in router_logits
    ]
    return torch.stack(layers).mean()


def rate(step: int, steps: int) -> float:
    """Share of the peak learning rate: linear warm-up, then half a cosine to a tenth."""
    if step < WARM_UP_STEPS:
        return (step + 1) / WARM_UP_STEPS
    done = (step - WARM_UP_STEPS) / max(1, steps - WARM_UP_STEPS)
    return 0.55 + 0.45 * math.cos(math.pi * done)


def held_out_bits(model: Any, text: NDArray[np.uint8]) -> float:
    """Bits a byte of the model over windows spread over ``text``."""
    model.eval()
    starts = np.linspace(0, len(text) - WINDOW, HELD_OUT_WINDOWS).astype(int)
    rows = torch.from_numpy(runs(text, starts, WINDOW))
    with torch.inference_mode():
        losses = [model(input_ids=row, labels=row).loss.item() for row in rows[:, None]]
    return float(np.mean(losses)) / math.log(2)


def write_recording(model: Any, held_out: NDArray[np.uint8], path: Path, bits: float) -> None:
    """Record held-out prompts as ``moesim trace record`` does."""
    routers = find_routers(model)
    requests = list(record(model, routers, prompts(held_out, PROMPT_BYTES, SEED), NEW_TOKENS))
    trace = recorded_trace(
        model,
        routers,
        requests,
        name="small-moe",
        source="benchmarks/small_moe/train.py: bytes of the Python standard library, held out"
        f" (Python {platform.python_version()})",
        licence="Apache-2.0",
        notes=[f"trained for minutes on one CPU thread: {bits:.2f} bits a byte on held-out text"],
    )
    write_trace(trace, path)
    print(f"{path}: {trace.requests} requests, {trace.tokens} tokens")


if __name__ == "__main__":
    main()
