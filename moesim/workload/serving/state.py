"""What a scheduler of an engine that serves requests knows, in arrays for compiled code.

One name is a row of its array: ``state.requests[KNOWN, 7]`` are the known tokens of request 7.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
NONE = -1
NEVER = np.iinfo(np.int64).max
LOG = np.int32
"""What a log is of: a run of many tokens is mostly that."""
NOT_YET = np.iinfo(LOG).max

# of requests and of blocks: who stands before them in a line, and after
BEFORE, AFTER = range(2)

# of requests
INPUT, OUTPUT, PRIORITY, READY, TABLE, ARRIVAL, FOLLOWED_BY, THINK = range(2, 10)
RANK, KNOWN, COMPUTED, MOST, HELD, GIVEN, CACHED, CHUNKS, PREEMPTED, STATUS, SEAT = range(10, 21)
FIRST_TOKEN, FLYING, SHARED, PASSED, MATCHED = 21, 22, 23, 24, 25
SLOT, IN_BATCH = 26, 27
REQUEST_ROWS = GONE = 28
COMING, WAITING, RUNNING, ENDED, REJECTED = range(5)

# of blocks
USERS, CONTENT, SAME_BEFORE, SAME_AFTER = range(2, 6)
BLOCK_ROWS = 6

# of ranks: lines of three rows, and numbers
FREE, FREE_FIRST, FREE_LAST, WAIT, WAIT_FIRST, WAIT_LAST, AWAY, AWAY_FIRST, AWAY_LAST = range(9)
RUN, MEMORY, SEATED, OWN, KEPT, UNITS, OFFERED, OWN_SPLIT, GHOSTS, AGAIN, BLOCKED = range(9, 20)
FULL, CUT = 20, 21
IDLE, IDLE_FIRST, IDLE_LAST, SLOTS, DEFERRED, BEGAN = range(22, 28)
RANK_ROWS = 28

# of entries of the log, and of steps
WHO, START, COUNT, GIVES, VERIFIES, DROPS, SHOWN = range(7)
LOG_ROWS = 7
BEGIN, DECIDED, END, LEFT, FOUND, RUNS, WAITS, LOST, SINCE = range(9)
STEP_ROWS = 9

# numbers
(
    ENTRIES, STEPS, SEEN, NEXT, QUEUED, FRESH, BLOCK_SIZE, LOOK_AHEAD, LONGEST, BY_PRIORITY,
    BALANCE, ROTATION, VISIBLE, LOOP, THINKING, DONE, PREEMPTIONS, RECOMPUTED, QUERIES, HITS,
    LONGEST_PROMPT, DRAFTS, TOLD, UNIT, LEAST, HANDS_OVER, DIGEST, POWER, TURNS, ENDLESS,
    HOLDS, LACKED, GATHERED, MOST_FLYING, TURN, ALIGN, STATES, MOST_PART, WHEN_SEEN,
    VISIBLE_EACH,
) = range(40)  # fmt: skip
NUMBERS = 40

# of groups of layers
WINDOW, TIMES, KEEPS = range(3)
TOKENS, STATE, SPARE = range(3)
NO_STATES, AT_ENDS, INSIDE = range(3)
BY_LOAD, ROUND_ROBIN, BY_PREFIX = range(3)
UNSOUND = 2
"""``ENDLESS`` where a step was to have what it cannot."""


AHEAD = 1024
"""Steps that are decided ahead."""
MOST_ENTRIES, MOST_STEPS = 1 << 24, 1 << 22
"""Entries that a log has room for at first, where so many may come, beside those of steps that are
decided ahead; and steps, times ranks.
"""


class Group(NamedTuple):
    """Layers whose requests have blocks of their own, of ``times`` the tokens of the smallest ones:
    for the last ``window`` tokens, ``NEVER``: all. What it ``keeps``: ``TOKENS``; of a ``STATE``
    one block where a step ends (``window`` 2: it goes once the next token is past it); ``SPARE``:
    one block, whatever the tokens.
    """

    window: int = NEVER
    times: int = 1
    keeps: int = TOKENS


class State(NamedTuple):
    """``requests`` int64[REQUEST_ROWS + groups, n]: what is asked (tokens of prompt and answer,
    priority, tokens that are computed elsewhere before it is admitted, its place in ``table``; when
    it arrives, ``NEVER`` where that is not known yet, what follows it, and after which time), then
    what has become of it, the place of its first token in ``accepts``, its tokens in steps whose
    end has not been seen, up to which block what it shares is kept, and blocks up to the last token
    that is no look-ahead, what a rule sorts it by, its slot and its tokens in a batch; then, from
    ``GONE`` on, how many of its first blocks are behind the window, by group of layers. ``table``
    int64[groups, all requests' blocks]: the blocks that each request holds in each group, one
    behind the other, and ``contents`` the number of what each of its full blocks would hold, equal
    where all tokens up to its end are, -1: of nothing that is ever found again. ``found`` int64[2,
    groups * contents]: the first and the last block with a content, and, where there are states,
    the turn in which one got it last, of one group after the other. ``groups`` int64[3, groups]: as
    ``Group``. ``blocks`` int64[BLOCK_ROWS, all ranks' blocks]. ``ranks`` int64[RANK_ROWS, ranks],
    of which ``OWN``, ``FULL``, ``CUT`` and those from ``IDLE`` on are a rule's own and ``KEPT`` are
    free blocks that can be found; ``UNITS`` that experts have given, and what splits go by.
    ``running`` int64[ranks, most]. ``log`` int32[LOG_ROWS, room]: of each entry the request, its
    first token, how many, how many follow (0: it ends before the last known one), how many of them
    are drafts, how many that follow were lost, and with the end of which step those that follow are
    there (``NOT_YET``: of one that is not decided yet); a copy that decides ahead may have 0 in
    entries a million and more behind those of steps whose end is open. ``steps``
    int64[STEP_ROWS, room + 1]: the first entry of each step, when it was decided and when it ended,
    of all ranks, once it was decided, the blocks that were free, those of them that can be found,
    who ran, who waited, and how often one was preempted for it, and the first entry of which tokens
    may be there with its end. ``coming`` int64: requests by arrival. ``accepts`` int64: of
    the tokens of all requests in passes, one behind the other, how many drafts behind each are
    right in a row. ``numbers`` int64[NUMBERS]: of these ``TURN`` counts how often a rank was asked
    for a step, ``ALIGN`` blocks of which a prefix is found whole, and ``STATES`` tells whether
    prompts are cut where states are to be kept. ``units`` int64[ranks, room]: those that experts
    have given, of each step.
    """

    requests: Ints
    table: Ints
    contents: Ints
    found: Ints
    blocks: Ints
    ranks: Ints
    running: Ints
    log: NDArray[Any]
    steps: Ints
    coming: Ints
    accepts: Ints
    numbers: Ints
    units: Ints
    groups: Ints


@dataclass(frozen=True, eq=False)
class Asked:
    """Requests in order of arrival, ties by number.

    ``input_tokens``, ``output_tokens``, ``arrival_ns`` (``NEVER`` where an end decides it)
    int64[n]; ``priority`` int64[n], less is sooner. ``follows`` int64[n]: the request whose end it
    comes ``think_ns`` int64[n] after, at most one after each, -1: none. ``contents``: blocks, as
    request and number, that hold the same as others, as request and number; None: none does.
    ``accepts``: as in ``State``, None where nothing drafts.
    """

    input_tokens: Ints
    output_tokens: Ints
    arrival_ns: Ints
    priority: Ints
    follows: Ints
    think_ns: Ints
    contents: tuple[Ints, Ints, Ints, Ints] | None = None
    accepts: Ints | None = None

    @property
    def count(self) -> int:
        """Number of requests."""
        return len(self.input_tokens)

    @property
    def coming(self) -> int:
        """How many wait for no end: of a closed loop its clients."""
        return int((self.arrival_ns != NEVER).sum())

    @property
    def tokens(self) -> Ints:
        """Tokens of each in passes int64[n], if each is computed once: all but its last."""
        return self.input_tokens + self.output_tokens - 1

    @property
    def turns(self) -> tuple[Ints, Ints] | None:
        """Of each request int64[n] the number of its session, by their first requests, and how many
        came before it there; None where none follows another.
        """
        first, turn, before = np.arange(self.count), np.zeros_like(self.follows), self.follows
        if not (before >= 0).any():
            return None
        while len(later := np.flatnonzero(before >= 0)):
            first[later], turn[later] = before[later], turn[later] + 1
            before = np.where(before >= 0, self.follows[before], NONE)
        return np.unique(first, return_inverse=True)[1], turn


@dataclass(frozen=True)
class Exchange:
    """How blocks and slots of experts change places, by the rules and the ``knobs`` of a split
    (``workload.splits``), in units of ``unit`` blocks, of which experts can give so many; the pool
    keeps ``least_blocks``. ``reads_misses``: they go by what caches missed.
    """

    offer: Callable[..., int]
    move: Callable[..., int]
    knobs: Any
    unit: int
    gives: int
    least_blocks: int
    reads_misses: bool = False


@dataclass(frozen=True)
class Room:
    """Where requests are served: ``ranks`` that schedule apart, each with ``blocks`` of
    ``block_size`` tokens (None: as many as they like), of requests with at most ``longest``
    tokens, of which ``longest_prompt`` are the prompt's.
    ``loop``: whether a request comes ``think_ns`` after each end. ``prefilled``: prompts are
    computed elsewhere. ``visible_ns``, and ``visible_each_ns`` for each request in
    it: from the end of a step to its tokens at the client.
    ``drafts`` are verified beside a token of an answer; a request has blocks for ``look_ahead``
    tokens beyond those of a step. ``hands_over``: whoever has ended keeps its blocks, and takes
    those of its whole prompt at once. ``exchange``: what of blocks and slots changes places, None:
    nothing does. ``groups`` of layers, whose blocks are apart. ``most_flying``: tokens of steps
    whose end is not seen yet. ``inside``: a state inside a step can be kept, too.
    """

    ranks: int = 1
    blocks: int | None = None
    block_size: int = 16
    longest: int = NEVER
    longest_prompt: int = NEVER
    caches_prefixes: bool = False
    loop: bool = False
    think_ns: int = 0
    prefilled: bool = False
    visible_ns: int = 0
    visible_each_ns: int = 0
    drafts: int = 0
    look_ahead: int = 0
    hands_over: bool = False
    exchange: Exchange | None = None
    groups: tuple[Group, ...] = (Group(),)
    most_flying: int = NEVER
    inside: bool = False

    @property
    def reserve(self) -> int:
        """Blocks that experts may give to each rank."""
        return 0 if self.exchange is None else self.exchange.gives * self.exchange.unit

    @property
    def states(self) -> int:
        """Where prompts are cut so that states are kept: nowhere without such a group."""
        if all(group.keeps != STATE for group in self.groups):
            return NO_STATES
        return INSIDE if self.inside else AT_ENDS


def new_state(asked: Asked, room: Room, most_running: int, rules: tuple[int, int, int]) -> State:
    """Nothing has arrived; ``rules``: as ``RequestScheduler.orders`` has them."""
    needs = -(-(asked.input_tokens + asked.output_tokens + room.look_ahead) // room.block_size)
    table = np.concatenate(([0], np.cumsum(needs)))
    total, groups = int(table[-1]), len(room.groups)
    plenty = groups * total + asked.count + 1  # one a request for rules that ask for more
    blocks = plenty if room.blocks is None else room.blocks
    most = min(most_running, asked.count)
    numbers = np.zeros(NUMBERS, np.int64)
    numbers[[MOST_FLYING, STATES]] = room.most_flying, room.states
    numbers[ALIGN] = math.lcm(*(group.times for group in room.groups))
    numbers[[BLOCK_SIZE, LOOK_AHEAD, LONGEST]] = room.block_size, room.look_ahead, room.longest
    numbers[[LONGEST_PROMPT, DRAFTS, LEAST]] = room.longest_prompt, room.drafts, blocks
    if room.exchange is not None:
        numbers[[UNIT, LEAST]] = room.exchange.unit, min(blocks, room.exchange.least_blocks)
    numbers[[BY_PRIORITY, BALANCE, WHEN_SEEN]] = rules
    numbers[HANDS_OVER] = room.hands_over
    numbers[[VISIBLE, VISIBLE_EACH]] = room.visible_ns, room.visible_each_ns
    numbers[[LOOP, THINKING]] = room.loop, room.think_ns
    timed = np.flatnonzero(asked.arrival_ns != NEVER)
    coming = np.full(asked.count, NONE, np.int64)
    coming[: len(timed)] = timed[np.argsort(asked.arrival_ns[timed], kind="stable")]
    numbers[[QUEUED, FRESH]] = len(timed)
    contents, kept = _contents(asked, room, table), total if room.caches_prefixes else 1
    # memory that is never written costs nothing, if the machine has as much
    likely = int(asked.output_tokens.sum()) + 4 * asked.count
    entries = max(1024, min(likely, MOST_ENTRIES) + AHEAD * room.ranks * most)
    steps = max(1024, min(likely, MOST_STEPS // room.ranks) + AHEAD)
    return State(
        requests=_requests(asked, room, table),
        table=np.full((groups, total), NONE, np.int64),
        contents=contents,
        found=np.full((2 + (room.states > 0), groups * kept), NONE, np.int64),
        blocks=_blocks(room.ranks, blocks, room.reserve),
        ranks=_ranks(room.ranks, blocks, room.reserve),
        running=np.full((room.ranks, most), NONE, np.int64),
        log=np.zeros((LOG_ROWS, entries), LOG),
        steps=np.zeros((STEP_ROWS, steps), np.int64),
        coming=coming,
        accepts=np.zeros(1, np.int64) if asked.accepts is None else asked.accepts,
        numbers=numbers,
        units=np.zeros((room.ranks, steps), np.int64),
        groups=np.array(room.groups, np.int64).T.copy(),
    )


def with_room(state: State) -> State:
    """``state`` with a log that has room for twice as much."""
    entries, steps = int(state.numbers[ENTRIES]), int(state.numbers[STEPS]) + 2
    return state._replace(
        log=_longer(state.log, entries),
        steps=_longer(state.steps, steps),
        units=_longer(state.units, steps),
    )


def _longer(values: NDArray[Any], used: int) -> NDArray[Any]:
    """Twice as many columns, of which only those that are ``used`` are written."""
    longer = np.zeros((len(values), 2 * values.shape[1]), values.dtype)
    used = min(used, values.shape[1])
    longer[:, :used] = values[:, :used]
    return longer


def _requests(asked: Asked, room: Room, table: Ints) -> Ints:
    rows = np.zeros((REQUEST_ROWS + len(room.groups), asked.count), np.int64)
    rows[[INPUT, OUTPUT, PRIORITY]] = asked.input_tokens, asked.output_tokens, asked.priority
    rows[[TABLE, ARRIVAL]] = table[:-1], asked.arrival_ns
    rows[THINK] = asked.think_ns
    rows[[FOLLOWED_BY, RANK, BEFORE, AFTER, SEAT]] = NONE
    later = np.flatnonzero(asked.follows >= 0)
    rows[FOLLOWED_BY, asked.follows[later]] = later
    rows[KNOWN] = asked.input_tokens
    rows[FIRST_TOKEN] = np.cumsum(asked.tokens) - asked.tokens
    if room.prefilled:
        rows[[READY, COMPUTED, MOST]] = asked.input_tokens
        rows[KNOWN], rows[GIVEN] = asked.input_tokens + 1, 1
    return rows


def _contents(asked: Asked, room: Room, table: Ints) -> Ints:
    """By place in the table; blocks that no other request has are found by their own again."""
    if not room.caches_prefixes:
        return np.full(int(table[-1]), NONE, np.int64)
    contents = np.arange(int(table[-1]))
    if asked.contents is not None:
        request, block, of, its_block = asked.contents
        contents[table[request] + block] = table[of] + its_block
    return contents


def _blocks(ranks: int, number: int, reserve: int) -> Ints:
    """Those of a rank one behind the other: the free ones, then those that experts have."""
    each = number + reserve
    blocks = np.full((BLOCK_ROWS, ranks * each), NONE, np.int64)
    blocks[USERS] = 0
    for rank in range(ranks):
        for first, last in ((0, number), (number, each)):
            of = np.arange(rank * each + first, rank * each + last)
            blocks[BEFORE, of[1:]], blocks[AFTER, of[:-1]] = of[:-1], of[1:]
    return blocks


def _ranks(ranks: int, blocks: int, reserve: int) -> Ints:
    rows = np.zeros((RANK_ROWS, ranks), np.int64)
    first = np.arange(ranks) * (blocks + reserve)
    rows[[FREE, MEMORY]], rows[FREE_FIRST], rows[FREE_LAST] = blocks, first, first + blocks - 1
    rows[[WAIT_FIRST, WAIT_LAST, AWAY_FIRST, AWAY_LAST, IDLE_FIRST, IDLE_LAST]] = NONE
    if reserve:
        away = first + blocks
        rows[AWAY], rows[AWAY_FIRST], rows[AWAY_LAST] = reserve, away, away + reserve - 1
    return rows
