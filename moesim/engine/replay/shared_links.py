"""What the clock of shared links reads, and what it carries from chunk to chunk."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.chunk import Chunk, Work
from moesim.engine.instants import NEVER
from moesim.engine.replay.clock.flows import Flows, Ways
from moesim.engine.replay.clock.paced import Pace
from moesim.engine.replay.clock.records import Filled, Fixed, Gpus, Works
from moesim.engine.replay.clock.shared import QUEUED, TURN, Jobs, Queues, Shared, play_sharing
from moesim.engine.replay.clock.shared_paced import play_sharing_paced
from moesim.engine.replay.flat import NO_ROWS, NONE, Played, bases, moved, parts_of, played
from moesim.hardware.described.links import Links
from moesim.memory.slots.split import DOWN, UP

SECOND = 1_000_000_000


def played_over(case: Case, chunk: Chunk) -> Played:
    """As ``played``, with what goes over the links of ``case`` where some are shared."""
    one = played(case, chunk)
    return one if case.links is None else one._replace(jobs=_jobs_of(case, case.links, chunk))


def _jobs_of(case: Case, links: Links, chunk: Chunk) -> Jobs:
    works, keys, of_own = parts_of(chunk)
    bytes_of = np.array([layer.moe.expert.bytes for layer in case.model.moe_layers if layer.moe])
    copies = [_copies(case, chunk.work[key], key[0]) for key in keys]
    hosted = [NONE] * len(keys)
    if hosts := bool(links.host) and bool(case.flags.on_host.any()):
        for place, (moe, gpu) in enumerate(keys):
            ns, rate = chunk.work[moe, gpu].hosted_ns, links.capacity[links.host[gpu][0]]
            hosted[place] = _beyond(ns, bytes_of[moe : moe + 1], rate)
    return Jobs(
        copy_bytes=_joined(amount for amount, _ in copies),
        copy_lead=_joined(
            _beyond(ns, amount, links.capacity[links.h2d[gpu][0]])
            for (amount, ns), (_, gpu) in zip(copies, keys, strict=True)
        ),
        hosted_bytes=bytes_of,
        hosted_base=bases(hosted)[of_own],
        step_hosted=np.stack([work.laid.step_hosted for work in works]) if hosts else NO_ROWS,
        hosted_lead=_joined(hosted),
        down=moved(works, DOWN) if hosts else NO_ROWS,
        up=moved(works, UP) if hosts else NO_ROWS,
    )


def _copies(case: Case, work: Work, moe: int) -> tuple[Ints, Ints]:
    """The bytes of the copies of ``work``, and what each takes where it is alone."""
    if case.variants is not None:
        return case.variants.sizes[moe][work.copied], work.copy_ns
    spec = case.model.moe_layers[moe].moe
    assert spec is not None, "it is a MoE layer"
    alike = np.array([[spec.expert.bytes], [case.expert_copy_ns(spec.expert)]])
    amount, ns = np.repeat(alike, len(work.laid.copy_launch), axis=1)
    return amount, ns


def _beyond(ns: Ints, amount: Ints, rate: int) -> Ints:
    """What is left of ``ns`` when ``amount`` bytes have gone over a link with ``rate`` alone."""
    alone = {size: -(-size * SECOND // rate) for size in set(amount.tolist())}
    beyond: Ints = np.maximum(ns - np.array([alone[size] for size in amount.tolist()], np.int64), 0)
    return beyond


def _joined(parts: Iterable[Ints]) -> Ints:
    return np.concatenate([NONE, *parts])


def _ways_of(links: Links, gpus: int) -> Ways:
    names = list(links.capacity)
    paths = [links.h2d[gpu] for gpu in range(gpus)]
    paths += [links.host.get(gpu, ()) for gpu in range(gpus)]
    crosses = np.array([[name in path for name in names] for path in paths])
    return Ways(crosses, np.array([links.capacity[name] for name in names]))


class SharedLinks:
    """What is on the ``links`` that the copies of ``case`` cross, from chunk to chunk; own ones of
    GPUs are alike, since works may be those of several.
    """

    def __init__(self, case: Case, links: Links) -> None:
        for paths in (links.h2d, links.host):
            assert len({links.capacity[path[0]] for path in paths.values()}) <= 1, "alike"
        self.ways = _ways_of(links, case.gpus)
        (flows, of_links), layers = self.ways.crosses.shape, len(case.model.moe_layers)
        moving, arrived, waits = np.zeros((3, flows), np.bool_)
        left, rate = np.zeros((2, flows, 2))
        self.flows = Flows(
            np.zeros(1, np.int64), np.zeros((1, 2)), moving, np.full(flows, NEVER),
            np.zeros(flows, np.int64), left, rate, arrived, waits, np.zeros((of_links, 2)),
        )  # fmt: skip
        done, asked = np.zeros((2, case.gpus), np.int64)
        last, came = np.full((case.gpus, layers), -1), np.zeros((case.gpus, layers), np.int64)
        self.queues = Queues(np.zeros((case.gpus, 0, QUEUED), np.int64), done, asked, last, came)

    def play(self, fixed: Fixed, one: Played, gpus: Gpus, filled: Filled) -> None:
        """Play the next passes."""
        here = fixed, one.passes, self._ready(one), gpus, filled
        play_sharing(*here, 0, 0, 0)

    def play_paced(
        self, fixed: Fixed, one: Played, gpus: Gpus, filled: Filled, paced: tuple[Pace, int, int]
    ) -> None:
        """As ``play_paced`` does, of a pace, its first step, and how many it lags."""
        here = fixed, one.passes, self._ready(one), gpus, filled
        play_sharing_paced(*here, *paced)

    def _ready(self, one: Played) -> Shared:
        assert one.jobs is not None, "links are shared"
        assert isinstance(one.works, Works), "and works decided"
        self.queues = _with_room(self.queues, one.works.copies)
        gpus = len(self.queues.done)
        room = (np.zeros((gpus, more), np.int64) for more in (TURN, one.most_launches))
        return Shared(one.works, one.jobs, self.ways, self.queues, self.flows, *room)

    def mark(self) -> tuple[Flows, Queues]:
        """What ``back`` goes back to."""
        flows, queues = ([one.copy() for one in of] for of in (self.flows, self.queues))
        return Flows(*flows), Queues(*queues)

    def back(self, mark: tuple[Flows, Queues]) -> None:
        """What was played since then is not."""
        self.flows, self.queues = mark


def _with_room(queues: Queues, copies: int) -> Queues:
    """``queues`` without what is done, and with room for so many ``copies`` more."""
    queue, done, asked, last, came = queues
    more = np.zeros((len(queue), int((asked - done).max()) + copies, QUEUED), np.int64)
    for own, old, first, end in zip(more, queue, done, asked, strict=True):
        own[: end - first] = old[first:end]
    return Queues(more, done * 0, asked - done, np.maximum(last - done[:, None], -1), came)
