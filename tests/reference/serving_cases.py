"""Drawn requests and rooms, in the package's words and in the judge's."""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from moesim.workload.serving.state import NEVER, SPARE, STATE, Asked, Exchange, Group, Room
from moesim.workload.serving.stepping.host import HostTimes
from moesim.workload.serving.vllm import Vllm
from moesim.workload.speculation import Tree, accepted_of_served
from moesim.workload.splits.base import Shared, Split
from moesim.workload.splits.experts_first import ExpertsFirst
from moesim.workload.splits.kv_first import KvFirst
from moesim.workload.splits.marginal import Marginal

from .judge_serving import Judge, Request, Settings


@dataclass(frozen=True)
class Wish:
    """``comes``: an instant, or None: after an end; ``shares`` blocks with others of ``family``."""

    prompt: int
    answer: int
    comes: int | None
    priority: int
    after: int | None
    think: int
    shares: int
    family: int


@dataclass(frozen=True)
class ServingCase:
    wishes: list[Wish]
    blocks: int | None
    size: int
    ranks: int = 1
    caches: bool = False
    loop: bool = False
    think: int = 0
    longest: int | None = None
    visible: int = 0
    times: tuple[int, int, int, int] = (0, 0, 0, 0)
    seed: int = 0  # of whether drafts are right
    settings: Settings = field(default_factory=Settings)

    @property
    def thinks(self) -> bool:
        """Whether what follows an end comes later."""
        return self.think > 0 or any(wish.think for wish in self.wishes)


@st.composite
def served(draw: DrawFn) -> ServingCase:
    size = draw(st.integers(1, 4))
    kind = draw(st.sampled_from(["once", "timed", "loop", "session"]))
    count, wishes, now = draw(st.integers(1, 9)), list[Wish](), 0
    first, most = draw(st.integers(1, count)), draw(st.sampled_from([0, 9]))
    for number in range(count):
        now += draw(st.integers(0, 30)) if kind == "timed" else 0
        follows = kind == "session" and number > 0 and draw(st.booleans())
        waits = follows or (kind == "loop" and number >= first)
        prompt = draw(st.integers(1, 12))
        wishes.append(
            Wish(
                prompt=prompt,
                answer=draw(st.integers(1, 6)),
                comes=None if waits else now,
                priority=draw(st.integers(0, 2)),
                after=number - 1 if follows else None,
                think=draw(st.integers(0, most)),
                shares=draw(st.integers(0, prompt // size)),
                family=draw(st.integers(0, 1)),
            )
        )
    few = st.sampled_from([0, 3, 20])
    return ServingCase(
        wishes=wishes,
        blocks=draw(st.none() | st.integers(-(-18 // size), 24)),
        size=size,
        ranks=draw(st.integers(1, 3)),
        caches=draw(st.booleans()),
        loop=kind == "loop",
        think=draw(st.sampled_from([0, 7])),
        longest=draw(st.sampled_from([None, None, 12])),
        visible=draw(st.sampled_from([0, 2])),
        times=(draw(few), draw(st.integers(0, 1)), draw(few), draw(st.integers(0, 1))),
    )


DRAWN = served()


DRAFTS = st.tuples(
    st.lists(st.sampled_from([0.0, 0.5, 0.8, 1.0]), min_size=1, max_size=3),
    st.integers(1, 2),
    st.booleans(),
).map(
    lambda drawn: {
        "chances": tuple(drawn[0]),
        "drafts": len(drawn[0]) * drawn[1],
        "ahead": len(drawn[0]) * drawn[1] * drawn[2],
    }
)
"""So many in a row, each perhaps with an alternative, and perhaps with blocks ahead."""


GROUPS: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [
        {},
        {},
        {"windows": (3, None)},
        {"windows": (None, 2, 2)},
        {"windows": (4, 6, None)},
        {"windows": (5,)},
        {"windows": (5, None), "times": (1, 2)},
        {"windows": (None, 5, 5), "times": (1, 2, 2)},
        {"windows": ("state", "state", None)},
        {"windows": (None, "state"), "inside": True},
        {"windows": ("state", "spare", None)},
    ]
)
"""Of layers; where there are several a pool has as many times the blocks."""


def group_of(window: int | str | None, times: int) -> Group:
    if window == "state":
        return Group(2, times, STATE)
    return (
        Group(NEVER, times, SPARE)
        if window == "spare"
        else Group(NEVER if window is None else int(window), times)
    )


def without_prefixes(windows: tuple[int | str | None, ...]) -> tuple[int | str | None, ...]:
    """Where none is found a state is one block."""
    return tuple("spare" if one == "state" else one for one in windows)


BALANCES: st.SearchStrategy[dict[str, Any]] = st.sampled_from(
    [{}, {"round_robin": True}, {"by_prefix": True}]
)


@st.composite
def of_vllm(draw: DrawFn) -> ServingCase:
    """With a scheduler like vLLM's, and perhaps less room than the longest request needs."""
    case, chunked = draw(DRAWN), draw(st.booleans())
    settings = Settings(
        budget=draw(st.integers(1 if chunked else 18, 24)),
        most=draw(st.integers(1, 5)),
        chunked=chunked,
        threshold=draw(st.sampled_from([0, 0, 2, 5])),
        whole=draw(st.booleans()),
        watermark=draw(st.sampled_from([0, 0, 0.2, 0.5])),
        priority=draw(st.booleans()),
        **draw(BALANCES),
        late=draw(st.booleans()),
        **draw(GROUPS),
    )
    if not case.caches:
        settings = replace(settings, windows=without_prefixes(settings.windows), inside=False)
    blocks = draw(st.none() | st.integers(2, 14))
    if blocks is not None:
        blocks *= len(settings.windows)
    if draw(st.booleans()):
        drafts: dict[str, Any] = draw(DRAFTS)
        settings = replace(settings, **drafts)
    return replace(case, settings=settings, blocks=blocks, seed=draw(st.integers(0, 99)))


@st.composite
def with_split(draw: DrawFn) -> ServingCase:
    """Where experts and requests share the room, some of it often enough."""
    case = draw(of_vllm())
    unit, gives = draw(st.integers(1, 4)), draw(st.integers(0, 3))
    blocks = draw(st.integers(2, 14))
    settings = replace(
        case.settings,
        split=draw(st.sampled_from(["kv_first", "experts_first", "marginal"])),
        unit=unit,
        gives=gives,
        takes=draw(st.integers(0, 3)),
        least=draw(st.integers(1, blocks)),
        patience=draw(st.integers(1, 3)),
        interval=draw(st.integers(1, 4)),
        prices=(draw(st.integers(0, 3)), draw(st.integers(0, 3)), draw(st.integers(0, 3))),
    )
    if settings.split == "kv_first":
        settings = replace(settings, takes=0)
    return replace(case, settings=settings, blocks=blocks)


def split_of(settings: Settings) -> Split:
    """Its own numbers; ``shared_of`` has the rest."""
    if settings.split == "kv_first":
        return KvFirst(min_slots=1, patience=settings.patience)
    if settings.split == "experts_first":
        return ExpertsFirst(min_blocks=settings.least)
    return Marginal(interval=settings.interval, min_slots=1, min_blocks=settings.least)


def exchange_of(case: ServingCase) -> Exchange | None:
    settings = case.settings
    if settings.split == "static":
        return None
    assert case.blocks is not None, "there is something to share"
    miss, token, step = settings.prices
    shared = Shared(
        unit=settings.unit,
        slots=settings.gives + 1,
        most=settings.gives + 1 + settings.takes,
        top_k=1,
        blocks=case.blocks,
        longest=case.blocks,
        watermark=vllm_of(settings).watermark_blocks(case.blocks),
        copy_ns=miss,
        token_ns=token,
        step_ns=step,
    )
    return split_of(settings).exchange(shared)


def asked_of(case: ServingCase) -> Asked:
    def column(values: list[int]) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
        return np.array(values, np.int64)

    wishes, alike, first = case.wishes, [], dict[tuple[int, int], tuple[int, int]]()
    for number, wish in enumerate(wishes):
        for block in range(wish.shares):
            here = (number, block)
            alike.append((*here, *first.setdefault((wish.family, block), here)))
    contents = [column([row[k] for row in alike]) for k in range(4)]
    tokens, settings, accepts = column(tokens_of(case)), case.settings, None
    if settings.drafts:
        each = len(settings.chances)
        chances: Any = [f"{100 * chance:g} %" for chance in settings.chances]
        drafts = Tree(
            num_speculative_tokens=each, width=settings.drafts // each, acceptance=chances
        )
        accepts = accepted_of_served(tokens, drafts, case.seed)
    return Asked(
        accepts=accepts,
        input_tokens=column([one.prompt for one in wishes]),
        output_tokens=column([one.answer for one in wishes]),
        arrival_ns=column([NEVER if one.comes is None else one.comes for one in wishes]),
        priority=column([one.priority for one in wishes]),
        follows=column([-1 if one.after is None else one.after for one in wishes]),
        think_ns=column([one.think for one in wishes]),
        contents=(contents[0], contents[1], contents[2], contents[3]),
    )


def tokens_of(case: ServingCase) -> list[int]:
    """In passes."""
    return [wish.prompt + wish.answer - 1 for wish in case.wishes]


def luck_of(case: ServingCase) -> list[list[float]]:
    """Of each request's tokens, as the page on semantics says."""
    luck = np.random.default_rng([case.seed, zlib.crc32(b"speculative.acceptance")])
    drawn = iter(luck.random(sum(tokens_of(case))).tolist())
    return [[next(drawn) for _ in range(tokens)] for tokens in tokens_of(case)]


def groups_of(settings: Settings) -> tuple[Group, ...]:
    times = settings.times or [1] * len(settings.windows)
    return tuple(group_of(*one) for one in zip(settings.windows, times, strict=True))


def room_of(case: ServingCase) -> Room:
    return Room(
        ranks=case.ranks,
        blocks=case.blocks,
        block_size=case.size,
        longest=case.longest or NEVER,
        caches_prefixes=case.caches,
        loop=case.loop,
        think_ns=case.think,
        visible_ns=case.visible + case.times[2],
        visible_each_ns=case.times[3],
        drafts=case.settings.drafts,
        look_ahead=case.settings.ahead,
        groups=groups_of(case.settings),
        inside=case.settings.inside,
        exchange=exchange_of(case),
    )


def times_of(case: ServingCase) -> HostTimes:
    return HostTimes(*case.times)


def vllm_of(settings: Settings) -> Vllm:
    share: Any = f"{100 * settings.watermark:g} %"
    return Vllm(
        max_num_batched_tokens=settings.budget,
        max_num_seqs=settings.most,
        async_scheduling=settings.late,
        enable_chunked_prefill=settings.chunked,
        long_prefill_token_threshold=settings.threshold,
        reserve_full_isl=settings.whole,
        watermark=share,
        policy="priority" if settings.priority else "fcfs",
        data_parallel="round_robin"
        if settings.round_robin
        else "prefix"
        if settings.by_prefix
        else "least_loaded",
    )


def judge_of(case: ServingCase) -> Judge:
    luck = luck_of(case)
    requests = [
        Request(
            number=number,
            prompt=wish.prompt,
            answer=wish.answer,
            arrival=wish.comes,
            priority=wish.priority,
            after=wish.after,
            think=wish.think,
            luck=luck[number],
            hashes=[
                ("shared", wish.family, k) if k < wish.shares else ("own", number, k)
                for k in range(wish.prompt + wish.answer)
            ],
        )
        for number, wish in enumerate(case.wishes)
    ]
    of_case: dict[str, Any] = {"size": case.size, "ranks": case.ranks, "blocks": case.blocks,
               "caches": case.caches, "loop": case.loop, "think": case.think,
               "longest": case.longest, "visible": case.visible,
               "before": case.times[:2], "after": case.times[2:]}  # fmt: skip
    return Judge(requests, replace(case.settings, **of_case))
