"""Requests that are served: options of an engine, and the keys of its scheduler and memory that
they set. Each table is read and written.

Names are from memory of the engines' documentation; llama.cpp's are those of its table of options.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from moesim.config.amounts.capacity import KvCapacity
from moesim.config.amounts.dimensions import format_percent
from moesim.config.errors import Problem
from moesim.config.registry import kind_of
from moesim.experiment.building.of_card import block_size_of
from moesim.experiment.engine_commands.base import NOTE, Configuration, Reading
from moesim.experiment.engine_commands.words import Line
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.serving import Memory
from moesim.workload.batching.continuous import Continuous
from moesim.workload.serving import registry as schedulers

SCHEDULER, MEMORY = "scheduler", "memory"
_PATHS = {SCHEDULER: "workload.batching.scheduler", MEMORY: "memory"}
_KV = {"blocks": "blocks", "bytes": "B", "tokens": "blocks"}
_OF_KV = {"bytes": "bytes", "share": "fraction"}
"""What keys and values are counted in, by the form of a row; others are of blocks."""
WHOLE, SHARE, NUMBER, WORD = "whole", "share", "number", "word"


@dataclass(frozen=True)
class Row:
    """An ``option`` (the first name of its row in the engine's table) and the ``key`` that it sets.

    ``form``: what is written behind it (of keys and values what they are counted in); ``means``: an
    option without a value, or with on or off, and what it says; ``always``: written where the key
    is at its default, too, since the engine's is another; ``ranks``: the number is that of all
    ranks together; ``none``: the number that is null.
    """

    option: str
    key: str
    form: str = WHOLE
    means: bool | None = None
    always: bool = False
    ranks: bool = False
    none: int | None = None


VLLM = (
    Row("--max-num-seqs", "scheduler.max_num_seqs", always=True),
    Row("--max-num-batched-tokens", "scheduler.max_num_batched_tokens", always=True),
    Row("--no-enable-chunked-prefill", "scheduler.enable_chunked_prefill", means=False),
    Row("--long-prefill-token-threshold", "scheduler.long_prefill_token_threshold"),
    Row("--scheduling-policy", "scheduler.policy", WORD),
    Row("--no-async-scheduling", "scheduler.async_scheduling", means=False),
    Row("--gpu-memory-utilization", "memory.gpu_memory_utilization", SHARE, always=True),
    Row("--block-size", "memory.block_size"),
    Row("--num-gpu-blocks-override", "memory.kv", "blocks"),
    Row("--kv-cache-memory-bytes", "memory.kv", "bytes"),
    Row("--enable-prefix-caching", "memory.prefix_caching", means=True),
    Row("--no-enable-prefix-caching", "memory.prefix_caching", means=False),
)
SGLANG = (
    Row("--max-running-requests", "scheduler.max_num_seqs", always=True, ranks=True),
    Row("--chunked-prefill-size", "scheduler.chunked_prefill_size", always=True, ranks=True,
        none=-1),
    Row("--max-prefill-tokens", "scheduler.max_prefill_tokens"),
    Row("--enable-mixed-chunk", "scheduler.enable_mixed_chunk", means=True),
    Row("--schedule-policy", "scheduler.schedule_policy", WORD),
    Row("--schedule-conservativeness", "scheduler.schedule_conservativeness", NUMBER),
    Row("--disable-overlap-schedule", "scheduler.async_scheduling", means=False),
    Row("--mem-fraction-static", "memory.gpu_memory_utilization", SHARE, always=True),
    Row("--page-size", "memory.block_size"),
    Row("--max-total-tokens", "memory.kv", "tokens"),
    Row("--disable-radix-cache", "memory.prefix_caching", means=False),
)  # fmt: skip
TRTLLM = (
    Row("--max-batch-size", "scheduler.max_num_seqs", always=True),
    Row("--max-num-tokens", "scheduler.max_num_tokens", always=True),
    Row("--enable-chunked-prefill", "scheduler.enable_chunked_context", means=True),
    Row("--kv-cache-free-gpu-memory-fraction", "memory.kv", SHARE),
)
LLAMA_CPP = (
    Row("-np", "scheduler.max_num_seqs", always=True),
    Row("-b", "scheduler.n_batch", always=True),
    Row("-ub", "scheduler.n_ubatch", always=True),
)
ELSEWHERE = {
    "scheduler.slot_context", "scheduler.max_model_len", "scheduler.kv_unified",
    "scheduler.recurrent", "scheduler.checkpoints",
}  # fmt: skip
"""Keys that a line says by its context, by its model, or by an engine's own words."""


def serves(asked: Configuration) -> bool:
    """Whether its requests come and go as a scheduler decides."""
    return asked.experiment.workload.batching.serves


def why_not_scheduled(asked: Configuration, rows: Sequence[Row], kind: str) -> list[str]:
    """What of requests that are served no single line of an engine says, whose scheduler is
    ``kind`` and whose table has ``rows``.
    """
    if not serves(asked):
        return []
    reasons, serving = [], asked.experiment.serving
    scheduler = kind_of(type(_batching(asked.experiment).scheduler))
    if not rows:
        reasons.append("workload.batching: its options of served requests are not known here")
    elif scheduler != kind:
        what = f"its server schedules as '{kind}'"
        reasons.append(f"workload.batching.scheduler: {scheduler}: {what}")
    if serving is not None and serving.disaggregation is not None:
        what = "prompts and answers on servers of their own are several lines"
        reasons.append(f"serving.disaggregation: {what}")
    return reasons


def served_words(asked: Configuration, rows: Sequence[Row], ranks: int = 1) -> list[str]:
    """The options of the scheduler and of the memory; ``ranks`` that have requests of their own."""
    words: list[str] = []
    for row in rows:
        value, default = _values(asked.experiment, row.key)
        if row.means is not None:
            words += [row.option] * (value is row.means and value != default)
        elif row.always or value != default:
            text = _written(row, value, asked.experiment, ranks)
            words += [] if text is None else [row.option, text]
    return words


def served_notes(asked: Configuration, rows: Sequence[Row]) -> Iterator[str]:
    """What of the scheduler and of the memory no option says, and whose requests come to it."""
    if not serves(asked):
        return
    said = {row.key for row in rows} | ELSEWHERE
    for owner, of in _owners(asked.experiment).items():
        for name in type(of).model_fields:
            value, default = _values(asked.experiment, f"{owner}.{name}")
            if f"{owner}.{name}" not in said and name != "kind" and value != default:
                yield f"{NOTE}{_PATHS[owner]}.{name}: no option that moesim knows says so"
    what = "requests are the clients' (their rate, their lengths), and no server's"
    yield f"{NOTE}workload.arrivals, workload.lengths: {what}"
    serving = asked.experiment.serving
    if serving is not None and serving.replicas > 1:
        yield f"{NOTE}serving.replicas: {serving.replicas} such servers, behind a router"


def put_served(reading: Reading, rows: Sequence[Row], kind: str, ranks: int = 1) -> None:
    """Put the scheduler ``kind`` and the memory, as far as the line has options of them."""
    found: dict[str, Any] = {SCHEDULER: {"kind": kind}, MEMORY: {}}
    for row in rows:
        if reading.line.has(row.option):
            size = found[MEMORY].get("block_size") or schedulers.components[kind].usual_block
            value = _read(reading.line, row, size)
            *sections, name = row.key.split(".")
            into = found
            for section in sections:
                into = into.setdefault(section, {})
            into[name] = max(1, value // ranks) if row.ranks and value else value
    reading.put("workload.batching", {"kind": "continuous", "scheduler": found[SCHEDULER]})
    reading.put("memory", found[MEMORY] or None)


def _read(line: Line, row: Row, block_size: int) -> Any:
    """What stands behind the option; None where it says null, or is broken and so a problem."""
    if row.means is not None:
        return line.on(row.option) is row.means
    if row.form in (SHARE, NUMBER):
        return _number(line, row)
    if row.form == WORD:
        return (line.text(row.option) or "").lower()
    number = line.whole(row.option, -1 if row.none is not None else 1)
    if number is None or number == row.none:
        return None
    if row.form == "tokens":
        number //= block_size
    return f"{max(1, number)} {_KV[row.form]}" if row.form in _KV else number


def _number(line: Line, row: Row) -> Any:
    text = line.text(row.option) or ""
    with suppress(ValueError, ArithmeticError):
        number = float(text)
        if row.form == NUMBER and number >= 0:
            return number
        if 0 < number <= 1:
            return format_percent(number)
    allowed = "a share, as 0.9" if row.form == SHARE else "a number from 0 on"
    line.problems.append(Problem(row.option, "", f"'{text}' is not {allowed}; write one"))
    return None


def _written(row: Row, value: Any, experiment: Experiment, ranks: int) -> str | None:
    if isinstance(value, KvCapacity):
        if value.kind != _OF_KV.get(row.form, "blocks"):
            return None
        size = block_size_of(experiment) if row.form == "tokens" else 1
        return f"{value.amount * size:.6g}" if row.form == SHARE else str(value.amount * size)
    if value is None:
        return None if row.none is None else str(row.none)
    if row.form in (SHARE, NUMBER):
        return f"{value:.6g}"
    return str(value * ranks if row.ranks else value)


def _batching(experiment: Experiment) -> Continuous:
    found = experiment.workload.batching
    assert isinstance(found, Continuous), "requests are served"
    return found


def _owners(experiment: Experiment) -> dict[str, Any]:
    memory = experiment.memory or Memory()
    return {SCHEDULER: _batching(experiment).scheduler, MEMORY: memory}


def _values(experiment: Experiment, key: str) -> tuple[Any, Any]:
    """What stands at ``key``, and its default."""
    owner, _, name = key.partition(".")
    of = _owners(experiment)[owner]
    return getattr(of, name), type(of).model_fields[name].get_default(call_default_factory=True)
