"""What servers take of a GPU's memory."""

from __future__ import annotations

from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory
from moesim.model.spec import ModelSpec

MEMORY_SHARES = {"vllm": "--gpu-memory-utilization", "sglang": "--mem-fraction-static"}
"""Servers, and their option for the share that they take."""


UBATCH = 512
"""Tokens of a pass for which llama.cpp sets its compute buffer aside (-ub, its default)."""


def own_buffers(program: str, model: ModelSpec, context_tokens: int) -> str:
    """What a profile does not say of software without such a share."""
    if not program.endswith("llama.cpp"):
        return "the software's own buffers (some hundred MB) are not counted"
    size = compute_buffer_bytes(model, context_tokens) / 1e6
    return f"{program}'s own buffer, {size:.0f} MB to compute {UBATCH} tokens, is not counted"


def compute_buffer_bytes(model: ModelSpec, context_tokens: int) -> int:
    """What llama.cpp sets aside to compute ``UBATCH`` tokens of requests that grow to
    ``context_tokens``: logits in fp32 beside two hidden states, or what the chosen experts of a
    layer take up and the mask of its attention. To .02 % what it reserved in five runs
    (llama-cpp-python 0.3.36, its buffer of the CPU, Qwen3's layers with FlashAttention; 512 and
    2,048 tokens, vocabularies of 32,000 and 151,936, none and 8,192 tokens before).
    """
    hidden, moe = model.hidden_size, model.moe_layers[0].moe
    assert moe is not None, "a MoE layer"
    logits = 4 * (model.vocab_size + 2 * hidden)
    chosen = 8 * moe.top_k * (hidden + moe.expert.intermediate_size)
    return UBATCH * max(logits, chosen + 2 * max(context_tokens, UBATCH))


def share_of(program: str) -> float:
    """Of a GPU's memory what ``program`` takes in a run that does not say: vLLM's default, which
    also stands for SGLang's, whose own depends on the card.
    """
    return Memory().gpu_memory_utilization if program in MEMORY_SHARES else 1.0


def share_notes(experiment: Experiment, model: ModelSpec, context_tokens: int) -> list[str]:
    """What is left out: of software its own buffers, of a server whose batches are formed without
    its scheduler what it does not take.
    """
    program = str(experiment.software).partition("@")[0].partition("-")[0]
    flag = MEMORY_SHARES.get(program)
    if experiment.workload.batching.serves or program == "ideal":
        return []
    if flag is None:
        buffers = own_buffers(program, model, context_tokens)
        return [f"{buffers}: what leaves less than that free may not load"]
    taken = f"all of a GPU's memory is counted, of which {program} takes {share_of(program):.0%}"
    remedy = "workload.batching: {kind: continuous} counts that"
    return [f"{taken} at its default ({flag}); {remedy}"]
