"""TensorRT-LLM's scheduler in plain words; it shares nothing with the package."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass

from .judge_serving import Entry, Judge, Rank, Request, Settings, Step


@dataclass
class Waits:
    """Of prompts for other ranks: at most so many steps, and then so many for more of them."""

    balances: bool
    timeout: int
    more: int


class TensorRt(Judge):
    """It makes every rank's step as if none waited, and then takes the prompts away, or not."""

    def __init__(self, requests: list[Request], settings: Settings, waits: Waits) -> None:
        super().__init__(requests, settings)
        self.waits = waits
        self.lacked = self.gathered = 0
        self.holds = False

    def of_rank(self, rank: Rank) -> list[Entry]:
        if rank is self.ranks[0] and self.waits.balances and len(self.ranks) > 1:
            self.holds = self.balance()
        return self.step_of(rank, holds=self.holds)

    def balance(self) -> bool:
        """Whether prompts wait."""
        twin = deepcopy(self)
        steps = [twin.step_of(rank, holds=False) for rank in twin.ranks]
        prompts = [sum(start < one.prompt for one, start, _ in step) for step in steps]
        answers = [len(step) - number for step, number in zip(steps, prompts, strict=True)]
        busy = [rank.running or rank.waiting for rank in self.ranks]
        if not any(steps):
            return False
        all_answer = all(number or not there for number, there in zip(answers, busy, strict=True))
        if all(prompts) and max(answers) < self.settings.most:
            self.lacked = 0
            if all_answer and self.gathered < self.waits.more:
                self.gathered += 1
                return True
            if all_answer:
                self.gathered = 0
            return False
        self.lacked += 1
        if self.lacked >= self.waits.timeout or not all_answer:
            self.lacked = 0
            return False
        return True

    def step_of(self, rank: Rank, *, holds: bool) -> list[Entry]:
        step = Step(rank, self.settings.budget)
        for request in list(rank.running):
            over = request.known - request.prompt >= request.answer
            count = 0 if over else min(request.known - request.computed, step.budget)
            if count and not (holds and request.computed < request.prompt):
                step.add(request, count)
        while rank.waiting and step.budget and not holds and self.begins(step, rank.waiting[0]):
            pass
        return step.entries

    def begins(self, step: Step, request: Request) -> bool:
        """Whether ``request`` has room until its end, beside those that run until theirs."""
        rank, settings = step.rank, self.settings
        hits = rank.hits(request)
        rest = request.known - hits * settings.size
        later = sum(self.whole(rank, one) - len(one.blocks[0]) for one in rank.running)
        free = len(rank.free) - rank.evictable(request, hits) - later
        cut = rest > step.budget and not settings.chunked
        full = len(rank.running) >= settings.most
        if full or cut or self.whole(rank, request) - hits > free:
            return False
        rank.begin(request, hits)
        request.cached += hits * settings.size
        self.queries += request.known
        self.hit_tokens += hits * settings.size
        step.add(request, min(rest, step.budget))
        return True

    @staticmethod
    def whole(rank: Rank, request: Request) -> int:
        return rank.need(request.prompt + request.answer - 1)
