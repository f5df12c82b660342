"""Writes the samples beside it, small enough to check by eye: ``python .../make.py``."""

from __future__ import annotations

import base64
import json
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def npz() -> None:
    # two requests of 3 and 2 tokens, prompts of 7 and 4, two layers, top-2 of 4
    ids = [
        [[3, 1], [0, 2]],
        [[3, 0], [2, 0]],
        [[1, 2], [0, -1]],
        [[0, 1], [1, 3]],
        [[2, 3], [3, 1]],
    ]
    np.savez(
        HERE / "npz.npz",
        expert_ids=np.array(ids, dtype=np.int8),
        gate_weights=np.tile(np.array([0.75, 0.25], dtype=np.float16), (5, 2, 1)),
        offsets=np.array([0, 3, 5]),
        first_position=np.array([7, 4]),
    )


def vllm_npy() -> None:
    # DeepSeek-V2-Lite: 27 layers, the first dense (zeros), top-6 of 64
    ids = np.zeros((4, 27, 6), dtype=np.int32)
    token, layer, slot = np.ogrid[:4, 1:27, :6]
    ids[:, 1:] = (7 * token + 5 * layer + 3 * slot) % 64
    np.save(HERE / "vllm-npy.npy", ids)


def hf_router_logits() -> None:
    # two layers, three tokens, four experts: powers of two, so that shares can be checked by eye
    odds = [
        [[8, 4, 2, 2], [1, 1, 4, 2], [2, 8, 4, 2]],
        [[1, 2, 1, 4], [4, 8, 2, 2], [2, 2, 8, 4]],
    ]
    np.savez(
        HERE / "hf-router-logits.npz",
        router_logits=np.log(np.array(odds, dtype=np.float32)),
        top_k=np.array(2),
        norm_topk_prob=np.array(False),
        prompt_lengths=np.array([2]),
    )


def vllm_jsonl() -> None:
    # forwards: a profile run; the prompt of a; a decodes beside the prompt of b; both decode
    meta = {"type": "meta", "model_id": "example/moe", "vllm_version": "0.11.0", "seed": 0}
    lines: list[dict[str, object]] = [{**meta, "layers_logged": [1, 3], "top_k": 2}]
    lines[0]["num_experts"] = 8
    forwards = [["profile_0"], ["a", "a"], ["a", "b", "b"], ["b", "a"]]
    for number, rows in enumerate(forwards):
        for layer in (1, 3):
            for row, request in enumerate(rows):
                first = (number + layer + 2 * row) % 8
                route = {"type": "route", "req_id": request, "token_idx": row, "layer": layer}
                ids = {"topk_ids": [first, (first + 3) % 8], "topk_weights": [0.75, 0.25]}
                lines.append({**route, **ids})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (HERE / "vllm-jsonl.jsonl").write_text(text)


def route_trace() -> None:
    # a prompt of two tokens, the first of them without the last layer; two decoded ones; top-2 of 4
    lines = ["# route_trace v1", "# model=/models/some-moe-Q4.gguf arch=some n_layer=3 n_expert=4"]
    lines[1] += " n_expert_used=2"
    lines += [f"# layer={layer} expert_bytes=100 dense_bytes=50" for layer in (1, 2)]
    lines.append("turn,phase,step,layer,slot,expert,weight,residency,expert_bytes")
    cached: set[tuple[int, int]] = set()
    for phase, steps in ((0, (0, 1)), (1, (2,)), (1, (3,))):
        for layer in (1, 2):
            for step in steps if layer == 1 else steps[-1:]:
                for slot, weight in ((0, 0.75), (1, 0.25)):
                    expert = (step + layer + 2 * slot) % 4
                    there = (layer, expert) in cached
                    hit, read = int(phase == 1 and there), 0 if there else 100
                    cached.add((layer, expert))
                    row = (0, phase, step, layer, slot, expert, weight, hit, read)
                    lines.append(",".join(map(str, row)))
    (HERE / "route-trace.csv").write_text("\n".join(lines) + "\n")


def sglang_json() -> None:
    # DeepSeek-V2-Lite as in vllm_npy; prompts of three and two, the second without its first token
    lines = []
    for tokens, prompt, start in ((4, 3, 0), (2, 2, 1)):
        ids = np.zeros((tokens, 27, 6), dtype="<i4")
        token, layer, slot = np.ogrid[:tokens, 1:27, :6]
        ids[:, 1:] = (7 * token + 5 * layer + 3 * slot) % 64
        info: dict[str, object] = {"prompt_tokens": prompt, "completion_tokens": 2}
        if start:
            info["routed_experts_start_len"] = start
        info["routed_experts"] = base64.b64encode(ids.tobytes()).decode()
        lines.append(json.dumps({"text": "...", "meta_info": info}))
    (HERE / "sglang-json.jsonl").write_text("\n".join(lines) + "\n")


def moe_cache_lab() -> None:
    # two requests: a prompt of two and one decoded token; a prompt of one; layers 1 and 3, top-2
    lines: list[dict[str, object]] = [{"type": "metadata", "model": "some", "num_experts": 8}]
    tokens = (("prefill", 0), ("prefill", 1), ("decode", 2), ("prefill", 0))
    for number, (phase, position) in enumerate(tokens):
        for layer in (1, 3):
            first = (number + layer) % 8
            line = {"type": "routing_selection", "phase": phase, "token_position": position}
            chosen = {"layer": layer, "selected_experts": [first, (first + 3) % 8]}
            lines.append({**line, **chosen, "selected_probabilities": [0.75, 0.25], "token_id": 9})
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (HERE / "moe-cache-lab.jsonl").write_text(text)


def llama_moe_trace() -> None:
    # passes: a prompt of two tokens, the first of them without the last layer; two decoded; top-2
    lines = ["batch,token,layer,slot,expert,weight,time_us"]
    for batch, tokens in enumerate(((0, 1), (2,), (3,))):
        for layer in (1, 2):
            for token in tokens if layer == 1 else tokens[-1:]:
                for slot, weight in ((0, 0.75), (1, 0.25)):
                    expert = (token + layer + 2 * slot) % 4
                    lines.append(",".join(map(str, (batch, token, layer, slot, expert, weight, 7))))
    (HERE / "llama-moe-trace.csv").write_text("\n".join(lines) + "\n")


def deepseek_ids(tokens: int) -> np.ndarray:
    # DeepSeek-V2-Lite as in vllm_npy
    ids = np.zeros((tokens, 27, 6), dtype="<i4")
    token, layer, slot = np.ogrid[:tokens, 1:27, :6]
    ids[:, 1:] = (7 * token + 5 * layer + 3 * slot) % 64
    return ids


def vllm_json() -> None:
    # a list and base64; prompts of two and one, the second's choices apart
    ids = deepseek_ids(3)
    whole = {"index": 0, "text": "...", "routed_experts": ids.tolist()}
    encoded = [base64.b64encode(part.tobytes()).decode() for part in (ids[:1], ids[1:])]
    apart = {"index": 0, "prompt_routed_experts": encoded[0], "routed_experts": encoded[1]}
    lines = [
        {"id": "a", "choices": [whole], "usage": {"prompt_tokens": 2, "completion_tokens": 2}},
        {"id": "b", "choices": [apart], "usage": {"prompt_tokens": 1, "completion_tokens": 3}},
    ]
    (HERE / "vllm-json.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def tensorrt_llm() -> None:
    # a prompt of three tokens, then two steps of two requests; layers 1 and 3, top-2 of 8
    arrays = {}
    for iteration, tokens in ((100, 3), (101, 2), (102, 2)):
        for layer in (1, 3):
            first = (iteration + layer + np.arange(tokens, dtype="<i4")) % 8
            arrays[f"{iteration}_{layer}"] = np.stack([first, (first + 3) % 8], axis=1)
    header, data = {}, b""
    for name, array in arrays.items():
        offsets = [len(data), len(data) + array.nbytes]
        header[name] = {"dtype": "I32", "shape": list(array.shape), "data_offsets": offsets}
        data += array.tobytes()
    text = json.dumps(header).encode()
    content = len(text).to_bytes(8, "little") + text + data
    (HERE / "tensorrt-llm.safetensors").write_bytes(content)


def megatron_replay() -> None:
    # two layers, three tokens, top-2 of 8
    layers = [[[(t + 2 * layer) % 8, (t + 5) % 8] for t in range(3)] for layer in range(2)]
    np.savez(HERE / "megatron-replay.npz", *[np.array(ids, np.int64) for ids in layers])


if __name__ == "__main__":
    llama_moe_trace()
    vllm_json()
    tensorrt_llm()
    megatron_replay()
    (HERE / "vllm-json.options.json").write_text('{"model": "deepseek-v2-lite"}\n')
    npz()
    vllm_npy()
    hf_router_logits()
    vllm_jsonl()
    route_trace()
    sglang_json()
    moe_cache_lab()
    (HERE / "sglang-json.options.json").write_text('{"model": "deepseek-v2-lite"}\n')
    (HERE / "vllm-npy.options.json").write_text(
        '{"model": "deepseek-v2-lite", "prompt_tokens": 3}\n'
    )
