"""A scheduler like vLLM V1's in plain words: lists of requests, a list of free blocks. It shares
nothing with the package.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field


@dataclass
class Request:
    number: int
    prompt: int
    answer: int
    arrival: int | None
    priority: int = 0
    after: int | None = None
    think: int = 0
    hashes: list[object] = field(default_factory=list)
    luck: list[float] = field(default_factory=list)  # of each token: how good its draft is
    known: int = 0
    computed: int = 0
    ever: int = 0
    given: int = 0
    said: list[int] = field(default_factory=list)  # when each token was seen
    chunks: int = 0
    preemptions: int = 0
    cached: int = 0
    blocks: list[list[int | None]] = field(default_factory=list)  # by group; None: behind it
    junction: int = 0
    flying: int = 0
    rank: int = -1
    state: str = "coming"


Entry = tuple[Request, int, int]
"""A request, its first token in a step, and how many."""
Told = tuple[int, int, int, int]
"""The same by number, and how many tokens follow."""


@dataclass
class Settings:
    budget: int = 8192
    most: int = 256
    blocks: int | None = None
    size: int = 16
    chunked: bool = True
    threshold: int = 0
    whole: bool = True
    watermark: float = 0.0
    priority: bool = False
    ahead: int = 0
    drafts: int = 0
    chances: tuple[float, ...] = ()
    ranks: int = 1
    round_robin: bool = False
    by_prefix: bool = False
    caches: bool = False
    # of groups of layers; None: they keep all, "state": of steps' ends, "spare": one block
    windows: tuple[int | str | None, ...] = (None,)
    times: tuple[int, ...] = ()  # blocks of a group are of so many times ``size``; once
    inside: bool = False  # a state is kept inside a step, too
    loop: bool = False
    think: int = 0
    longest: int | None = None
    late: bool = False
    before: tuple[int, int] = (0, 0)
    after: tuple[int, int] = (0, 0)
    visible: int = 0

    def of(self, group: int) -> int:
        """Tokens of a block of a group."""
        return self.size * (self.times[group] if self.times else 1)

    @property
    def grain(self) -> int:
        """Tokens of which a prefix is found whole."""
        return math.lcm(*(self.of(group) for group in range(len(self.windows))))

    # what experts and blocks share: how many units experts can give and take, of how many blocks
    split: str = "static"
    unit: int = 0
    gives: int = 0
    takes: int = 0
    least: int = 0
    patience: int = 1
    interval: int = 1
    prices: tuple[int, int, int] = (0, 0, 0)  # of a miss, a token, a step


class Rank:
    def __init__(self, settings: Settings, blocks: int) -> None:
        self.settings = settings
        self.blocks = blocks
        self.free = list(range(blocks))
        self.users = [0] * blocks
        self.content: list[object] = [None] * blocks
        self.at: dict[object, list[int]] = {}
        self.waiting: list[Request] = []
        self.running: list[Request] = []
        self.given = self.calm = self.offered = 0
        self.ghosts = self.again = self.blocked = 0  # since the last comparison
        self.kept_now = set[object]()  # states that are kept in the step at hand

    # --- units of experts

    def receive(self) -> None:
        """Experts give a unit: its blocks hold nothing, and are the first to be taken."""
        new = range(len(self.users), len(self.users) + self.settings.unit)
        self.users += [0] * self.settings.unit
        self.content += [None] * self.settings.unit
        self.free = [*new, *self.free]
        self.given += 1

    def return_one(self) -> None:
        """A unit of free blocks goes to experts: those without content, then the oldest."""
        empty = [block for block in self.free if self.content[block] is None]
        others = [block for block in self.free if self.content[block] is not None]
        for block in [*empty, *others][: self.settings.unit]:
            self.free.remove(block)
            self.forget(block)
        self.given -= 1

    def offer(self) -> int:
        return max(self.settings.gives - self.given, 0) if self.settings.split == "kv_first" else 0

    def move(self, step: int) -> None:
        """Once step number ``step`` is decided."""
        settings = self.settings
        if settings.split == "kv_first":
            enough = settings.unit + int(settings.watermark * self.blocks)
            self.calm = self.calm + 1 if self.given > 0 and len(self.free) > enough else 0
            if self.calm == settings.patience:
                self.calm = 0
                self.return_one()
        if settings.split == "experts_first":
            while self.can_return():
                self.return_one()
        if settings.split == "marginal" and (step + 1) % settings.interval == 0:
            miss, token, one = settings.prices
            copies, requests = self.ghosts * miss, self.again * token + self.blocked * one
            self.ghosts = self.again = self.blocked = 0
            if copies > requests and self.can_return():
                self.return_one()
            elif requests > copies and self.given < settings.gives:
                self.receive()

    def can_return(self) -> bool:
        unit = self.settings.unit
        pool = self.blocks + self.given * unit
        enough = len(self.free) >= unit and pool - unit >= self.settings.least
        return enough and self.settings.takes + self.given > 0

    def need(self, tokens: int, group: int = 0) -> int:
        size = self.settings.of(group)
        return (tokens + size - 1) // size

    def held_at_most(self, tokens: int) -> int:
        """In all groups, with room for what is looked ahead in each step."""
        return sum(self.need_at_most(tokens, self.settings.ahead))

    def need_at_most(self, tokens: int, ahead: int = 0) -> list[int]:
        """In each group: no more than a window, what is in flight, and one block more; the states
        before and after a step, and one inside.
        """
        settings, needs = self.settings, list[int]()
        flying = settings.budget * (2 if settings.late else 1)
        for group, window in enumerate(settings.windows):
            needs.append(self.need(tokens + ahead, group))
            if window == "spare":
                needs[-1] = 1
            elif window == "state":
                needs[-1] = min(needs[-1], 3 if settings.inside else 2)
            elif isinstance(window, int):
                kept = window - 1 + flying
                kept = kept if settings.longest is None else min(kept, settings.longest)
                needs[-1] = min(needs[-1], self.need(kept + ahead, group) + 1)
        return needs

    def unseen(self, group: int, tokens: int) -> int:
        """Leading blocks that the token behind so many does not see; a state is read by the next
        one alone.
        """
        window = self.settings.windows[group]
        if window == "state":
            return max(0, tokens - 1) // self.settings.size
        return (
            max(0, tokens + 1 - window) // self.settings.of(group) if isinstance(window, int) else 0
        )

    def inside(self, request: Request, start: int, end: int, whole: int) -> bool:
        """Whether the state at the last full block of ``whole`` tokens is kept, too, though the
        step goes on.
        """
        size = self.settings.size
        last = max(request.prompt, request.prompt + request.given - 1)
        at, column = (whole - 1) // size * size, (end + size - 1) // size - 2
        asked = self.settings.inside and start % size == 0 and end >= last
        return asked and start + size <= at and column > (start - 1) // size

    def new_blocks(self, request: Request, group: int, start: int, tokens: int) -> list[bool]:
        """Of the next entries of its table which are blocks, so that it may hold ``tokens``."""
        table = request.blocks[group] if request.blocks else []
        window = self.settings.windows[group]
        if window == "spare":
            return [True] * (not table)
        if window != "state":
            return [True] * (self.need(tokens, group) - len(table))
        end = tokens - self.settings.ahead
        more = self.need(end, group) - len(table)
        real = 2 if self.inside(request, start, end, end) else 1
        return [k >= more - real for k in range(more)]

    def grow(self, request: Request, tokens: int) -> None:
        for group, table in enumerate(request.blocks):
            for is_block in self.new_blocks(request, group, request.computed, tokens):
                if is_block:
                    block = self.free.pop(0)
                    self.forget(block)
                    self.users[block] = 1
                table.append(block if is_block else None)

    def lacks(self, request: Request, tokens: int) -> int:
        groups = range(len(request.blocks))
        return sum(
            sum(self.new_blocks(request, group, request.computed, tokens)) for group in groups
        )

    def would_take(self, request: Request, hits: int, tokens: int, *, most: bool) -> int:
        """Blocks beside ``hits`` that it takes to hold ``tokens``; ``most``: no more of a window
        than it holds at once.
        """
        found, taken = self.found_blocks(request, hits), 0
        ahead = self.settings.ahead
        for group, limit in enumerate(self.need_at_most(tokens)):
            window = self.settings.windows[group]
            asked = Request(request.number, request.prompt, request.answer, None)
            asked.given, asked.blocks = request.given, found
            if most and not isinstance(window, str):
                taken += max(0, limit - len(found[group]))
            else:
                begin = hits * self.settings.size
                reach = tokens + ahead * most
                taken += sum(self.new_blocks(asked, group, begin, reach))
        return taken

    def shed(self, request: Request) -> None:
        """Blocks that nothing sees that is still to be computed, or in flight."""
        for group, table in enumerate(request.blocks):
            gone = min(self.unseen(group, request.computed - request.flying), len(table))
            for k in reversed(range(gone)):
                self.put_back(table[k])
                table[k] = None

    def forget(self, block: int) -> None:
        if self.content[block] is not None:
            self.at[self.content[block]].remove(block)
            self.content[block] = None

    def release(self, request: Request) -> None:
        for table in request.blocks:
            for block in reversed(table):
                self.put_back(block)
        request.blocks = []

    def put_back(self, block: int | None) -> None:
        if block is not None:
            self.users[block] -= 1
            if not self.users[block]:
                first = self.content[block] is None
                self.free.insert(0 if first else len(self.free), block)

    def remember(self, request: Request, tokens: int) -> None:
        """Full blocks of its first ``tokens`` can be found; in windows those before the last token
        of its prompt, or before what it shares with others.
        """
        whole = self.settings.grain
        for group, table in enumerate(request.blocks):
            kept, window = set(range(len(table))), self.settings.windows[group]
            if window is not None:
                ends = [
                    (request.prompt - 1) // whole * whole,
                    request.junction * self.settings.size,
                ]
                ends = [end // self.settings.of(group) for end in ends]
                reach = self.reach(group) if window != "spare" else 0
                kept = {end - k for end in ends for k in range(1, reach + 1)}
            for k in range(tokens // whole * whole // self.settings.of(group)):
                block = table[k] if k < len(table) else None
                if not self.settings.caches or block is None or k not in kept:
                    continue
                if self.content[block] is None:
                    self.content[block] = self.content_of(request, group, k)
                    self.at.setdefault(self.content[block], []).append(block)
                    self.kept_now.add(self.content[block])

    def content_of(self, request: Request, group: int, k: int) -> object:
        """What its block ``k`` of a group would hold, by the last part of it."""
        parts = self.settings.times[group] if self.settings.times else 1
        return group, request.hashes[(k + 1) * parts - 1]

    def reach(self, group: int) -> int:
        """Blocks that the next token sees in a group with a window."""
        window = self.settings.windows[group]
        return self.need(window - 1, group) if isinstance(window, int) else 1

    def is_kept_now(self, request: Request, hits: int) -> bool:
        """Whether the state that it would begin with is computed in the step at hand."""
        kinds = enumerate(self.settings.windows)
        states = [group for group, window in kinds if window == "state" and hits]
        return any(self.content_of(request, group, hits - 1) in self.kept_now for group in states)

    def take_found(self, request: Request, hits: int) -> None:
        """Its first blocks, as far as it sees them."""
        request.junction = self.junction(request)
        request.blocks = self.found_blocks(request, hits)
        for block in [one for table in request.blocks for one in table if one is not None]:
            if self.users[block] == 0:
                self.free.remove(block)
            self.users[block] += 1

    def begin(self, request: Request, hits: int) -> None:
        self.take_found(request, hits)
        request.computed = hits * self.settings.size
        self.waiting.remove(request)
        self.running.append(request)
        request.state = "running"

    def found_blocks(self, request: Request, hits: int) -> list[list[int | None]]:
        """In each group its first blocks, as far as it sees them."""
        tables = list[list[int | None]]()
        for group, window in enumerate(self.settings.windows):
            gone, found = self.unseen(group, hits * self.settings.size), hits * self.settings.size
            found = 0 if window == "spare" else found // self.settings.of(group)
            seen = [self.at[self.content_of(request, group, k)][0] for k in range(gone, found)]
            tables.append([*[None] * gone, *seen])
        return tables

    def junction(self, request: Request) -> int:
        """Up to which block some groups find what others do not."""
        if len(self.settings.windows) == 1 or not self.settings.caches:
            return 0
        hits, most = self.prefix(request)
        return most if most > hits else 0

    def evictable(self, request: Request, hits: int) -> int:
        every = [block for table in self.found_blocks(request, hits) for block in table]
        return sum(block is not None and self.users[block] == 0 for block in every)

    def prefix(self, request: Request) -> tuple[int, int]:
        """Leading blocks that it finds in all groups, and the most that those of one kind do."""
        windows, size = self.settings.windows, self.settings.size
        kinds = [kind for kind in dict.fromkeys(windows) if kind != "spare"]
        kinds.sort(key=lambda kind: kind is not None)
        hits = (request.known - 1) // size
        whole = self.settings.grain // size

        def is_there(end: int, kind: int | str | None) -> bool:
            """Whether one can begin behind so many blocks."""
            alike = [group for group, window in enumerate(windows) if window == kind]
            for group in alike:
                last = end * size // self.settings.of(group)
                first = 0 if kind is None else max(0, last - max(1, self.reach(group)))
                if not all(
                    self.at.get(self.content_of(request, group, k)) for k in range(first, last)
                ):
                    return False
            return True

        most, before = 0, hits + 1
        while hits < before:
            before = hits
            for kind in kinds:
                ends = range(0, hits + 1, whole)
                hits = max(end for end in ends if is_there(end, kind))
                most = max(most, hits)
        return hits, most

    def hits(self, request: Request) -> int:
        return self.prefix(request)[0] if self.settings.caches else 0


class Step:
    """What a rank has of a step."""

    def __init__(self, rank: Rank, budget: int) -> None:
        self.rank, self.budget, self.preempted = rank, budget, False
        self.entries: list[Entry] = []
        alone = len(rank.running) + len(rank.waiting) == 1
        self.threshold = 0 if alone else rank.settings.threshold

    def most(self, tokens: int) -> int:
        return min(tokens, self.budget, self.threshold or tokens)

    def until_state(self, request: Request, start: int, count: int, junction: int) -> int:
        """Of so many tokens from ``start`` those up to where a state is to be kept."""
        settings, size = self.rank.settings, self.rank.settings.size
        prompt = max(request.prompt, request.prompt + request.given - 1)
        if "state" not in settings.windows or start >= prompt or not count:
            return count
        end = start + count
        inside = self.rank.inside(request, start, end, prompt)
        if end < prompt:
            limit = min(settings.budget, settings.threshold or settings.budget)
            if end // size * size > start or size <= limit:
                end = end // size * size
        stops = [end]
        if not inside:
            stops.append((request.prompt + request.given - 1) // size * size)
            if start % size:
                stops.append((start // size + 1) * size)
        if start < junction * size < end:
            stops.append(start + (junction * size - start) // size * size)
        return max(0, min(stop for stop in stops if start < stop <= end or stop == end) - start)

    def add(self, request: Request, count: int) -> None:
        self.rank.grow(request, request.computed + count + self.rank.settings.ahead)
        told = request.prompt + request.given
        self.rank.remember(request, min(request.computed + count, told))
        self.entries.append((request, request.computed, count))
        self.budget -= count
        request.computed += count
        request.flying += count
        request.chunks += 1

    def withdraw(self, victim: Request) -> None:
        """The victim's tokens are not computed after all; its blocks can be found all the same."""
        self.preempted = True
        for entry in [entry for entry in self.entries if entry[0] is victim]:
            self.entries.remove(entry)
            self.budget += entry[2]
            victim.flying -= entry[2]
            victim.chunks -= 1


class Judge:
    """``steps``: of each when it was decided, and its entries (request, first token, tokens, how
    many follow). ``drafted``: of each, how many tokens of each entry are drafts.
    """

    def __init__(self, requests: list[Request], settings: Settings) -> None:
        self.requests, self.settings = requests, settings
        total = sum(-(-(r.prompt + r.answer + settings.ahead) // settings.size) for r in requests)
        plenty = total * len(settings.windows) + len(requests) + 1
        blocks = plenty if settings.blocks is None else settings.blocks
        self.ranks = [Rank(settings, blocks) for _ in range(settings.ranks)]
        for request in requests:
            request.known = request.prompt
            if not request.hashes:
                request.hashes = [
                    (request.number, k) for k in range(request.prompt + request.answer)
                ]
        self.coming = [r for r in requests if r.arrival is not None]
        self.fresh = [r for r in requests if r.arrival is None and r.after is None]
        self.turn = 0
        self.seats: dict[int, int] = {}  # of each request among those of its rank
        self.steps: list[tuple[int, list[Told]]] = []
        self.drafted: list[list[int]] = []
        self.ends: list[int] = []
        self.seen = 0
        self.recomputed = self.queries = self.hit_tokens = 0
        self.given: list[list[int]] = []  # units of each rank, by step
        self.ghosts: Callable[[int], list[int]] = lambda _: [0] * settings.ranks

    # --- ends and arrivals

    def see(self) -> None:
        step, over = self.seen, list[Request]()
        visible = self.seen_at(step) + self.settings.visible
        self.seen += 1
        for place, (number, _, count, gives) in enumerate(self.steps[step][1]):
            wrong = self.drafted[step][place] + 1 - gives if gives else 0
            self.requests[number].flying -= count - wrong
        for number, gives in self.shows(step):
            request = self.requests[number]
            request.given += gives
            request.said += [self.seen_at(step)] * gives
            if request.state == "running":
                flying = request.known - request.prompt - request.given
                self.ranks[request.rank].remember(request, request.computed - flying)
            if request.given == request.answer:
                over.append(request)
        for request in over:
            rank = self.ranks[request.rank]
            if request in rank.running:
                rank.running.remove(request)
                rank.release(request)
            else:
                rank.waiting.remove(request)
            request.state = "ended"
        for request in over:
            self.follow(request, visible)

    def shows(self, step: int) -> list[tuple[int, int]]:
        """Who has how many tokens once it has ended."""
        return [(number, gives) for number, _, _, gives in self.steps[step][1] if gives]

    def follow(self, request: Request, instant: int) -> None:
        if self.settings.loop:
            if self.fresh:
                new = self.fresh.pop(0)
                new.arrival = instant + self.settings.think + new.think
                self.coming.append(new)
            return
        for other in self.requests:
            if other.after == request.number:
                other.arrival = instant + other.think
                self.coming.append(other)

    def join(self, now: int) -> None:
        while True:
            self.coming.sort(key=lambda r: (r.arrival, r.number))
            if not self.coming or self.coming[0].arrival > now:  # type: ignore[operator]
                return
            request = self.coming.pop(0)
            tokens, pool = request.prompt + request.answer, self.ranks[0]
            longest, held = self.settings.longest, pool.held_at_most(tokens - 1)
            shrinks = self.settings.split in ("experts_first", "marginal")
            most = self.settings.least if shrinks else pool.blocks
            if (longest is not None and tokens > longest) or held > most:
                request.state = "rejected"
                assert request.arrival is not None
                self.follow(request, request.arrival)
                continue
            order = [(self.turn + k) % len(self.ranks) for k in range(len(self.ranks))]
            self.turn = (self.turn + 1) % len(self.ranks)
            load = [4 * len(r.waiting) + len(r.running) for r in self.ranks]
            if self.settings.by_prefix:
                hits = [rank.hits(request) for rank in self.ranks]
                order = [k for k in order if hits[k] == max(hits)]
            request.rank = (
                order[0] if self.settings.round_robin else min(order, key=lambda k: load[k])
            )
            self.seats[request.number] = sum(
                self.requests[number].rank == request.rank for number in self.seats
            )
            self.put(self.ranks[request.rank], request, front=False)

    def put(self, rank: Rank, request: Request, *, front: bool) -> None:
        request.state = "waiting"
        if self.settings.priority:
            rank.waiting.append(request)
            rank.waiting.sort(key=self.order)
        elif front:
            rank.waiting.insert(0, request)
        else:
            rank.waiting.append(request)

    @staticmethod
    def order(request: Request) -> tuple[int, int, int]:
        assert request.arrival is not None
        return request.priority, request.arrival, request.number

    # --- one step

    def schedule(self, now: int) -> list[Told]:
        self.join(now)
        entries = list[Entry]()
        for rank in self.ranks:
            rank.offered = rank.offer()
        for rank in self.ranks:
            entries += self.of_rank(rank)
        for rank in self.ranks if entries else []:
            rank.move(len(self.steps))
        if entries:
            self.given.append([rank.given for rank in self.ranks])
        told, drafted = list[Told](), list[int]()
        for request, start, count in entries:
            gives = drafts = 0
            if start + count >= request.known:
                drafts = start + count - request.known
                right = self.right(request, drafts)
                gives = 1 + right
                request.computed -= drafts - right
                request.flying -= drafts - right
            lost = max(0, min(request.computed, request.ever) - start)
            self.recomputed += lost
            self.ranks[request.rank].again += lost
            request.ever = max(request.ever, request.computed)
            request.known += gives
            told.append((request.number, start, count, gives))
            drafted.append(drafts)
        if told:
            self.drafted.append(drafted)
        return told

    def right(self, request: Request, drafts: int) -> int:
        """Draft n is of the token n behind the last known one; how many are right in a row."""
        right = 0
        while right < min(drafts, len(self.settings.chances)):
            if request.luck[request.known + right] >= self.settings.chances[right]:
                break
            right += 1
        return right

    def of_rank(self, rank: Rank) -> list[Entry]:
        """First those that run, then, if none had to go, those that wait."""
        step = Step(rank, self.settings.budget)
        rank.kept_now.clear()
        for request in list(rank.running):
            if step.budget == 0:
                break
            given = request.known - request.prompt
            due = request.known - request.computed
            if due == 1 and 0 < given < request.answer:
                due += min(self.settings.drafts, request.answer - given - 1)
            count = 0 if given >= request.answer else step.most(due)
            count = step.until_state(request, request.computed, count, request.junction)
            if count == 0 or request not in rank.running:
                continue
            if self.make_room(step, request, request.computed + count):
                step.add(request, count)
            elif not self.settings.priority:
                break
        if not step.preempted:
            self.admit(step)
        return step.entries

    def make_room(self, step: Step, request: Request, tokens: int) -> bool:
        """Whether ``request`` may hold ``tokens``, if need be in the place of others; else it is
        the one that went.
        """
        rank = step.rank
        rank.shed(request)
        while rank.lacks(request, tokens + self.settings.ahead) > len(rank.free):
            if rank.offered:
                rank.offered -= 1
                rank.receive()
                continue
            victim = rank.running[-1]
            if self.settings.priority:
                victim = max(rank.running, key=lambda one: self.order(one)[:2])
            step.withdraw(victim)
            rank.running.remove(victim)
            rank.release(victim)
            victim.computed = 0
            victim.preemptions += 1
            self.put(rank, victim, front=True)
            if victim is request:
                return False
        return True

    def admit(self, step: Step) -> None:
        rank, settings = step.rank, self.settings
        while rank.waiting and step.budget > 0 and len(rank.running) < settings.most:
            request = rank.waiting[0]
            hits = rank.hits(request)
            begin = hits * settings.size
            rest = request.known - begin
            count = step.until_state(request, begin, step.most(rest), rank.junction(request))
            whole = rank.would_take(request, hits, request.known, most=True)
            takes = rank.would_take(request, hits, begin + count + settings.ahead, most=False)
            free = len(rank.free) - rank.evictable(request, hits)
            free -= int(settings.watermark * rank.blocks) if rank.running else 0
            unfit = [
                not settings.chunked and min(rest, step.threshold or rest) > step.budget,
                settings.whole and whole > free,
                takes > free,
            ]
            later = not count or rank.is_kept_now(request, hits)
            if later or any(unfit):
                rank.blocked += not later and not unfit[0]
                return
            rank.begin(request, hits)
            request.cached += max(0, begin - request.ever)
            if not request.preemptions:
                self.queries += request.known
                self.hit_tokens += begin
            step.add(request, count)

    # --- all steps

    def run(self, time_of: Callable[[list[Told]], int]) -> None:
        """Each step takes ``time_of`` its entries."""
        steps = self.decide()
        try:
            start, _, batch = next(steps)
            while True:
                start, _, batch = steps.send(start + time_of(batch))
        except StopIteration:
            return

    def decide(self) -> Generator[tuple[int, int, list[Told]], int, None]:
        """One step after another: when it may start, how long before that the host is at it, and
        its entries; is sent when it has ended.
        """
        while True:
            number, late = len(self.steps), self.settings.late
            while self.seen < number - late:
                self.see()
            now = self.seen_at(self.seen - 1) if self.seen else 0
            if number:
                decided, entries = self.steps[-1]
                now = max(now, decided + late * self.host(self.settings.before, entries))
            waited, gone = not number, self.gone()
            while not (batch := self.schedule(now)):
                again, gone = self.gone() > gone, self.gone()
                if self.seen < number:
                    now, waited = max(now, self.seen_at(self.seen)), False
                    self.see()
                elif not again:
                    instants = [r.arrival for r in self.coming if r.arrival is not None]
                    if not instants:
                        return
                    waited = waited or min(instants) > now
                    now = max(now, min(instants))
            self.steps.append((now, batch))
            before = self.ends[-1] if self.ends else 0
            start = max(before, now + self.host(self.settings.before, batch))
            self.ends.append((yield start, start - (now if waited else before), batch))

    def gone(self) -> int:
        return sum(request.preemptions for request in self.requests)

    @staticmethod
    def host(times: tuple[int, int], entries: list[Told]) -> int:
        return times[0] + times[1] * len(entries)

    def seen_at(self, step: int) -> int:
        return self.ends[step] + self.host(self.settings.after, self.steps[step][1])
