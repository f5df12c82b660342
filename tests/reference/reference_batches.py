"""Requests and their tokens to forward passes (docs/semantics.md)."""

from __future__ import annotations

import zlib
from collections.abc import Generator
from dataclasses import dataclass, field

import numpy as np

from .reference_words import DECODE, ENCODE, MIXED, PREFILL, Config, Trace


@dataclass
class Request:
    """One request of the trace: the rows of its tokens, in file order, by phase."""

    request_id: int
    rows: dict[int, list[int]] = field(
        default_factory=lambda: {PREFILL: [], DECODE: [], ENCODE: []}
    )

    steps: list[list[int]] = field(default_factory=list)  # rows of each decode step
    kept: list[int] = field(default_factory=list)  # how many of them are no rejected drafts
    routed: list[list[int]] = field(default_factory=list)  # the rows whose experts they need

    @property
    def every_row(self) -> list[int]:
        """In whatever phase, in file order."""
        return sorted(row for rows in self.rows.values() for row in rows)


@dataclass
class Part:
    """What one request brings to one pass."""

    request: Request
    gpu: int
    rows: list[int]
    rejected: int = 0  # the last so many rows are drafts that are rejected
    # of requests that are served; else the trace's positions, and all that the phase says
    first: int | None = None  # tokens that are cached before these
    decodes: bool = False  # a token of the answer, not of a prompt
    answers: int = 0  # so many tokens of the answer follow from the last ones
    own: list[int] | None = None  # where the rows stand, if not at their own places

    @property
    def places(self) -> list[int]:
        """Rows of the trace at whose places the tokens stand."""
        return self.rows if self.own is None else self.own

    @property
    def kept(self) -> int:
        return len(self.rows) - self.rejected

    @property
    def logits(self) -> int:
        return len(self.rows) if self.first is None else self.answers + self.rejected


@dataclass
class Pass:
    step: int
    phase: int
    parts: list[Part]
    not_before: int = 0  # no GPU starts it earlier
    host: int = 0  # so long before that the host works on it
    given: tuple[int, ...] = ()  # slots that each GPU's experts have given up for it

    def decoding(self, part: Part) -> bool:
        """Whether what ``part`` brings is decoded."""
        return self.phase == DECODE or (self.phase == MIXED and part.decodes)

    def logits(self, g: int) -> int:
        """Tokens of a GPU for which there are logits."""
        mine = [part for part in self.parts if part.gpu == g]
        return sum(part.logits for part in mine)


def way_of(one: Pass, config: Config) -> str:
    """How a pass's experts meet the slots: through | around | whole layers | apart: those that
    answers need through them, the others around.
    """
    tokens = sum(len(part.rows) for part in one.parts)
    if config.copies_all_from is not None and tokens >= config.copies_all_from:
        return "around"
    if config.prefill == "cache" or one.phase not in (PREFILL, MIXED):
        return "through"
    around = "around" if one.phase == PREFILL else "apart"
    if all(part.first is None for part in one.parts):
        return "whole" if config.prefill == "stream" else around
    prompts = sum(len(part.rows) for part in one.parts if not part.decodes)
    return "whole" if config.prefill == "stream" and prompts >= config.stream_from else around


Scheduler = Generator[list[Pass], list[int], None]  # is sent when each GPU has ended them


def whole_run(trace: Trace, config: Config) -> Scheduler:
    yield passes_of(trace, config)


def requests_of(trace: Trace, phase: str) -> list[Request]:
    """The requests in file order that have a token in the chosen phase(s)."""
    found: dict[int, Request] = {}
    for row, (name, token_phase) in enumerate(
        zip(trace["request_id"], trace["phase"], strict=True)
    ):
        found.setdefault(name, Request(name)).rows[token_phase].append(row)
    chosen = {
        "decode": [DECODE],
        "prefill": [PREFILL],
        "encode": [ENCODE],
        "all": [ENCODE, PREFILL, DECODE],
    }[phase]
    return [r for r in found.values() if any(r.rows[p] for p in chosen)]


def passes_of(trace: Trace, config: Config) -> list[Pass]:
    requests = requests_of(trace, config.phase)
    luck = np.random.default_rng([config.seed, zlib.crc32(b"speculative.acceptance")])
    drawn = luck.random(len(trace["request_id"])).tolist()
    second = np.random.default_rng([config.seed, zlib.crc32(b"speculative.rejected")])
    elsewhere = second.random(len(trace["request_id"])).tolist()
    for request in requests:
        speculate(request, drawn, config)
        go_astray(request, elsewhere, config)
    # A batch of whole prompts has nothing to refill: prefill and encode are always static.
    if config.batching == "static" or config.phase in ("prefill", "encode"):
        return static_passes(requests, config)
    return refill_passes(requests, config)


def speculate(request: Request, luck: list[float], config: Config) -> None:
    """A step decodes a token and verifies drafts of those behind it; it keeps the first that are
    right in a row, and the next step begins behind them.
    """
    left = list(request.rows[DECODE])
    while left:
        right = 0
        while right < min(len(config.chances), len(left) - 1):
            if luck[left[1 + right]] >= config.chances[right]:
                break
            right += 1
        request.steps.append(left[: 1 + config.drafts])
        request.kept.append(1 + right)
        left = left[1 + right :]


def go_astray(request: Request, elsewhere: list[float], config: Config) -> None:
    """Rejected drafts need the experts of tokens that came elsewhere in the answer."""
    answer = request.rows[DECODE]
    for rows, kept in zip(request.steps, request.kept, strict=True):
        routed = list(rows)
        for place in range(kept, len(rows)):
            others = [row for row in answer if row != rows[place]]
            if config.rejected == "other" and others:
                routed[place] = others[int(elsewhere[rows[place]] * len(others))]
        request.routed.append(routed)


def static_passes(requests: list[Request], config: Config) -> list[Pass]:
    """The next batch starts when the longest request of this one has ended."""
    passes: list[Pass] = []
    for first in range(0, len(requests), config.batch_size):
        slots: list[Request | None] = list(requests[first : first + config.batch_size])
        if config.phase in ("encode", "all"):
            add_pass(passes, ENCODE, slots, config)
        if config.phase in ("prefill", "all"):
            add_prompts(passes, slots, config)
        if config.phase in ("decode", "all"):
            longest = max(len(r.steps) for r in slots if r is not None)
            for nth in range(longest):
                add_decode_step(passes, slots, [nth] * len(slots), config)
    return passes


def refill_passes(requests: list[Request], config: Config) -> list[Pass]:
    """A request is replaced as soon as it ends."""
    passes: list[Pass] = []
    waiting = list(requests)
    slots: list[Request | None] = [None] * config.batch_size
    done = [0] * config.batch_size  # decode tokens each slot's request has had
    while True:
        while waiting and None in slots:
            admit(passes, waiting, slots, done, config)
        if all(request is None for request in slots):
            return passes
        add_decode_step(passes, slots, done, config)
        for slot, request in enumerate(slots):
            if request is not None:
                done[slot] += 1
                if done[slot] == len(request.steps):
                    slots[slot] = None


def admit(
    passes: list[Pass],
    waiting: list[Request],
    slots: list[Request | None],
    done: list[int],
    config: Config,
) -> None:
    """Fill the free slots, ascending; those admitted together make one encode and one
    prefill pass together.

    Who has nothing to decode leaves after it, and leaves a slot to be filled again.
    """
    admitted: list[Request | None] = [None] * config.batch_size
    for slot, request in enumerate(slots):
        if request is None and waiting:
            slots[slot] = admitted[slot] = waiting.pop(0)
            done[slot] = 0
    if config.phase == "all":
        add_pass(passes, ENCODE, admitted, config)
        add_prompts(passes, admitted, config)
    for slot, request in enumerate(slots):
        if request is not None and not request.steps:
            slots[slot] = None


def add_pass(passes: list[Pass], phase: int, members: list[Request | None], config: Config) -> None:
    """One pass with every prompt (or encode) token of the members; request of slot i on i mod G."""
    parts = [
        Part(request, slot % config.gpus, request.rows[phase])
        for slot, request in enumerate(members)
        if request is not None and request.rows[phase]
    ]
    if parts:
        passes.append(Pass(len(passes), phase, parts))


def add_prompts(passes: list[Pass], members: list[Request | None], config: Config) -> None:
    """The members' prompts: one pass, or several with at most ``chunk`` tokens of each GPU."""
    if config.chunk is None:
        add_pass(passes, PREFILL, members, config)
        return
    left = [list(request.rows[PREFILL]) if request is not None else [] for request in members]
    while any(left):
        parts = []
        room = [config.chunk] * config.gpus
        for slot, request in enumerate(members):
            gpu = slot % config.gpus
            rows, left[slot] = left[slot][: room[gpu]], left[slot][room[gpu] :]
            room[gpu] -= len(rows)
            if request is not None and rows:
                parts.append(Part(request, gpu, rows))
        passes.append(Pass(len(passes), PREFILL, parts))


def add_decode_step(
    passes: list[Pass], slots: list[Request | None], nth: list[int], config: Config
) -> None:
    """One pass with the nth[slot]-th decode step of every slot's request that has one."""
    parts = []
    for slot, request in enumerate(slots):
        if request is not None and nth[slot] < len(request.steps):
            rows, kept = request.steps[nth[slot]], request.kept[nth[slot]]
            routed = request.routed[nth[slot]]
            parts.append(Part(request, slot % config.gpus, routed, len(rows) - kept, own=rows))
    if parts:
        passes.append(Pass(len(passes), DECODE, parts))
