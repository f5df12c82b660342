"""What llama.cpp sets aside to compute before any pass runs."""

from __future__ import annotations

from moesim.model.spec import ModelSpec


def compute_buffer_bytes(model: ModelSpec, tokens: int, logits: int, cells: int) -> int:
    """Bytes for a pass of ``tokens`` of which so many have ``logits``, in a cache of ``cells``
    tokens: logits in fp32 beside two hidden states a token, or what the chosen experts of a layer
    take up and the mask of its attention.

    To .02 % what it reserved in eight runs (llama-cpp-python 0.3.36, its buffer of the CPU, two of
    Qwen3's layers or more with FlashAttention; 512 and 2,048 tokens, 4 or all of them with logits,
    vocabularies of 32,000 and 151,936, caches of 512 to 32,768 tokens).
    """
    hidden, moe = model.hidden_size, model.moe_layers[0].moe
    assert moe is not None, "a MoE layer"
    end = 4 * logits * model.vocab_size + 8 * tokens * hidden
    chosen = 8 * moe.top_k * (hidden + moe.expert.intermediate_size)
    return max(end, tokens * (chosen + 2 * max(cells, tokens)))
