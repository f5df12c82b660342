"""Every policy's victim, over lists and dicts (docs/semantics.md); an expert is (layer, id)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import floor
from typing import Any

from .reference_words import Config

NEVER = (10**18, 0, 0)  # a next use (step, layer, activation) after every other
PARTS = 10_000

Expert = tuple[int, int]


@dataclass(frozen=True)
class Arrival:
    """The activation that is played."""

    now: int
    step: int
    layer: int  # the layer's place in the pool
    expert: Expert
    hit: bool
    weight: int = 0
    wanted: int = 0  # the variant


class Policy:
    """``seen``, then at a miss without a free slot ``victim``, then ``ended``."""

    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        """``given``: slots, resident (ascending), usage, uses, uniform, layers."""
        self.choices, self.given, self.experts = config.parameters, given, experts

    def seen(self, activation: Arrival) -> None: ...

    def victim(self, candidates: list[Expert], activation: Arrival) -> Expert:
        """``candidates`` ascend, so that ties evict the lowest."""
        return min(candidates, key=lambda e: (self.value(e, activation), e))

    def value(self, expert: Expert, activation: Arrival) -> Any:
        raise NotImplementedError

    def ended(self, activation: Arrival, victim: Expert | None) -> None: ...

    def started(self, step: int) -> None:
        """Forward pass ``step`` has no request of the one before."""

    def elsewhere(self, activation: Arrival) -> None:
        """An activation that is computed without a load, in place of ``seen`` and ``ended``."""
        self.ended(activation, None)

    def prefetched(self, expert: Expert, now: int) -> None:
        """It takes a slot ahead of its activation."""


class WithMemory(Policy):
    """Has more to remember than recency, frequency, insertion and next use."""

    def elsewhere(self, activation: Arrival) -> None:
        """Such an activation is not seen."""


class Book(Policy):
    """A value for each expert, that ``ended`` writes."""

    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.book: dict[Expert, Any] = dict.fromkeys(experts, self.first())

    def first(self) -> Any:
        return -1

    def value(self, expert: Expert, activation: Arrival) -> Any:
        return self.book[expert]


class Lru(Book):
    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        self.book[activation.expert] = activation.now


class Fifo(Book):
    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        if not activation.hit:
            self.book[activation.expert] = activation.now

    def elsewhere(self, activation: Arrival) -> None:
        """It was not loaded."""

    def prefetched(self, expert: Expert, now: int) -> None:
        self.book[expert] = now


class Lifo(Fifo):
    def value(self, expert: Expert, activation: Arrival) -> Any:
        return -self.book[expert]


class Lfu(Book):
    def first(self) -> Any:
        return 0

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        self.book[activation.expert] += 1


class LfuDecay(WithMemory, Lfu):
    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        super().ended(activation, victim)
        half_life = self.choices.get("half_life") or 10 * self.given["slots"]
        if (activation.now + 1) % half_life == 0:
            self.book = {expert: count // 2 for expert, count in self.book.items()}


class Random(Policy):
    def victim(self, candidates: list[Expert], activation: Arrival) -> Expert:
        drawn: float = self.given["uniform"][activation.now]
        return candidates[floor(drawn * len(candidates))]


class Static(Policy):
    def value(self, expert: Expert, activation: Arrival) -> Any:
        return self.given["usage"][expert]


class Min(Policy):
    """The next use after its last activation, id order assumed; the latest goes."""

    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.book = {expert: self.after(expert, -1, 0) for expert in experts}

    def after(self, expert: Expert, step: int, layer: int) -> tuple[int, int, int]:
        return next((u for u in self.given["uses"][expert] if u[:2] > (step, layer)), NEVER)

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        self.book[activation.expert] = self.after(
            activation.expert, activation.step, activation.layer
        )

    def value(self, expert: Expert, activation: Arrival) -> Any:
        return tuple(-part for part in self.book[expert])


class Stream(Lru):
    """The buffers are passed on in the order in which they were filled."""


class Lfru(Policy):
    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.steps = dict.fromkeys(experts, -1)
        self.counts = dict.fromkeys(experts, 0)

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        self.steps[activation.expert] = activation.step
        self.counts[activation.expert] += 1

    def value(self, expert: Expert, activation: Arrival) -> Any:
        weight = Fraction(str(self.choices.get("frequency", 0.5)))
        return weight * self.counts[expert] + (1 - weight) * self.steps[expert]


class Hobbit(WithMemory):
    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.started(0)

    def started(self, step: int) -> None:
        self.first = step
        self.last = dict.fromkeys(self.experts, step - 1)
        self.uses, self.high = (dict.fromkeys(self.experts, 0) for _ in range(2))

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        self.last[activation.expert] = activation.step
        self.uses[activation.expert] += 1
        self.high[activation.expert] += activation.wanted == 0

    def value(self, expert: Expert, activation: Arrival) -> Any:
        layers, passes = self.given["layers"], max(1, activation.step - self.first + 1)
        ahead = (layers.index(expert[0]) - activation.layer) % len(layers)
        names = ("recency", "frequency", "high_use", "distance")
        weights = [Fraction(str(self.choices.get(name, 0.25))) for name in names]
        terms = (
            Fraction(self.last[expert] - self.first + 1, passes),
            Fraction(self.uses[expert], passes),
            Fraction(self.high[expert], passes),
            1 - Fraction(ahead, len(layers)),
        )
        return sum(weight * term for weight, term in zip(weights, terms, strict=True))


class LeastStale(Policy):
    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.steps = dict.fromkeys(experts, -1)

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        self.steps[activation.expert] = activation.step

    def value(self, expert: Expert, activation: Arrival) -> Any:
        """Stale before current; then the layer that comes last; then the oldest."""
        layers = self.given["layers"]
        place = layers.index(expert[0])
        coming = [(activation.layer + 1 + n) % len(layers) for n in range(len(layers))]
        return self.steps[expert] == activation.step, -coming.index(place), self.steps[expert]


class GateScore(WithMemory):
    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.scores, self.step = dict.fromkeys(experts, 0), -1

    def seen(self, activation: Arrival) -> None:
        if activation.step != self.step:
            kept = PARTS - round(Fraction(str(self.choices.get("decay", 0.1))) * PARTS)
            self.scores = {e: score * kept // PARTS for e, score in self.scores.items()}
            self.step = activation.step
        self.scores[activation.expert] += activation.weight

    def value(self, expert: Expert, activation: Arrival) -> Any:
        return self.scores[expert]


class Arc(WithMemory):
    """Megiddo and Modha's figure 4; every list from least to most recently used."""

    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        self.c, self.p, self.no_ghost = given["slots"], 0, False
        self.t1: list[Expert] = list(given["resident"])
        self.t2: list[Expert] = []
        self.b1: list[Expert] = []
        self.b2: list[Expert] = []
        self.from_t1 = False

    def seen(self, activation: Arrival) -> None:
        x, t1, t2, b1, b2 = activation.expert, self.t1, self.t2, self.b1, self.b2
        if activation.hit:  # case I
            return
        self.no_ghost, again = False, x in b2
        if x in b1:  # case II
            self.p = min(self.c, self.p + max(len(b2) // len(b1), 1))
        elif x in b2:  # case III
            self.p = max(0, self.p - max(len(b1) // len(b2), 1))
        elif len(t1) + len(b1) == self.c:  # case IV A
            if len(t1) < self.c:
                b1.pop(0)
            else:
                self.no_ghost = True
        elif len(t1) + len(t2) + len(b1) + len(b2) == 2 * self.c:  # case IV B
            b2.pop(0)
        over = len(t1) > self.p or (again and len(t1) == self.p)
        self.from_t1 = self.no_ghost or (len(t1) >= 1 and over)

    def victim(self, candidates: list[Expert], activation: Arrival) -> Expert:
        order = self.t1 + self.t2 if self.from_t1 else self.t2 + self.t1
        return next(expert for expert in order if expert in candidates)

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        if victim in self.t1:
            self.t1.remove(victim)
            if not self.no_ghost:
                self.b1.append(victim)
        elif victim in self.t2:
            self.t2.remove(victim)
            self.b2.append(victim)
        known = False
        for held in (self.t1, self.t2, self.b1, self.b2):
            if activation.expert in held:
                held.remove(activation.expert)
                known = True
        (self.t2 if known else self.t1).append(activation.expert)
        assert len(self.t1) + len(self.b1) <= self.c
        assert len(self.t1 + self.t2 + self.b1 + self.b2) <= 2 * self.c


class S3Fifo(WithMemory):
    """Algorithm 1 of Yang et al. with real queues, from tail to head."""

    def __init__(self, config: Config, experts: list[Expert], **given: Any) -> None:
        super().__init__(config, experts, **given)
        share = Fraction(str(self.choices.get("small", 0.1)))
        self.of_small = max(floor(share * given["slots"]), 1)
        self.of_ghosts = given["slots"] - self.of_small
        self.small: list[Expert] = list(given["resident"])
        self.main: list[Expert] = []
        self.ghosts: list[Expert] = []
        self.uses = dict.fromkeys(experts, 0)

    def victim(self, candidates: list[Expert], activation: Arrival) -> Expert:
        if len(self.small) >= self.of_small or not set(candidates) & set(self.main):
            found = self.leaves_small(candidates)
            if found is not None:
                return found
        while True:
            tail = self.main.pop(0)
            if self.uses[tail] == 0 and tail in candidates:
                return tail
            self.uses[tail] = max(self.uses[tail] - 1, 0)
            self.main.append(tail)

    def leaves_small(self, candidates: list[Expert]) -> Expert | None:
        for tail in list(self.small):
            if self.uses[tail] > 1:
                self.small.remove(tail)
                self.main.append(tail)
                self.uses[tail] = 0
            elif tail in candidates:
                self.small.remove(tail)
                self.ghosts = [*self.ghosts, tail][-self.of_ghosts :] if self.of_ghosts else []
                return tail
        return None

    def ended(self, activation: Arrival, victim: Expert | None) -> None:
        if activation.hit:
            self.uses[activation.expert] = min(self.uses[activation.expert] + 1, 3)
            return
        self.uses[activation.expert] = 0
        if activation.expert in self.ghosts:
            self.ghosts.remove(activation.expert)
            self.main.append(activation.expert)
        else:
            self.small.append(activation.expert)


POLICIES: dict[str, type[Policy]] = {
    "lru": Lru,
    "fifo": Fifo,
    "lifo": Lifo,
    "lfu": Lfu,
    "random": Random,
    "static": Static,
    "min": Min,
    "lfu_decay": LfuDecay,
    "lfru": Lfru,
    "arc": Arc,
    "s3fifo": S3Fifo,
    "least_stale": LeastStale,
    "gate_score": GateScore,
    "hobbit": Hobbit,
    "stream": Stream,
}
