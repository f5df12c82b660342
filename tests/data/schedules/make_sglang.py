"""Writes ``sglang.json``: what SGLang's own scheduler decides for small drawn workloads.

    pip download --no-deps sglang==0.5.23 && unzip -q 'sglang-*.whl' -d DIR
    python tests/data/schedules/make_sglang.py DIR        (needs torch, msgspec and packaging)

Its class ``Scheduler`` runs as it is: its loops ``event_loop_overlap`` and ``event_loop_normal``,
with ``SchedulePolicy``, ``PrefillAdder``, ``ScheduleBatch``, ``Req``, the radix cache (its Python
core), the allocators and what it does with results. Modules that these import beside are replaced
by empty ones, requests come by the clock, and the model only says that a token comes. A step takes
``STEP`` ticks. Left out are several ranks, what fills the scheduler from its settings
(``ServerArgs``), and checks of memory while idle; ``max_new_tokens`` is never cut, as no workload
has an answer that does not fit.
"""

from __future__ import annotations

import importlib
import json
import os
import random
import sys
import zlib
from array import array
from pathlib import Path
from typing import Any

from drawn_requests import drawn_requests
from empty_modules import Fields, Finder, Nothing

VERSION = "0.5.23"
STEP, LONGEST, SEATS, VOCABULARY = 10, 1 << 12, 64, 1 << 40
MANAGERS, MEMORY = "sglang.srt.managers.", "sglang.srt.mem_cache."
OURS = (
    *(MANAGERS + one for one in (
        "scheduler", "schedule_policy", "schedule_batch",
        "scheduler_components.batch_result_processor",
        "scheduler_components.new_token_ratio_tracker")),
    *(MEMORY + one for one in (
        "allocator", "allocation", "allocation_sizing", "base_prefix_cache", "cache_init_params",
        "common", "events", "evict_policy", "memory_pool", "prefill_budget", "radix_cache",
        "unified_cache", "unified_radix_cache", "utils")),
    "sglang.srt.constants", "sglang.srt.environ", "sglang.srt.utils.common",
    "sglang.srt.beam_search.batch_tail",
    "sglang.srt.disaggregation.decode_schedule_batch_mixin", "sglang.srt.disaggregation.utils",
    "sglang.srt.dllm.mixin.req", "sglang.srt.model_executor.forward_batch_info",
    "sglang.srt.sampling.sampling_params", "sglang.srt.session.streaming_session",
    "sglang.srt.speculative.spec_info",
)  # fmt: skip
"""Modules that are SGLang's."""
MISSING = ("IPython", "PIL", "aiohttp", "av", "cloudpickle", "fastapi", "numba", "orjson", "psutil",
           "pybase64", "pydantic", "requests", "setproctitle", "sgl_kernel", "starlette", "tqdm",
           "transformers", "huggingface_hub", "triton", "uvloop", "zmq")  # fmt: skip

MIXINS = {"disaggregation.decode": "SchedulerDisaggregationDecodeMixin",
          "disaggregation.prefill": "SchedulerDisaggregationPrefillMixin",
          "multiplex.multiplexing_mixin": "SchedulerMultiplexMixin",
          "managers.scheduler_pp_mixin": "SchedulerPPMixin",
          "dllm.mixin.scheduler": "SchedulerDllmMixin"}  # fmt: skip
"""Parts of ``Scheduler`` that are left out: what is not set here is missed, not nothing."""
OFF = ("enable_hierarchical_cache", "enable_priority_scheduling", "enable_lora", "enable_hisparse",
       "schedule_low_priority_values_first", "abort_on_priority_when_disabled", "enable_fpm",
       "enable_hicache_storage", "enable_lmcache", "enable_unified_cache_external_linker",
       "enable_unified_memory", "enable_overlap_mlx", "is_hybrid_swa", "require_mlp_sync",
       "enable_decode_hicache", "_war_barrier_enabled")  # fmt: skip
ASIDE = ("metrics_reporter", "load_publisher", "load_inquirer", "output_streamer", "model_worker",
         "kv_events_publisher", "pool_stats_observer", "logprob_result_processor",
         "scripted_scheduler_hook", "profiler_manager")  # fmt: skip
UNSET = ("max_queued_requests", "dllm_config", "dynamic_chunk_sizer", "hisparse_coordinator",
         "min_free_slots_delayer", "truncation_align_size", "decode_offload_manager",
         "metrics_collector", "draft_worker", "_pending_chunked_abort_req")  # fmt: skip
"""Attributes of ``Scheduler``: features that are off, what only looks on, and what is not there."""


class Ended(Exception):  # noqa: N818
    """All requests have their answers."""


# --- one workload in SGLang's classes


def settings_of(case: dict[str, Any]) -> dict[str, Any]:
    """Namespaces of its settings."""
    knobs = case["scheduler"]
    return {
        "schedule": Fields(
            chunked_prefill_size=knobs["chunked_prefill_size"],
            enable_mixed_chunk=knobs["enable_mixed_chunk"],
            schedule_conservativeness=knobs["schedule_conservativeness"],
            schedule_policy=knobs["schedule_policy"],
            retraction_policy="length",
        ),
        "disagg": Fields(disaggregation_mode="null"),
        "memory": Fields(radix_eviction_policy="lru"),
        "parallel": Fields(pp_size=1, pp_max_micro_batch_size=knobs["max_num_seqs"]),
        "exec": Fields(features=Fields(), mamba=Fields()),
        **{name: Fields() for name in ("observability", "serving", "spec", "lora", "model")},
    }


NAMES = tuple(settings_of({"scheduler": dict.fromkeys(
    ("chunked_prefill_size", "enable_mixed_chunk", "schedule_conservativeness", "schedule_policy",
     "max_num_seqs"))}))  # fmt: skip
NOW: dict[str, Any] = {}
"""The settings of the workload at hand."""


def pools_of(case: dict[str, Any]) -> tuple[Any, Any, Any]:
    """Rows of requests, the pool of tokens, and the tree of prefixes over it."""
    import torch
    from sglang.srt.mem_cache.allocator.paged import PagedTokenToKVPoolAllocator
    from sglang.srt.mem_cache.allocator.token import TokenToKVPoolAllocator
    from sglang.srt.mem_cache.cache_init_params import CacheInitParams
    from sglang.srt.mem_cache.memory_pool import ReqToTokenPool
    from sglang.srt.mem_cache.unified_cache.component_type import ComponentType
    from sglang.srt.mem_cache.unified_radix_cache import UnifiedRadixCache

    page, rows = case["block_size"], ReqToTokenPool(SEATS, LONGEST, "cpu", False)
    common = {"dtype": torch.float16, "device": "cpu", "kvcache": Fields(), "need_sort": False}
    size = case["blocks"] * page
    pool = (
        TokenToKVPoolAllocator(size, **common)
        if page == 1
        else PagedTokenToKVPoolAllocator(size, page, **common)
    )
    params = CacheInitParams(
        disable=not case["prefix_caching"],
        req_to_token_pool=rows,
        token_to_kv_pool_allocator=pool,
        page_size=page,
        tree_components=(ComponentType.FULL,),
        tree_core_backend="python",
    )
    return rows, pool, UnifiedRadixCache(params)


def scheduler_of(case: dict[str, Any]) -> Any:
    """What its ``__init__`` makes, as far as these workloads go."""
    from sglang.srt.disaggregation.utils import DisaggregationMode
    from sglang.srt.managers.scheduler import Scheduler
    from sglang.srt.speculative.spec_info import SpeculativeAlgorithm

    NOW.update(settings_of(case))
    made, knobs = Scheduler.__new__(Scheduler), case["scheduler"]
    rows, pool, tree = pools_of(case)
    made.__dict__.update(
        req_to_token_pool=rows,
        token_to_kv_pool_allocator=pool,
        tree_cache=tree,
        schedule_policy=knobs["schedule_policy"],
        max_prefill_tokens=knobs["max_prefill_tokens"],
        max_running_requests=knobs["max_num_seqs"],
        page_size=case["block_size"],
        enable_overlap=knobs["async_scheduling"],
        model_config=Fields(vocab_size=VOCABULARY, is_multimodal=False),
        disaggregation_mode=DisaggregationMode.NULL,
        spec_algorithm=SpeculativeAlgorithm.NONE,
        is_generation=True,
        processed_tokens_counter=0,
        priority_scheduling_preemption_threshold=0,
        **dict.fromkeys(UNSET),
        **dict.fromkeys(OFF, False),
        **{name: Nothing() for name in ASIDE},
        **parts(),
    )
    made.init_running_status()
    made.init_chunked_prefill()
    made.init_schedule_policy()
    made.batch_result_processor = results_of(made)
    return made


def parts() -> dict[str, Any]:
    """Members of ``Scheduler`` that have nothing to do in these workloads."""
    return {
        "tp_worker": Fields(model_runner=Fields()),
        "grammar_manager": Fields(has_waiting_grammars=lambda: False, grammar_queue=[]),
        "beam_coordinator": Fields(
            pending_member_rows=lambda _: 0, commit_decode=lambda _: set(), retire_group=Nothing()
        ),
        "dp_attn_adapter": Fields(
            maybe_prepare_mlp_sync_batch=lambda batch, need_sync: batch,
            maybe_convert_decode_to_extend=lambda batch: batch,
            drop_sync_wait_carry=lambda: None,
        ),
        "ngram_embedding_manager": Fields(prepare_for_forward=lambda batch, chunked_req: batch),
        "invariant_checker": Fields(
            _check_all_pools=lambda _: (False, []),
            _check_req_pool=lambda: None,
            _check_tree_cache=lambda: None,
        ),
        "scheduler_stage_metrics": Fields(record=lambda _: Nothing()),
        "dllm_manager": Fields(any_staging_reqs=lambda: False),
    }


def results_of(scheduler: Any) -> Any:
    from sglang.srt.managers.scheduler_components.batch_result_processor import (
        SchedulerBatchResultProcessor,
    )

    names = SchedulerBatchResultProcessor.__dataclass_fields__
    have = {name: getattr(scheduler, name) for name in names}
    return SchedulerBatchResultProcessor(**{**have, "metrics_reporter": Fields(
        num_generated_tokens=0, forward_ct_decode=0, report_decode_stats=Nothing(),
        report_prefill_stats=Nothing())})  # fmt: skip


def answer_of(number: int, count: int) -> list[int]:
    return [10_000_000 + 10_000 * number + place for place in range(count)]


def prompt_of(case: dict[str, Any], number: int) -> list[int]:
    """Tokens: of the family, then its own; in a session after those of the request before."""
    prompt, _, _, family, shared, after, _ = case["requests"][number]
    if after is not None:
        before = case["requests"][after]
        head = prompt_of(case, after) + answer_of(after, before[1])
    else:
        head = [1_000_000 * (family + 1) + place for place in range(shared * case["block_size"])]
    own = [500_000_000 + 10_000 * number + place for place in range(prompt)]
    return (head + own)[:prompt]


def request_of(case: dict[str, Any], number: int) -> Any:
    from sglang.srt.managers.schedule_batch import Req
    from sglang.srt.sampling.sampling_params import SamplingParams

    asked = SamplingParams(max_new_tokens=case["requests"][number][1])
    asked.normalize(None)
    prompt = array("q", prompt_of(case, number))
    return Req(f"{number:04d}", "", prompt, asked, vocab_size=VOCABULARY)


class Clock:
    """What a run has told: ``steps`` as [decided, [[request, tokens]], retracted]."""

    def __init__(self, case: dict[str, Any]) -> None:
        self.case, self.scheduler = case, scheduler_of(case)
        self.now = self.last_end = self.last_seen = 0
        self.coming = sorted(
            (one[2], k) for k, one in enumerate(case["requests"]) if one[5] is None
        )
        self.requests: dict[int, Any] = {}
        self.retracted = [0] * len(case["requests"])
        self.idle = False
        self.steps: list[Any] = []
        made = self.scheduler
        made.ingest_requests, made.run_batch = self.arrive, self.run
        made.maybe_sleep_on_idle = self.sleep
        made._record_step_counters = lambda *_: None
        made.publish_load_snapshot = lambda **_: None

    def arrive(self) -> None:
        """Requests come; where nothing else can be done, time passes until the next."""
        self.see_ends()
        done = self.scheduler
        if self.idle:
            if not self.coming:
                raise Ended
            self.now = max(self.now, self.coming[0][0])
        self.idle = False
        while self.coming and self.coming[0][0] <= self.now:
            _, number = self.coming.pop(0)
            self.requests[number] = request_of(self.case, number)
            done._add_request_to_queue(self.requests[number])

    def sleep(self) -> None:
        self.idle = True

    def see_ends(self) -> None:
        for number, one in list(self.requests.items()):
            if one.finished():
                assert len(one.output_ids) == self.case["requests"][number][1]
                del self.requests[number]
                for after, asked in enumerate(self.case["requests"]):
                    if asked[5] == number:
                        self.coming.append((self.last_seen + asked[6], after))
        self.coming.sort()

    def run(self, batch: Any) -> Any:
        """The model: a token each."""
        import torch
        from sglang.srt.managers.schedule_batch import Req

        assert not batch.is_empty()
        requests: list[Req] = batch.reqs
        decodes = batch.forward_mode.is_decode()
        counts = [1] * len(requests) if decodes else batch.extend_lens
        entries = [[int(one.rid), int(n)] for one, n in zip(requests, counts, strict=True)]
        self.steps.append([self.now, entries, self.gone()])
        batch.forward_iter = self.scheduler.forward_ct = self.scheduler.forward_ct + 1
        self.last_end = max(self.last_end, self.now) + STEP
        self.scheduler._sched_idled = False
        batch.input_ids = None
        given = [
            answer_of(int(one.rid), 1 << 12)[max(0, seen - len(one.origin_input_ids))]
            for one, seen in zip(requests, batch.seq_lens_cpu.tolist(), strict=True)
        ]
        return Fields(
            next_token_ids=torch.tensor(given, dtype=torch.int64),
            copy_done=Fields(synchronize=self.at_end(self.last_end)),
            get_num_generated_tokens=lambda size: size,
        )

    def gone(self) -> list[int]:
        """Who has been retracted since the last step."""
        gone: list[int] = []
        for number, one in self.requests.items():
            gone += [number] * (one.retraction_count - self.retracted[number])
            self.retracted[number] = one.retraction_count
        return sorted(gone)

    def at_end(self, end: int) -> Any:
        def synchronize() -> None:
            self.now = max(self.now, end)
            self.last_seen = end

        return synchronize


def served(case: dict[str, Any]) -> list[Any]:
    clock = Clock(case)
    overlap = case["scheduler"]["async_scheduling"]
    try:
        (clock.scheduler.event_loop_overlap if overlap else clock.scheduler.event_loop_normal)()
    except Ended:
        assert not clock.requests, f"{len(clock.requests)} requests have no answer"
        return clock.steps
    raise AssertionError("its loop has no end")


# --- workloads


def workload(name: str, **changes: Any) -> dict[str, Any]:
    """Drawn: [prompt, answer, arrival, family, shared blocks, follows, think]."""
    rule = {"max_num_seqs": 8, "max_prefill_tokens": 16384, "chunked_prefill_size": 64,
            "enable_mixed_chunk": False, "schedule_policy": "fcfs",
            "schedule_conservativeness": 1.0, "async_scheduling": True}  # fmt: skip
    case: dict[str, Any] = {"name": name, "block_size": 1, "blocks": 2000, "prefix_caching": False}
    drawn = random.Random(zlib.crc32(name.encode()))
    size = changes.get("block_size", case["block_size"])
    asked = drawn_requests(drawn, changes, size)
    requests = list(asked)
    for key, value in changes.items():
        (rule if key in rule else case)[key] = value
    return {**case, "scheduler": rule, "requests": requests}


SMALL = {"blocks": 160, "gap": 3}
NOW_ALONE = {"async_scheduling": False}
PAGES = {"block_size": 4, "blocks": 500}
SMALL_PAGES = {"block_size": 4, "blocks": 40, "gap": 3}
EAGER = {"schedule_conservativeness": 0.05, "longest": 24, "answers": 90}
MIXED = {"enable_mixed_chunk": True, "chunked_prefill_size": 24}
FOUND = {"prefix_caching": True, "shares": 40}
FOUND_PAGES = {"prefix_caching": True, "shares": 10}
WHOLE = {"chunked_prefill_size": None, "max_prefill_tokens": 96}


def workloads() -> list[dict[str, Any]]:
    chat = {"sessions": 6, "longest": 25, "answers": 14, "prefix_caching": True}
    few = {"max_num_seqs": 3, "gap": 3}
    drawn: dict[str, dict[str, Any]] = {
        "at once": {"gap": 0},
        "poisson": {},
        "synchronous": NOW_ALONE,
        "small chunks": {"chunked_prefill_size": 16},
        "small chunks, pages": {**PAGES, "chunked_prefill_size": 18},
        "small chunks, synchronous": {**NOW_ALONE, "chunked_prefill_size": 7},
        "few seats": few,
        "few seats, small chunks": {**few, "chunked_prefill_size": 13},
        "whole prompts": WHOLE,
        "whole prompts, pages": {**WHOLE, **PAGES, "gap": 1},
        "whole prompts, long": {**WHOLE, "longest": 200, "gap": 4},
        "most of a step": {"max_prefill_tokens": 40, "gap": 2},
        "few long": {"count": 6, "longest": 400, "answers": 90, "gap": 60},
        "many short": {"count": 60, "longest": 6, "answers": 6, "gap": 2, "max_num_seqs": 32},
        "small pool": SMALL,
        "small pool, synchronous": {**SMALL, **NOW_ALONE},
        "small pool, pages": SMALL_PAGES,
        "small pool, small chunks": {**SMALL, "chunked_prefill_size": 16},
        "retraction": {**SMALL, **EAGER},
        "retraction, synchronous": {**SMALL, **EAGER, **NOW_ALONE},
        "retraction, pages": {**SMALL_PAGES, **EAGER},
        "retraction, pages, synchronous": {**SMALL_PAGES, **EAGER, **NOW_ALONE},
        "retraction, small chunks": {**SMALL, **EAGER, "chunked_prefill_size": 16},
        "retraction, whole prompts": {**SMALL, **EAGER, **WHOLE},
        "retraction, long answers": {**SMALL, **EAGER, "longest": 10, "answers": 80},
        "mixed": MIXED,
        "mixed, synchronous": {**MIXED, **NOW_ALONE},
        "mixed, pages": {**MIXED, **PAGES},
        "mixed, small pool": {**MIXED, **SMALL},
        "mixed, retraction": {**MIXED, **SMALL, **EAGER},
        "mixed, retraction, synchronous": {**MIXED, **SMALL, **EAGER, **NOW_ALONE},
        "mixed, retraction, pages": {**MIXED, **SMALL_PAGES, **EAGER},
        "prefixes": FOUND,
        "prefixes, synchronous": {**FOUND, **NOW_ALONE},
        "prefixes, pages": {**PAGES, **FOUND_PAGES},
        "prefixes, small chunks": {**FOUND, "chunked_prefill_size": 16},
        "prefixes, mixed": {**FOUND, **MIXED},
        "prefixes, retraction": {**FOUND, **SMALL, **EAGER},
        "sessions": chat,
        "sessions, pages": {**chat, **PAGES},
        "lpm": {**FOUND, **few, "schedule_policy": "lpm"},
        "lpm, synchronous": {**FOUND, **few, **NOW_ALONE, "schedule_policy": "lpm"},
        "lpm, pages": {**PAGES, **FOUND_PAGES, **few, "schedule_policy": "lpm"},
        "lpm, at once": {**FOUND, **few, "gap": 0, "schedule_policy": "lpm", "count": 40},
        "lpm, without prefixes": {**few, "schedule_policy": "lpm"},
    }  # fmt: skip
    return [workload(name, **changes) for name, changes in drawn.items()]


def evicting() -> list[dict[str, Any]]:
    """Workloads whose prefixes have no room for good: SGLang's tree gives whole nodes up, in order
    of their last match, which the package does not follow.
    """
    chat = {"sessions": 12, "longest": 30, "answers": 20, "prefix_caching": True}
    drawn: dict[str, dict[str, Any]] = {
        "prefixes, small pool": {**FOUND, **SMALL},
        "prefixes, small pool, pages": {**SMALL_PAGES, **FOUND_PAGES},
        "sessions, small pool": {**chat, "blocks": 600},
        "lpm, small pool": {**FOUND, **SMALL, "schedule_policy": "lpm"},
    }
    return [workload(name, **changes, count=60, evicts=True) for name, changes in drawn.items()]


def main_setup(folder: str) -> None:
    """SGLang can be imported from ``folder``."""
    os.environ["SGLANG_UNIFIED_RADIX_TREE_CORE_BACKEND"] = "python"
    sys.meta_path.insert(0, Finder(Path(folder), "sglang", OURS, MISSING))
    sys.path.insert(0, folder)
    context: Any = importlib.import_module("sglang.srt.runtime_context")
    for name in NAMES:
        setattr(context, f"get_{name}", lambda name=name: NOW[name])
    context.attention_backends = lambda: ("torch_native", "torch_native")
    context.get_context = lambda: Fields(is_config_namespace_published=lambda _: False)
    for module, name in MIXINS.items():
        setattr(importlib.import_module(f"sglang.srt.{module}"), name, type(name, (), {}))
    common: Any = importlib.import_module("sglang.srt.utils.common")
    common.suppress_noisy_warnings = lambda: None
    common.is_pin_memory_available = lambda _=None: False
    utils: Any = importlib.import_module("sglang.srt.utils")
    vars(utils).update({name: one for name, one in vars(common).items() if name[:2] != "__"})


def main(folder: str, out: str | None = None) -> None:
    """Play all workloads with SGLang in ``folder``."""
    main_setup(folder)
    cases = [{**case, "steps": served(case)} for case in [*workloads(), *evicting()]]
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path = Path(out) if out else Path(__file__).with_name("sglang.json")
    path.write_text(f'{{"sglang":"{VERSION}","cases":[\n{lines}\n]}}\n', encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])
