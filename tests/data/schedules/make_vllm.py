"""Writes ``vllm.json``: what vLLM's own scheduler decides for small drawn workloads.

    pip download --no-deps vllm==0.33.0 && unzip -q 'vllm-*.whl' -d DIR
    python tests/data/schedules/make_vllm.py DIR          (needs torch, on a CPU)

Its classes ``Scheduler`` and ``AsyncScheduler`` run as they are, with their KV cache manager and
queues; modules that they import beside are replaced by empty ones, the model by one that says which
requests got a token, and the engine's loop (``EngineCore.step`` and ``step_with_batch_queue``) by
the few lines of ``served`` below. A step takes ``STEP`` ticks.
"""

from __future__ import annotations

import importlib
import json
import math
import random
import sys
from pathlib import Path
from typing import Any

from drawn_requests import drawn_requests
from empty_modules import Fields, Finder

MISSING = ("cbor2", "msgspec", "uvloop", "xxhash", "zmq", "fastapi", "uvicorn")
VERSION = "0.33.0"
STEP, LONGEST = 10, 1 << 20
OURS = ("vllm.v1.core", "vllm.v1.request", "vllm.v1.kv_cache_interface", "vllm.utils.math_utils",
        "vllm.utils.mem_utils", "vllm.utils.torch_utils", "vllm.utils.hashing",
        "vllm.v1.utils", "vllm.v1.kv_cache_spec_registry", "vllm.v1.kv_cache_layout")  # fmt: skip
"""Modules that are vLLM's."""


# --- one workload in vLLM's classes


def scheduler_of(case: dict[str, Any]) -> Any:
    from vllm.v1.core.sched.async_scheduler import AsyncScheduler
    from vllm.v1.core.sched.scheduler import Scheduler
    from vllm.v1.kv_cache_interface import KVCacheConfig, KVCacheGroupSpec

    knobs, size = case["scheduler"], case["block_size"]
    blocks = case["blocks"] + 1  # vLLM keeps its first one for itself
    windows = case.get("windows", [None])
    times, inside = case.get("times", [1] * len(windows)), case.get("inside", False)
    kinds = enumerate(zip(windows, times, strict=True))
    config = KVCacheConfig(
        num_blocks=blocks,
        kv_cache_tensors=[],
        kv_cache_groups=[
            KVCacheGroupSpec([str(n)], spec_of(size * many, window, inside=inside))
            for n, (window, many) in kinds
        ],
        prefix_cache_retention_interval=0,  # its default
    )
    settings = Fields(
        policy=knobs["policy"],
        max_num_seqs=knobs["max_num_seqs"],
        max_num_batched_tokens=knobs["max_num_batched_tokens"],
        long_prefill_token_threshold=knobs["long_prefill_token_threshold"],
        enable_chunked_prefill=knobs["enable_chunked_prefill"],
        scheduler_reserve_full_isl=knobs["reserve_full_isl"],
        watermark=knobs["watermark"],
        prefill_schedule_interval=1,
    )
    whole = Fields(
        scheduler_config=settings,
        cache_config=Fields(
            num_gpu_blocks=blocks,
            enable_prefix_caching=case["prefix_caching"],
            block_size=size,
            mamba_cache_mode="align" if case["prefix_caching"] else "none",
        ),
        model_config=Fields(max_model_len=LONGEST, is_encoder_decoder=False),
        parallel_config=Fields(
            decode_context_parallel_size=1,
            prefill_context_parallel_size=1,
            pipeline_parallel_size=1,
            data_parallel_size=1,
            data_parallel_index=0,
        ),
        observability_config=Fields(),
        ec_manager_config=Fields(get_encoder_cache_manager_obj=lambda: None),
        aux_output_config=Fields(enabled=False),
        num_speculative_tokens=0,
        num_lookahead_tokens=0,
        num_hash_lookahead_tokens=0,
        num_prefill_lookahead_tokens=0,
        max_concurrent_batches=1 + knobs["async_scheduling"],
        max_in_flight_tokens=(1 + knobs["async_scheduling"]) * knobs["max_num_batched_tokens"],
    )
    grammars = Fields(accept_tokens=lambda *_: True, should_advance=lambda _: False)
    kind = AsyncScheduler if knobs["async_scheduling"] else Scheduler
    coarse = math.lcm(*(one.kv_cache_spec.block_size for one in config.kv_cache_groups))
    fine = size if case["prefix_caching"] else coarse
    made = kind(whole, config, grammars, coarse, fine, mm_registry=_Registry())
    made.connector = made.ec_connector = None
    return made


def spec_of(size: int, window: int | str | None, *, inside: bool) -> Any:
    """A group of layers that keep all, a ``window``, a "state" at the ends of steps, of which
    perhaps one ``inside``, or, without prefixes, one block of any length ("spare").
    """
    import torch
    from vllm.v1.kv_cache_interface import FullAttentionSpec, MambaSpec, SlidingWindowSpec

    if isinstance(window, str):
        return MambaSpec(
            block_size=size if window == "state" else LONGEST,
            shapes=((1,),),
            dtypes=(torch.float32,),
            mamba_cache_mode="align" if window == "state" else "none",
            num_prefill_checkpoint_blocks=int(inside),
            prefill_checkpoint_alignment=size if inside else None,
        )

    shape = {"block_size": size, "num_kv_heads": 1, "head_size": 1, "dtype": torch.float32}
    if window is None:
        return FullAttentionSpec(**shape)
    return SlidingWindowSpec(**shape, sliding_window=window)


class _Registry:
    def supports_multimodal_inputs(self, _: Any) -> bool:
        return False


def answer_of(number: int, count: int) -> list[int]:
    return [10_000_000 + 10_000 * number + place for place in range(count)]


def prompt_of(case: dict[str, Any], number: int) -> list[int]:
    """Tokens: of the family, then its own; in a session after those of the request before."""
    prompt, _, _, _, family, shared, after, _ = case["requests"][number]
    if after is not None:
        before = case["requests"][after]
        head = prompt_of(case, after) + answer_of(after, before[1])
    else:
        head = [1_000_000 * (family + 1) + place for place in range(shared * case["block_size"])]
    own = [500_000_000 + 10_000 * number + place for place in range(prompt)]
    return (head + own)[:prompt]


def request_of(case: dict[str, Any], number: int, came: int) -> Any:
    from vllm.v1.core.kv_cache_utils import get_request_block_hasher, init_none_hash
    from vllm.v1.request import Request

    def digest(value: Any) -> bytes:
        import hashlib
        import pickle

        return hashlib.sha256(pickle.dumps(value)).digest()

    init_none_hash(digest)
    _, answer, _, priority, *_ = case["requests"][number]
    return Request(
        request_id=f"{number:04d}",
        prompt_token_ids=prompt_of(case, number),
        sampling_params=Fields(max_tokens=answer, min_tokens=0),
        pooling_params=None,
        arrival_time=float(came),
        priority=priority,
        block_hasher=get_request_block_hasher(case["block_size"], digest),
    )


class Clock:
    """What a run has told: ``steps`` as (decided, [(request, tokens)], preempted)."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case, self.scheduler = case, scheduler_of(case)
        self.now, self.last_end = 0, 0
        self.coming = sorted(
            (one[2], k) for k, one in enumerate(case["requests"]) if one[6] is None
        )
        self.flying: list[tuple[Any, dict[str, list[int]], int]] = []
        self.steps: list[Any] = []
        self.left = len(case["requests"])

    def arrive(self) -> None:
        while self.coming and self.coming[0][0] <= self.now:
            came, number = self.coming.pop(0)
            self.scheduler.add_request(request_of(self.case, number, came))

    def decide(self) -> bool:
        """One call of the scheduler; whether the step has tokens."""
        self.arrive()
        told = self.scheduler.schedule()
        counts = told.num_scheduled_tokens
        requests = self.scheduler.requests
        given = {key: not requests[key].is_prefill_chunk for key in counts}
        tokens = {key: self.next_token(key) if given[key] else [] for key in counts}
        gone = [*told.preempted_req_ids] if hasattr(told, "preempted_req_ids") else []
        entries = [[int(key), count] for key, count in counts.items()]
        if entries or gone:
            self.steps.append([self.now, entries, sorted(map(int, gone or []))])
        if not entries:
            self.scheduler.update_from_output(told, self.output({}))
            return False
        self.last_end = max(self.last_end, self.now) + STEP
        self.flying.append((told, tokens, self.last_end))
        return True

    def next_token(self, key: str) -> list[int]:
        """The token that follows those that are known or on their way."""
        request = self.scheduler.requests[key]
        number, flying = int(key), sum(bool(one[1].get(key)) for one in self.flying)
        return [answer_of(number, request.max_tokens)[request.num_output_tokens + flying]]

    def output(self, tokens: dict[str, list[int]]) -> Any:
        return Fields(
            sampled_token_ids=[*tokens.values()],
            req_id_to_index={key: place for place, key in enumerate(tokens)},
            prompt_logprobs_dict={},
            prompt_token_id_logprobs_dict={},
            req_ids=[*tokens],
        )

    def see(self) -> None:
        told, tokens, end = self.flying.pop(0)
        self.now = max(self.now, end)
        before = set(self.scheduler.requests)
        self.scheduler.update_from_output(told, self.output(tokens))
        for key in sorted(before - set(self.scheduler.requests)):
            self.left -= 1
            for number, one in enumerate(self.case["requests"]):
                if one[6] == int(key):
                    self.coming.append((end + one[7], number))
        self.coming.sort()


def served(case: dict[str, Any]) -> list[Any]:
    clock, most = Clock(case), 2 if case["scheduler"]["async_scheduling"] else 1
    while clock.left:
        if len(clock.flying) == most:
            clock.see()
            continue
        told = len(clock.steps)
        if clock.decide():
            continue
        if clock.flying:  # the engine waits for its oldest batch
            clock.see()
        elif len(clock.steps) == told:
            clock.now = max(clock.now, clock.coming[0][0])
    return clock.steps


# --- workloads


def workload(name: str, seed: int, **changes: Any) -> dict[str, Any]:
    """Drawn: [prompt, answer, arrival, priority, family, shared blocks, follows, think]. Perhaps
    with ``windows`` of groups of layers, None: they keep all.
    """
    rule = {"max_num_seqs": 8, "max_num_batched_tokens": 64, "enable_chunked_prefill": True,
            "long_prefill_token_threshold": 0, "reserve_full_isl": True, "watermark": 0.0,
            "policy": "fcfs", "async_scheduling": True}  # fmt: skip
    case: dict[str, Any] = {"name": name, "block_size": 4, "blocks": 400, "prefix_caching": False}
    drawn = random.Random(seed)
    size = changes.get("block_size", case["block_size"])
    asked = drawn_requests(drawn, changes, size)
    requests = [[*one[:3], drawn.randrange(3), *one[3:]] for one in asked]
    for key, value in changes.items():
        (rule if key in rule else case)[key] = value
    return {**case, "scheduler": rule, "requests": requests}


SMALL = {"blocks": 40, "gap": 3}
NOW = {"async_scheduling": False}
WHOLE = {"enable_chunked_prefill": False, "max_num_batched_tokens": 96}
PIECES = {"long_prefill_token_threshold": 12}
CHUNK = {"reserve_full_isl": False, "max_num_batched_tokens": 24}
FOUND = {"prefix_caching": True, "shares": 10}
FIRST = {"policy": "priority"}
HALF, MOST = {"windows": [9, None]}, {"windows": [None, 8, 8, 8]}
STATES, INSIDE = {"windows": ["state", "state", None]}, {"windows": [None, "state"], "inside": True}
UNEVEN = {"windows": [9, 9, None], "times": [1, 1, 2]}
WIDER = {"windows": [None, 9, 9], "times": [1, 2, 2]}
TIGHT, WIDE = {"max_num_batched_tokens": 18}, {"block_size": 24, "shares": 2}
APART, NONE_WHOLE = {"windows": [5, 16, None]}, {"windows": [10]}


def workloads() -> list[dict[str, Any]]:
    chat = {"sessions": 6, "longest": 25, "answers": 14, "blocks": 80, "prefix_caching": True}
    hard = {"blocks": 36, "gap": 1, "max_num_batched_tokens": 20, "reserve_full_isl": False}
    drawn: dict[str, dict[str, Any]] = {
        "at once": {"gap": 0},
        "poisson": {},
        "synchronous": NOW,
        "small budget": {"max_num_batched_tokens": 16},
        "few seats": {"max_num_seqs": 2, "gap": 4},
        "whole prompts": WHOLE,
        "whole prompts, synchronous": {**WHOLE, **NOW, "gap": 2},
        "whole prompts in pieces": {**WHOLE, **PIECES, "gap": 1},
        "long prompts in pieces": {**PIECES, "max_num_batched_tokens": 32},
        "long prompts in pieces, one at a time": {**PIECES, "gap": 400, "count": 8},
        "preemption": SMALL,
        "preemption, synchronous": {**SMALL, **NOW},
        "preemption, first chunk only": {**SMALL, **CHUNK},
        "watermark": {**SMALL, "watermark": 0.1},
        "watermark, first chunk only": {**SMALL, **CHUNK, **NOW, "watermark": 0.2},
        "prefixes": FOUND,
        "prefixes, small pool": {**FOUND, **SMALL},
        "prefixes, small pool, synchronous": {**FOUND, **SMALL, **NOW},
        "sessions": chat,
        "priority": {**FIRST, "max_num_seqs": 3, "gap": 3},
        "priority, preemption": {**FIRST, **SMALL},
        "priority, preemption, synchronous": {**FIRST, **SMALL, **NOW, **FOUND},
        "priority, preemption, prefixes": {**FIRST, **FOUND, "gap": 3, "blocks": 40},
        "priority, preemption, small budget": {**FIRST, **hard, "count": 30},
        "windows": HALF,
        "windows, preemption": {**HALF, **SMALL, "blocks": 45},
        "windows, preemption, synchronous": {**MOST, **SMALL, **CHUNK, **NOW, "blocks": 51},
        "windows, first chunk only": {**MOST, **SMALL, **CHUNK, "blocks": 70},
        "windows, long prompts in pieces": {**HALF, **SMALL, **PIECES, "blocks": 40},
        "windows, whole prompts": {**MOST, **WHOLE, "blocks": 90, "gap": 1},
        "windows, prefixes": {**HALF, **FOUND, "gap": 3},
        "windows, prefixes, small pool": {**MOST, **FOUND, **SMALL, "blocks": 94},
        "windows, prefixes, small pool, synchronous": {**HALF, **FOUND, **SMALL, **NOW},
        "windows, prefixes, priority": {**HALF, **FOUND, **SMALL, **FIRST, "blocks": 50},
        "windows, sessions": {**chat, **HALF, "blocks": 120},
        "windows, sessions, watermark": {**chat, **MOST, "blocks": 210, "watermark": 0.1},
        "two windows, prefixes": {**APART, **FOUND, **SMALL, "blocks": 60},
        "two windows, sessions": {**chat, **APART, "blocks": 150},
        "windows alone": {**NONE_WHOLE, **SMALL, "blocks": 24},
        "windows alone, prefixes": {**NONE_WHOLE, **FOUND, **SMALL, **NOW, "blocks": 24},
        "states": {"windows": ["spare", None], "gap": 3},
        "states, preemption": {"windows": ["spare", "spare", None], **SMALL, "blocks": 50},
        "states, prefixes": {**STATES, **FOUND, "gap": 3},
        "states, prefixes, small pool": {**STATES, **FOUND, **SMALL, "blocks": 60},
        "states, prefixes, synchronous": {**STATES, **FOUND, **SMALL, **NOW, "blocks": 50},
        "states, prefixes, small budget": {**STATES, **FOUND, **SMALL, **TIGHT, "blocks": 60},
        "states, prefixes, wide blocks": {**STATES, **FOUND, **TIGHT, **WIDE, "gap": 3},
        "states, prefixes, in pieces": {**STATES, **FOUND, **PIECES, "gap": 3},
        "states, sessions": {**STATES, **chat, "blocks": 120},
        "states, priority, preemption": {**STATES, **FOUND, **SMALL, **FIRST, "blocks": 60},
        "states inside, prefixes": {**INSIDE, **FOUND, "gap": 3},
        "states inside, prefixes, small pool": {**INSIDE, **FOUND, **SMALL, "blocks": 50},
        "states inside, prefixes, synchronous": {**INSIDE, **FOUND, **SMALL, **NOW, "blocks": 45},
        "states inside, sessions": {**INSIDE, **chat, "blocks": 100},
        "uneven, preemption": {**UNEVEN, **SMALL, "blocks": 60},
        "uneven, prefixes": {**UNEVEN, **FOUND, **SMALL, "blocks": 70},
        "uneven, sessions": {**UNEVEN, **chat, "blocks": 140},
        "wider windows, prefixes": {**WIDER, **FOUND, **SMALL, "blocks": 70},
        "wider windows, sessions": {**WIDER, **chat, **NOW, "blocks": 110},
    }  # fmt: skip
    return [workload(name, seed, **dict(drawn[name])) for seed, name in enumerate(drawn, 1)]


def main_setup(folder: str) -> None:
    """vLLM can be imported from ``folder``."""
    sys.meta_path.insert(0, Finder(Path(folder), "vllm", OURS, MISSING))
    sys.path.insert(0, folder)
    grammars: Any = importlib.import_module("vllm.v1.structured_output.request")
    grammars.StructuredOutputRequest = Fields(from_sampling_params=lambda _: None)
    utils: Any = importlib.import_module("vllm.utils")
    utils.length_from_prompt_token_ids_or_embeds = lambda tokens, _: len(tokens)


def main(folder: str, out: str | None = None) -> None:
    """Play all workloads with vLLM in ``folder``."""
    main_setup(folder)
    cases = [{**case, "steps": served(case)} for case in workloads()]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path = Path(out) if out else Path(__file__).with_name("vllm.json")
    path.write_text(f'{{"vllm":"{VERSION}","cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
