"""Pairs of drawn runs that differ in one thing, over all shipped models, cards and engines: what
more batch, context, bits, slots, GPUs or load may change, and by how much at most. A price that is
wrong for one format on one card, or a workload that is cut, breaks one of them. The brackets were
set after some 1,500 pairs had been looked at.
"""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import moesim
from moesim.config.errors import InputError
from moesim.hardware import gpu_names
from moesim.hardware.load import card_names, unified_names
from moesim.model import load_model, model_names
from verification.check import Measured, check

Settings = dict[str, Any]
Draw = Callable[[random.Random], Settings]
RESIDENT, OFFLOADED, SERVED = 60, 40, 20
"""Runs of each kind that are drawn; each is run once more for each of its laws."""
ROOM = "4 TB"
"""Memory of every GPU and host, so that nothing is refused for want of it."""
BLOCKS = "100000 blocks"
"""Of keys and values, more than all requests have: all that such memory holds are tens of GB here.
"""
ALONE = ("phone-12gb",)
FLASH_ATTENTION_2 = ("a100-sxm-80gb", "l40s", "rtx-pro-6000")
TRITON_TILES = ((32, 16), (96, 32), (512, 64))
"""Rows of a tile of fused experts without a tuned file, for up to so many tokens (vLLM's
``get_default_config``); other engines' kernels that no fit prices are taken for such.
"""
TRTLLM_STEP = 8192
"""Tokens of a step of TensorRT-LLM by default."""
SERVERS = ("dgx-a100", "dgx-h100", "dgx-h200", "dgx-b200", "l40s", "rtx-pro-6000", "rtx-4090")


class Law(NamedTuple):
    """``changed`` differs in ``what`` (None: not asked of this run); the ratio of the two values of
    ``metric`` is between ``least`` and ``most``; ``least`` is less where steps have ``twice`` the
    tokens, for which experts' padded rows are more than twice as many.
    """

    what: str
    changed: Callable[[Settings], Settings | None]
    least: float
    most: float
    metric: str = "output_throughput"
    twice: bool = False


def held(draw: Draw, laws: Sequence[Law], runs: int, seed: int) -> Measured:
    """How many pairs of ``runs`` drawn ones break a law, and the first; how many pairs each has."""
    drawn = random.Random(seed)  # noqa: S311
    asked, broken = Counter[str](), list[str]()
    for _ in range(runs):
        settings = draw(drawn)
        if (first := _summary(settings)) is None:
            asked["refused"] += 1
            continue
        for law in laws:
            changed = law.changed(settings)
            second = None if changed is None else _summary(changed)
            if second is not None:
                asked[law.what] += 1
                broken += _breach(law, settings, first, second)
    told = ", ".join(f"{number} {what}" for what, number in asked.items())
    return Measured(len(broken), f"{told}" + (f"; first: {broken[0]}" if broken else ""))


def _summary(settings: Settings) -> Mapping[str, Any] | None:
    """What a run of ``settings`` gives; None where an engine does not take them."""
    try:
        result = moesim.run(settings)
    except InputError:
        return None
    return result.summary if result.status == "ok" else None


def _breach(
    law: Law, settings: Settings, first: Mapping[str, Any], second: Mapping[str, Any]
) -> list[str]:
    ratio, padded = second[law.metric] / first[law.metric], 2.0
    if law.twice and settings["software"] != "llama.cpp":
        batch = _at(settings, "workload.batching.batch_size")
        padded = second["hits"] * _tile(2 * batch) / (first["hits"] * _tile(batch))
    if law.least * min(1, 2 / padded) <= ratio <= law.most:
        return []
    return [f"{law.what}: {law.metric} x {ratio:.3f} of {settings}"]


def _tile(tokens: int) -> int:
    """To which an expert's rows are padded: all fit into one, of the batches that are drawn."""
    return next(tile for most, tile in TRITON_TILES if tokens <= most)


def _models() -> list[str]:
    """Those that decode and have experts, one of each size."""
    return [name for name in model_names() if name != "small-moe" and _decodes(name)]


def _decodes(name: str) -> bool:
    model = load_model(name)
    return bool(model.moe_layers) and not model.has_encoder


def _set(settings: Settings, path: str, value: Any) -> Settings:
    """``settings`` with another value at the dotted ``path``."""
    key, _, rest = path.partition(".")
    return {**settings, key: _set(settings.get(key, {}), rest, value) if rest else value}


def _in_format(name: str) -> Callable[[Settings], Settings | None]:
    """With weights in the format ``name``; None where they are in as narrow ones."""

    def changed(settings: Settings) -> Settings | None:
        model = f"{settings['model']}@{name}"
        narrower = load_model(model).bytes < load_model(settings["model"]).bytes
        return {**settings, "model": model} if narrower else None

    return changed


def _resident(drawn: random.Random) -> Settings:
    gpu = drawn.choice([name for name in gpu_names() if name not in ALONE])
    batch = drawn.choice((1, 2, 4, 8, 16, 64))
    return {
        "model": drawn.choice(_models()),
        "hardware": gpu if gpu in unified_names() else {"gpu": {"base": gpu, "memory": ROOM}},
        "software": drawn.choice(("vllm", "llama.cpp", "sglang", "trtllm")),
        "records": "summary",
        "workload": {
            "batching": {"kind": "static", "batch_size": batch},
            "requests": batch,
            "context": drawn.choice((512, 2048, 8192)),
            "phase": "decode",
        },
        "experts": {"capacity": "all"},
    }


def _with_a_draft(settings: Settings) -> Settings | None:
    """With a draft a step; None on cards whose FlashAttention 2 splits keys of single queries only,
    where one more takes up to four times as long.
    """
    hardware = settings["hardware"]
    if isinstance(hardware, dict) and hardware["gpu"]["base"] in FLASH_ATTENTION_2:
        return None
    drafts = {"kind": "ngram", "num_speculative_tokens": 1, "acceptance": "0 %"}
    return _set(settings, "workload.speculative", drafts)


def _batches(times: int) -> Callable[[Settings], Settings]:
    """So many times as many requests, and as many at once."""

    def changed(settings: Settings) -> Settings:
        for path in ("workload.batching.batch_size", "workload.requests"):
            settings = _set(settings, path, times * _at(settings, path))
        return settings

    return changed


def _at(settings: Settings, path: str) -> Any:
    value: Any = settings
    for key in path.split("."):
        value = value[key]
    return value


def _times(path: str, factor: int) -> Callable[[Settings], Settings]:
    return lambda settings: _set(settings, path, factor * _at(settings, path))


@check(
    "Of resident runs, twice the batch gives at most twice the tokens and no fewer, twice the"
    " context no more, narrower weights not many more than their bytes say, and a draft that is"
    " never right at most halves them: but for what padded rows of experts take that are more than"
    " twice as many",
    tolerance=0,
    why="work and bytes bound all of them; brackets leave room for another kernel of a format (that"
    " tiles grow with the tokens was added after draws on cards with little compute had shown it:"
    " no number of it is fitted)",
    unit="pairs that break it",
)
def pairs_of_resident_runs() -> Measured:
    laws = (
        Law("twice the batch", _batches(2), 1.0, 2.05, twice=True),
        Law("twice the context", _times("workload.context", 2), 0.45, 1.0005),
        Law("experts in fp8", _in_format("fp8"), 0.9, 2.3),
        Law("GGUF's Q4_K_M", _in_format("q4_k_m"), 0.8, 4.5),
        Law("a draft that is never right", _with_a_draft, 0.48, 1.0005, twice=True),
    )
    return held(_resident, laws, RESIDENT, seed=20261129)


def _offloaded(drawn: random.Random) -> Settings:
    model = drawn.choice(_models())
    moe = load_model(model).moe_layers[0].moe
    assert moe is not None
    batch, form = drawn.choice((1, 1, 2, 4, 8)), drawn.choice(("", "@q4_k_m", "@int4", "@fp8"))
    slots = max(1, drawn.choice((2, moe.experts // 8, moe.experts // 4, moe.experts // 2)))
    whole = {*card_names(), *unified_names(), *ALONE}
    gpu = drawn.choice([name for name in gpu_names() if name not in whole])
    return {
        "model": f"{model}{form}",
        "hardware": {
            "gpu": {"base": gpu, "memory": ROOM},
            "host": {"base": "ddr5-4800-8ch-512gb", "memory": ROOM},
            "link": "pcie3-x16",
        },
        "software": drawn.choice(("vllm", "llama.cpp", "hf-eager", "ideal", "moe-infinity")),
        "records": "summary",
        "workload": {
            "batching": {"kind": "static", "batch_size": batch},
            "requests": 2 * batch,
            "context": drawn.choice((512, 2048)),
            "phase": "decode",
        },
        "experts": {
            "capacity": f"{slots} slots/layer",
            "policy": drawn.choice(("lru", "lfu", "lfru", "fifo", "arc", "least_stale")),
            "miss": drawn.choice(("load", "cpu")),
        },
    }


def _twice_the_slots(settings: Settings) -> Settings:
    slots = int(settings["experts"]["capacity"].partition(" ")[0])
    return _set(settings, "experts.capacity", f"{2 * slots} slots/layer")


@check(
    "Of offloaded runs, more slots and a faster host never make one slower, a narrower link never"
    " faster, and twice the batch gives at most twice the tokens and a little",
    tolerance=0,
    why="fewer misses, bytes and waits; 2 % is left for policies that are no stack algorithms",
    unit="pairs that break it",
)
def pairs_of_offloaded_runs() -> Measured:
    laws = (
        Law("twice the slots", _twice_the_slots, 0.98, math.inf),
        Law("half the lanes", lambda one: _set(one, "hardware.link", "pcie3-x8"), 0.4, 1.001),
        Law(
            "a faster host",
            lambda one: _set(one, "hardware.host", {"base": "epyc-9005-1s", "memory": ROOM}),
            0.99,
            2.6,
        ),
        Law("twice the batch", _batches(2), 0, 2.3),  # fewer where slots hold one row's experts
    )
    return held(_offloaded, laws, OFFLOADED, seed=20261130)


def _served(drawn: random.Random) -> Settings:
    engine, clients = drawn.choice(("vllm", "sglang", "trtllm")), drawn.choice((1, 4, 16))
    settings = {
        "model": drawn.choice(_models()),
        "hardware": {"base": drawn.choice(SERVERS), "gpu": {"memory": ROOM}},
        "software": engine,
        "records": "summary",
        "memory": {"kv": BLOCKS},
        "workload": {
            "batching": {"kind": "continuous", "scheduler": engine},
            "requests": 4 * clients,
            "arrivals": {"kind": "closed_loop", "max_concurrency": clients},
            "lengths": {
                "kind": "fixed",
                "input_len": drawn.choice((256, 1024, 4096)),
                "output_len": drawn.choice((32, 128)),
            },
        },
    }
    if (gpus := drawn.choice((1, 2, 4))) > 1:
        settings["parallelism"] = {"expert": gpus, "dense": "tensor", "experts": "tensor"}
    return settings


def _clients(settings: Settings) -> Settings:
    more = _times("workload.arrivals.max_concurrency", 2)(settings)
    return _times("workload.requests", 2)(more)


def _gpus(settings: Settings) -> Settings | None:
    """On twice as many GPUs; None where one request's work is not yet split."""
    return _times("parallelism.expert", 2)(settings) if "parallelism" in settings else None


def _twice_the_prompt(settings: Settings) -> Settings:
    """Under TensorRT-LLM no longer than leaves room in its step for the answers beside it: what
    fills a step runs alone, by the law of ``served_prompts_that_fill_a_step_run_alone``.
    """
    tokens = 2 * _at(settings, "workload.lengths.input_len")
    if settings["software"] == "trtllm":
        clients = _at(settings, "workload.arrivals.max_concurrency")
        tokens = min(tokens, TRTLLM_STEP - clients)
    return _set(settings, "workload.lengths.input_len", tokens)


@check(
    "Of served requests, twice the clients give no fewer tokens and no sooner ones, longer prompts"
    " no earlier first tokens, twice the GPUs at most twice the tokens",
    tolerance=0,
    why="work and bytes bound all of them; 7 % is left for requests that meet other ones (that a"
    " prompt fills a step was seen in a draw; such have an exact law of their own)",
    unit="pairs that break it",
)
def pairs_of_served_runs() -> Measured:
    laws = (
        Law("twice the clients", _clients, 0.93, 2.1),
        Law("twice the clients", _clients, 0.97, 2.6, "mean_tpot_ms"),
        Law("twice the prompt", _twice_the_prompt, 0.99, 3.2, "mean_ttft_ms"),
        Law("twice the GPUs", _gpus, 0.5, 2.02),
        Law("experts in fp8", _in_format("fp8"), 0.7, 2.4),
    )
    return held(_served, laws, SERVED, seed=20261201)
