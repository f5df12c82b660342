"""Laws of caches: Belady's bound, inclusion, King's exact LRU, Che's approximation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations, permutations
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq

from moesim.memory.activations import ActiveExperts
from moesim.memory.policies import registry
from moesim.memory.slots.residency import Given, LayerCache, next_uses
from verification.check import Measured, check, half_widths

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Ints = NDArray[np.int64]
STACK_POLICIES = ("lru", "lfu", "min")


@dataclass(frozen=True)
class Stream:
    """What one layer needs, ``active_experts`` of ``experts``, at most ``largest`` in a step."""

    name: str
    active_experts: ActiveExperts
    experts: int

    @property
    def largest(self) -> int:
        """The most experts that one step needs."""
        return int(np.diff(self.active_experts.offsets).max())


def stream(name: str, steps: list[Ints], experts: int) -> Stream:
    """The active experts of ``steps``, each an array of expert ids."""
    distinct = [np.unique(step) for step in steps]
    offsets = np.concatenate([[0], np.cumsum([len(step) for step in distinct])])
    return Stream(name, ActiveExperts(offsets.astype(np.int64), np.concatenate(distinct)), experts)


def skewed(rng: np.random.Generator, experts: int, exponent: float) -> NDArray[np.float64]:
    """Zipf probabilities over ``experts`` ids in random order."""
    weights = 1 / np.arange(1, experts + 1) ** exponent
    shuffled: NDArray[np.float64] = rng.permutation(weights / weights.sum())
    return shuffled


def streams() -> Iterator[Stream]:
    """Skewed random streams at several batch sizes, some with a working set that drifts."""
    rng = np.random.default_rng(2024)
    for experts, top_k, batch, exponent in (
        (16, 1, 1, 0.8),
        (32, 4, 1, 0.6),
        (32, 4, 4, 1.0),
        (64, 8, 2, 0.0),
        (60, 4, 8, 1.2),
        (128, 8, 1, 0.9),
    ):
        probabilities = skewed(rng, experts, exponent)
        steps = []
        for step in range(400):
            if step % 50 == 0:
                probabilities = 0.5 * probabilities + 0.5 * skewed(rng, experts, exponent)
            tokens = [
                rng.choice(experts, top_k, replace=False, p=probabilities) for _ in range(batch)
            ]
            steps.append(np.concatenate(tokens).astype(np.int64))
        yield stream(f"top-{top_k} of {experts}, batch {batch}", steps, experts)


def hits(policy: str, slots: int, source: Stream) -> NDArray[np.bool_]:
    """Hit or miss of each activation, in ``id`` order from empty slots."""
    following, first = next_uses(source.active_experts, source.experts)
    cache = LayerCache(
        registry.get(policy)(),
        slots,
        np.bincount(source.active_experts.experts, minlength=source.experts),
        serial=False,
        resident_first=False,
        given=Given(
            draws=np.random.default_rng(7).random(len(source.active_experts.experts)),
            first_use=first,
        ),
    )
    hits: NDArray[np.bool_] = cache.decide(source.active_experts, following).hit
    return hits


def sizes(source: Stream) -> list[int]:
    """Numbers of slots that hold every step, up to nearly all experts."""
    spread = np.linspace(source.largest, source.experts - 1, 6)
    return sorted({int(size) for size in spread if size < source.experts})


@check(
    "MIN misses no more than any policy, where a step's experts fit",
    tolerance=0,
    why="a theorem (Belady 1966); misses are counted, not estimated",
    unit="misses",
)
def min_is_the_bound() -> Measured:
    excess: list[tuple[int, str]] = []
    for source in streams():
        for slots in sizes(source):
            bound = int((~hits("min", slots, source)).sum())
            for policy in set(registry.components) - {"min"}:
                misses = int((~hits(policy, slots, source)).sum())
                excess.append((bound - misses, f"{source.name}, {slots} slots, {policy}"))
    worst, where = max(excess)
    return Measured(worst, f"closest of {len(excess)} comparisons: {where}")


@check(
    "LRU, LFU and MIN: what hits with C slots hits with more",
    tolerance=0,
    why="inclusion holds one activation after another where C holds every step (Mattson 1970)",
    unit="activations",
)
def inclusion() -> Measured:
    broken, compared = 0, 0
    for source in streams():
        for policy in STACK_POLICIES:
            by_size = [hits(policy, slots, source) for slots in sizes(source)]
            for smaller, larger in combinations(by_size, 2):
                broken += int((smaller & ~larger).sum())
                compared += len(smaller)
    return Measured(broken, f"{compared} activations compared")


def king(probabilities: NDArray[np.float64], slots: int) -> float:
    """Hit ratio of LRU under independent references, exactly (King 1971)."""
    total = 0.0
    for order in permutations(range(len(probabilities)), slots):
        chance, left = 1.0, 1.0
        for item in order:
            chance *= probabilities[item] / left
            left -= probabilities[item]
        total += chance * sum(probabilities[item] for item in order)
    return total


def fixed_set(probabilities: NDArray[np.float64], slots: int) -> float:
    """Hit ratio of FIFO and of RANDOM under independent references, exactly (Gelenbe 1973)."""
    weights, inside = 0.0, 0.0
    for content in combinations(range(len(probabilities)), slots):
        weight = float(np.prod(probabilities[list(content)]))
        weights += weight
        inside += weight * float(probabilities[list(content)].sum())
    return inside / weights


def independent_hit_ratios(
    policy: str, slots: int, probabilities: NDArray[np.float64], batches: int = 30
) -> list[float]:
    """Hit ratios of independent streams of single accesses, the first fifth left out."""
    rng = np.random.default_rng([slots, len(probabilities)])
    ratios = []
    for _ in range(batches):
        draws = rng.choice(len(probabilities), 10_000, p=probabilities)
        source = stream("", list(draws[:, None].astype(np.int64)), len(probabilities))
        ratios.append(float(hits(policy, slots, source)[2_000:].mean()))
    return ratios


@check(
    "LRU, FIFO and RANDOM hit as often as their exact formulas say",
    tolerance=1,
    why="the 99.9 % interval over 30 independent streams covers the formula (King; Gelenbe)",
    unit="half-widths",
)
def exact_hit_ratios() -> Measured:
    probabilities = skewed(np.random.default_rng(3), 7, 0.8)
    rows = []
    for policy, exact in (("lru", king), ("fifo", fixed_set), ("random", fixed_set)):
        for slots in (2, 4):
            theory = exact(probabilities, slots)
            samples = independent_hit_ratios(policy, slots, probabilities)
            rows.append((half_widths(samples, theory), policy, slots, theory, np.mean(samples)))
    worst = max(rows)
    text = f"farthest: {worst[1]}, {worst[2]} of 7 slots: {worst[4]:.5f}, formula {worst[3]:.5f}"
    return Measured(worst[0], text)


def che(probabilities: NDArray[np.float64], slots: int) -> float:
    """Che's approximation of LRU's hit ratio (Che, Tung, Wang 2002)."""

    def excess(time: float) -> float:
        return float((1 - np.exp(-probabilities * time)).sum()) - slots

    time = brentq(excess, 1e-9, 1e9)
    return float((probabilities * (1 - np.exp(-probabilities * time))).sum())


@check(
    "LRU's hit ratio follows Che's approximation",
    tolerance=0.01,
    why="its error is below 0.01 for Zipf popularity (Fricker, Robert, Roberts 2012)",
    unit="of the accesses",
)
def che_approximation() -> Measured:
    probabilities = skewed(np.random.default_rng(5), 128, 0.8)
    slots = [8, 16, 32, 64, 96]
    theory = np.array([che(probabilities, size) for size in slots])
    measured = np.array(
        [np.mean(independent_hit_ratios("lru", size, probabilities, 10)) for size in slots]
    )

    def draw(axes: Axes) -> None:
        axes.plot(slots, theory, "-", label="Che's approximation")
        axes.plot(slots, measured, "o", label="moesim")
        axes.set_xlabel("slots of 128 experts")
        axes.set_ylabel("hit ratio (1)")
        axes.legend()

    error = np.abs(theory - measured)
    return Measured(float(error.max()), f"at {slots[int(error.argmax())]} slots", draw)
