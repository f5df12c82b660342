"""llama.cpp's server in plain words: batches of tokens, of which each pass takes some, and whose
tokens come once the last pass has ended. It shares nothing with the package.
"""

from __future__ import annotations

from dataclasses import dataclass

from .judge_serving import Entry, Judge, Rank, Request, Settings, Step, Told


@dataclass
class Slots:
    """So many, of batches of ``batch`` tokens, in passes of ``physical``."""

    number: int
    batch: int
    physical: int
    unified: bool = False
    recurrent: bool = False
    checkpoints: bool = False


class Batches:
    """What a rank's server has: ``left`` of its batch, token by token; ``slots`` that are idle, who
    was in one last, last; ``deferred``: so many of those that wait have been refused a slot.
    """

    def __init__(self, slots: Slots) -> None:
        self.left: list[Request] = []
        self.idle = list(reversed(range(slots.number)))
        self.slot: dict[int, int] = {}
        self.deferred = 0
        self.gives: list[tuple[int, int]] = []  # of the batch so far


class LlamaCpp(Judge):
    def __init__(self, requests: list[Request], settings: Settings, slots: Slots) -> None:
        super().__init__(requests, settings)
        self.slots = slots
        self.of = [Batches(slots) for _ in self.ranks]
        self.told: dict[int, list[tuple[int, int]]] = {}

    def shows(self, step: int) -> list[tuple[int, int]]:
        return self.told.get(step, [])

    def schedule(self, now: int) -> list[Told]:
        entries = super().schedule(now)
        for number, _, _, gives in entries:
            if gives:
                self.of[self.requests[number].rank].gives.append((number, gives))
        for one in self.of:
            if entries and not one.left:
                self.told.setdefault(len(self.steps), []).extend(one.gives)
                one.gives = []
        return entries

    def of_rank(self, rank: Rank) -> list[Entry]:
        mine = self.of[self.ranks.index(rank)]
        if not mine.left:
            self.seat(rank, mine)
            self.fill(rank, mine)
        taken = self.next_tokens(mine) if mine.left else {}
        step = Step(rank, self.slots.physical)
        for number, count in taken.items():
            step.add(self.requests[number], count)
            for _ in range(count):
                mine.left.remove(self.requests[number])
        return step.entries

    # --- between batches

    def seat(self, rank: Rank, mine: Batches) -> None:
        """A slot that comes free sends one that was refused to the head of the line, so that the
        last of them is there first.
        """
        over = [n for n in mine.slot if self.requests[n].state == "ended"]
        for number in sorted(over, key=mine.slot.__getitem__):
            mine.idle.append(mine.slot.pop(number))
        new = list[Request]()
        while rank.waiting and len(new) < len(mine.idle) and self.begins(rank, rank.waiting[0]):
            new.append(rank.running[-1])
        turned = min(mine.deferred, len(over), len(new))
        for request in [*reversed(new[:turned]), *new[turned:]]:
            mine.slot[request.number] = mine.idle.pop(0)
        mine.deferred = len(rank.waiting)
        rank.running.sort(key=lambda request: mine.slot[request.number])

    def begins(self, rank: Rank, request: Request) -> bool:
        """Whether ``request`` has room until its end, beside those that run until theirs."""

        def whole(one: Request) -> int:
            return rank.need(one.prompt + one.answer - 1)

        hits = rank.hits(request)
        later = sum(whole(one) - len(one.blocks[0]) for one in rank.running)
        if whole(request) - hits > len(rank.free) - rank.evictable(request, hits) - later:
            return False
        rank.begin(request, hits)
        request.cached += hits * self.settings.size
        self.queries += request.known
        self.hit_tokens += hits * self.settings.size
        return True

    def fill(self, rank: Rank, mine: Batches) -> None:
        """A token of each answer, then of prompts what there is room for, or up to where a
        checkpoint is made.
        """
        prompts = [one for one in rank.running if one.computed < one.prompt]
        for one in [one for one in rank.running if one not in prompts]:
            if one.known - one.prompt < one.answer:
                mine.left.append(one)
        for one in prompts:
            for token in range(one.computed, one.prompt):
                rest = one.prompt - token
                stops = {min(self.slots.batch, 4 + self.slots.physical), min(self.slots.batch, 4)}
                stop = self.slots.checkpoints and rest in stops and token > one.computed
                if stop or len(mine.left) == self.slots.batch:
                    break
                mine.left.append(one)

    # --- in a batch

    def next_tokens(self, mine: Batches) -> dict[int, int]:
        """Of a pass, by request: what comes next, or as many of each of some."""
        slots, taken = self.slots, dict[int, int]()
        if slots.unified and not slots.recurrent:
            for one in mine.left[: slots.physical]:
                taken[one.number] = taken.get(one.number, 0) + 1
            return taken
        last = None
        for one in mine.left:
            follows = slots.unified or last is None or mine.slot[one.number] == last + 1
            if one.number not in taken and follows:
                taken[one.number], last = 0, mine.slot[one.number]
        left = [one.number for one in mine.left]
        count = 1
        while (count + 1) * len(taken) <= slots.physical and all(
            left.count(number) > count for number in taken
        ):
            count += 1
        return dict.fromkeys(taken, count)
