"""What clients see of requests that are served, in the words of ``vllm bench serve``."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from moesim.config.errors import InputError, Problem
from moesim.config.registry import wrong_answer
from moesim.engine.case import Case, Ints
from moesim.engine.outcome import Outcome
from moesim.metrics.roles import Where, where_of
from moesim.metrics.service_level import NO_SERVICE, Service, attainment, good
from moesim.metrics.steady import Line, grows, latency_intervals
from moesim.workload.lives import lives_of
from moesim.workload.schedule import Schedule
from moesim.workload.serving.base import KEY, fault_of_served
from moesim.workload.serving.blocks import most_held
from moesim.workload.serving.state import (
    BEGIN,
    CACHED,
    CHUNKS,
    COUNT,
    DECIDED,
    DROPS,
    ENDED,
    FOUND,
    HITS,
    INPUT,
    LEFT,
    LONGEST,
    LOST,
    MEMORY,
    NEVER,
    PREEMPTED,
    PREEMPTIONS,
    QUERIES,
    RANK,
    RECOMPUTED,
    REJECTED,
    RUNS,
    SHOWN,
    STATUS,
    STEPS,
    UNIT,
    WAITS,
    Group,
    Room,
    State,
)
from moesim.workload.splits.base import fault_of_units

Floats = NDArray[np.float64]
MS, SECOND = 1_000_000, 1_000_000_000
PERCENTILES = (50, 90, 95, 99)
DIGESTED = 1000
"""Steps between two digests."""
TIMES = (
    "ttft", "tpot", "itl", "itl_with_prompts", "itl_without_prompts", "max_itl", "e2el", "queue",
)  # fmt: skip
"""What there are statistics of, in ms; times between tokens also by whether the step of the later
one holds tokens of prompts, and over requests the longest of each."""
COUNTS = (
    "completed", "rejected", "total_input_tokens", "total_output_tokens", "request_throughput",
    "request_goodput", "output_throughput", "total_token_throughput", "max_concurrent_requests",
    "max_output_tokens_per_s", "preemptions", "recomputed_tokens", "prefix_cache_queries_tokens",
    "prefix_cache_hits_tokens", "kv_blocks", "kv_tokens", "kv_max_concurrency", "kv_usage_mean",
    "kv_usage_max",
)  # fmt: skip


STEADY = ("slo_attainment", "saturated", "after_first_end_share", "latency_intervals")


def served_keys() -> tuple[str, ...]:
    """What the summary has of requests that are served."""
    nothing = np.zeros(0)
    statistics = (key for name in TIMES for key in statistics_of(name, nothing))
    return (*COUNTS, *STEADY, *statistics)


@dataclass(frozen=True, eq=False)
class ServedRun:
    """Requests of a run, int64[n] each, in order of arrival.

    ``sent_ns``: the client sends it; ``begins_ns``: the first pass with a token of it begins on its
    ``gpu``, ``given_ns``: the one with whose end its first token is there ends there; ``first_ns``
    and ``last_ns``: the client has its first and its last token; ``outputs``: how many it has. -1
    of what never was. ``visible_ns`` int64[tokens]: when each token of an answer is seen, by
    request, then in order, its ``owner`` int32[tokens], and the pass ``of_pass`` int32[tokens] with
    whose end it is there. ``prompts`` bool[passes + 1]: those of which batch has tokens of
    prompts. ``done`` bool[n]: it has its whole
    answer. ``passes`` int64[2, n]: those of ``begins_ns`` and ``given_ns``. ``way_ns``:
    from the client to the scheduler. ``line``: who waits, over time; ``service``: what is
    promised. ``where``: the GPUs of the first and the last step of a prompt. ``turns``: as of
    ``Asked``.
    """

    state: State
    room: Room
    clockless: bool
    gpu: Ints
    sent_ns: Ints
    begins_ns: Ints
    given_ns: Ints
    first_ns: Ints
    last_ns: Ints
    outputs: Ints
    visible_ns: Ints
    owner: NDArray[np.int32]
    of_pass: NDArray[np.int32]
    prompts: NDArray[np.bool_]
    done: NDArray[np.bool_]
    passes: Ints
    way_ns: Ints
    line: Line
    service: Service = NO_SERVICE
    replica: Ints | None = None
    where: Where | None = None
    turns: tuple[Ints, Ints] | None = None

    @classmethod
    def of(cls, case: Case, outcome: Outcome, service: Service = NO_SERVICE) -> ServedRun:
        """Of an ``outcome`` of ``case``, whose passes are those that there were, under what a
        ``service`` promises.
        """
        serving, schedule = case.serving, case.schedule
        assert serving is not None, "requests are served"
        assert serving.state is not None, "they were"
        assert schedule.served is not None, "their scheduler says where tokens stand"
        state, way, count = serving.state, serving.way_ns, serving.served.asked.count
        if serving.most_steps is None and (fault := fault_of_served(state)):
            raise wrong_answer(KEY, serving.scheduler, fault)
        if serving.room.exchange is not None and (fault := fault_of_units(state)):
            raise InputError([Problem("", "memory.split", f"it {fault}; keep some")])
        ends, (logits, shown) = outcome.ends.max(axis=1), _shown(schedule, state)
        entries = schedule.live_requests()
        after = serving.times.output_ns + serving.times.per_request_out_ns * entries
        given = np.flatnonzero(logits if schedule.kept is None else logits & schedule.kept)
        owner = schedule.request[given].astype(np.min_scalar_type(count))  # few bits sort fast
        given = given[np.argsort(owner, kind="stable")]  # a request's in order of passes
        owner = schedule.request[given].astype(np.int32)
        of_pass, prompts = shown[given], np.zeros(schedule.passes + 1, np.bool_)
        prompts[shown[~schedule.served.decodes]] = True
        del shown, logits
        visible = (ends + after + serving.times.frontend_ns)[of_pass]
        outputs = np.bincount(owner, minlength=count)
        there, last = outputs > 0, np.cumsum(outputs) - 1
        first = np.where(there, last - outputs + 1, -1)
        lives = lives_of(schedule)
        begins = _filled(lives.first, count, lives.last >= 0)
        tells = np.where(there, of_pass[first], -1) if len(given) else begins * 0 - 1
        gpu = np.zeros(count, np.int64)
        if case.gpus > 1:
            gpu[schedule.request] = schedule.gpu
        where = where_of(case, gpu, np.where(there, given[first], -1) if len(given) else tells)
        arrived = serving.arrival_ns(ends)
        came = (arrived >= 0) & (arrived != NEVER)
        return cls(
            state=state,
            room=serving.room,
            clockless=serving.clockless,
            gpu=gpu,
            sent_ns=np.where(came, arrived - way, -1),
            begins_ns=np.where(begins >= 0, outcome.starts[begins, where.begins], -1),
            given_ns=np.where(there, outcome.ends[tells, where.gives], -1),
            first_ns=np.where(there, visible[first], -1) if len(given) else tells,
            last_ns=np.where(there, visible[last], -1) if len(given) else tells,
            outputs=outputs,
            visible_ns=visible,
            owner=owner,
            of_pass=of_pass,
            prompts=prompts,
            done=state.requests[STATUS] == ENDED,
            passes=np.stack([begins, tells]),
            way_ns=way,
            line=Line(outcome.starts.min(axis=1), state.steps[WAITS, : schedule.passes]),
            service=service,
            replica=serving.replica,
            where=where,
            turns=serving.served.asked.turns,
        )

    @property
    def taken_ns(self) -> Ints:
        """When its first pass begins, or, where that begins with a wait for the host in which it
        came, when it came.
        """
        taken: Ints = np.maximum(self.begins_ns, self.sent_ns + self.way_ns)
        return taken

    @cached_property
    def times_ms(self) -> dict[str, Floats]:
        """Of each request in ms, NaN where it has none: ``TIMES`` without ``itl``, its longest gap
        in place of that.
        """
        gaps = np.full(len(self.gpu), np.nan)
        between, owner, _ = self._gaps
        longest = np.full(len(self.gpu), -1)
        np.maximum.at(longest, owner, between)
        gaps[longest >= 0] = longest[longest >= 0] / MS
        there, many = self.outputs > 0, self.outputs > 1
        tpot = (self.last_ns - self.first_ns) / np.maximum(self.outputs - 1, 1) / MS
        return {
            "ttft_ms": np.where(there, (self.first_ns - self.sent_ns) / MS, np.nan),
            "tpot_ms": np.where(many, tpot, np.nan),
            "max_itl_ms": gaps,
            "e2el_ms": np.where(self.done, (self.last_ns - self.sent_ns) / MS, np.nan),
            "queue_ms": np.where(
                self.passes[0] >= 0, (self.taken_ns - self.sent_ns - self.way_ns) / MS, np.nan
            ),
        }

    @cached_property
    def _gaps(self) -> tuple[Ints, NDArray[np.int32], NDArray[np.int32]]:
        """Between tokens of one request in ns, whose they are, and the pass of the later one; those
        that drafts give at once come together.
        """
        owner, of_pass, visible = self.owner, self.of_pass, self.visible_ns
        later = (owner[1:] == owner[:-1]) & (of_pass[1:] > of_pass[:-1])
        return np.diff(visible)[later], owner[1:][later], of_pass[1:][later]

    def numbers(self) -> dict[str, Any]:
        """Those of the summary; times over requests that have their whole answer, without those of
        the warm-up.
        """
        done, sent = self.done, self.sent_ns[self.sent_ns >= 0]
        counted = self._counted()
        given = np.bincount(self.of_pass[done[self.owner]], minlength=len(self.prompts))
        input_tokens = int(self.state.requests[INPUT][done].sum())
        output_tokens = int(self.outputs[done].sum())
        begin = int(sent.min()) if len(sent) else 0
        end = int(self.visible_ns.max(initial=begin))
        seconds = (end - begin) / SECOND
        between, owner, of_pass = self._gaps
        every = self.times_ms
        times = {name.removesuffix("_ms"): of[done & counted] for name, of in every.items()}
        whole, with_prompts = (done & counted)[owner], self.prompts[of_pass]
        of_gaps = {
            "itl": whole,
            "itl_with_prompts": whole & with_prompts,
            "itl_without_prompts": whole & ~with_prompts,
        }

        def rate(amount: int) -> float | None:
            return amount / seconds if seconds else None

        counts = (
            int(done.sum()), int((self.state.requests[STATUS] == REJECTED).sum()), input_tokens,
            output_tokens, rate(int(done.sum())),
            None if (kept := self.good()) is None else rate(int(kept.sum())), rate(output_tokens),
            rate(input_tokens + output_tokens), self._most_at_once(),
            _most_in_a_second(self._instants() - begin, given),
            *(int(self.state.numbers[n]) for n in (PREEMPTIONS, RECOMPUTED, QUERIES, HITS)),
            *self._blocks(),
        )  # fmt: skip
        statistics: dict[str, Any] = {}
        for name in TIMES:
            values = between[of_gaps[name]] / MS if name in of_gaps else times[name]
            statistics |= statistics_of(name, values)
        found = dict(zip(COUNTS, counts, strict=True)) | self._steady(every, counted) | statistics
        return {**found, "requests": len(done)}  # also those that no pass has a token of

    def _instants(self) -> Ints:
        """When the tokens that each pass gives are seen, 0 where none are, int64[passes + 1]."""
        found = np.zeros(len(self.prompts), np.int64)
        found[self.of_pass] = self.visible_ns
        return found

    def good(self) -> NDArray[np.bool_] | None:
        """Which requests keep all that the service promises; None where it promises nothing."""
        found: NDArray[np.bool_] | None = good(self.service, self.times_ms, self.done)
        return found

    def good_tokens(self) -> int | None:
        """Output tokens of those; None where the service promises nothing."""
        return None if (kept := self.good()) is None else int(self.outputs[kept].sum())

    def counts(self) -> NDArray[np.bool_]:
        """Which requests have their whole answer, and came behind the warm-up, bool[n]."""
        return self.done & self._counted()

    def _counted(self) -> NDArray[np.bool_]:
        """Which requests came behind the warm-up, bool[n]."""
        counted = np.zeros(len(self.done), np.bool_)
        counted[self._by_arrival()[self.service.warm_up or 0 :]] = True
        return counted

    def _by_arrival(self) -> Ints:
        came = np.flatnonzero(self.sent_ns >= 0)
        return came[np.argsort(self.sent_ns[came], kind="stable")]

    def _steady(self, times_ms: dict[str, Floats], counted: NDArray[np.bool_]) -> dict[str, Any]:
        """What of the service's promises is kept, whether it keeps up, and how far its latencies
        are known.
        """
        order = [one for one in self._by_arrival() if self.done[one]]
        times = {name.removesuffix("_ms"): of[order] for name, of in times_ms.items()}
        ended = self.done | (self.state.requests[STATUS] == REJECTED)
        sent = (self.sent_ns + self.way_ns)[self.sent_ns >= 0]
        span = (int(sent.min()), int(sent.max())) if len(sent) else (0, 0)
        found = (
            attainment(self.service, times_ms, self.done, ended & counted),
            not self.room.loop and grows(self.line, *span),
            self._after_first_end(counted) if span[1] > span[0] and not self.room.loop else None,
            latency_intervals(times, self.service.warm_up),
        )
        return dict(zip(STEADY, found, strict=True))

    def _after_first_end(self, counted: NDArray[np.bool_]) -> float | None:
        """Of the ``counted`` requests the share that came once another one had left."""
        if not self.done.any() or not (came := counted & (self.sent_ns >= 0)).any():
            return None
        return float((self.sent_ns[came] >= self.last_ns[self.done].min()).mean())

    def _blocks(self) -> tuple[float | None, ...]:
        """Of a rank its blocks at the start, the tokens that they hold, and how many requests of
        the most tokens that one may have (vLLM's "Maximum concurrency"; None: any); the share of
        all that is held, at the mean and at the most of all steps.
        """
        room, steps = self.room, int(self.state.numbers[STEPS])
        if room.blocks is None or not steps:
            return (None,) * 5
        pool = self.state.ranks[MEMORY].sum() + self._given(steps) * self.state.numbers[UNIT]
        held = 1 - self.state.steps[LEFT, :steps] / pool
        tokens, longest = room.blocks * room.block_size, int(self.state.numbers[LONGEST])
        whole = None if longest == NEVER else room.blocks / most_held(self.state, longest, 0)
        if whole is not None and room.groups != (Group(),):
            tokens = int(whole * longest)
        return room.blocks, tokens, whole, float(held.mean()), float(held.max())

    def _given(self, steps: int) -> Ints:
        """Units that experts of all ranks have given up for each of the first ``steps``."""
        given: Ints = self.state.units[:, :steps].sum(axis=0)
        return given

    def _most_at_once(self) -> int:
        """The most requests that clients wait for in one second, counted from the first that is
        sent: whoever is there in any part of it (``calculate_metrics`` of vLLM's serve.py).
        """
        sent, last = self.sent_ns[self.done], self.last_ns[self.done]
        begin = int(sent.min(initial=NEVER))
        seconds = np.concatenate(((sent - begin) // SECOND, (last - begin) // SECOND + 1))
        changes = np.repeat([1, -1], len(sent))
        order = np.lexsort((changes, seconds))  # who left in the second before is gone
        return int(np.cumsum(changes[order]).max(initial=0))

    def table(self) -> dict[str, Any]:
        """Columns of the table of requests; one that follows none is a session of its own."""
        asked, times = self.state.requests, self.times_ms
        numbers, nothing = np.arange(len(self.gpu)), np.zeros(len(self.gpu), np.int64)
        session, turn = self.turns or (numbers, nothing)
        return {
            "request_id": numbers,
            "session": session,
            "turn": turn,
            "replica": nothing if self.replica is None else self.replica,
            **({} if self.where is None else self.where.columns),
            "rank": asked[RANK],
            "gpu": self.gpu,
            "arrival_ns": self.sent_ns,
            "first_scheduled_ns": self.begins_ns,
            "first_token_ns": self.first_ns,
            "last_token_ns": self.last_ns,
            "input_tokens": asked[INPUT],
            "output_tokens": self.outputs,
            "cached_tokens": asked[CACHED],
            "chunks": asked[CHUNKS],
            "preemptions": asked[PREEMPTED],
            "completed": self.done,
            **times,
            **({} if (kept := self.good()) is None else {"good": kept}),
        }

    def gaps(self) -> dict[str, Any]:
        """Columns of the table of times between tokens: the later one's."""
        between, owner, of_pass = self._gaps
        return {
            "request_id": owner.astype(np.int64),
            "step": of_pass.astype(np.int64),
            "itl_ns": between,
            "with_prompts": self.prompts[of_pass],
        }

    def steps(self, passes: int) -> dict[str, Ints]:
        """Columns of the table of steps, of all ranks together when each was decided: who runs, who
        waits, how often one was preempted for it, blocks that are free, and those of them that can
        be found; and, where the clock decides, when that was.
        """
        rows = self.state.steps[:, :passes]
        found = {"running": rows[RUNS], "waiting": rows[WAITS], "preempted": rows[LOST]}
        if self.room.blocks is not None:
            found |= {"free_blocks": rows[LEFT], "cached_blocks": rows[FOUND]}
        if self.room.exchange is not None:
            found["given_units"] = self._given(passes)
        return found if self.clockless else {"decided_ns": rows[DECIDED], **found}

    def entries(self, passes: int) -> dict[str, Any]:
        """Columns of the table of what each of the first steps has of a request: its first token,
        how many, drafts among them, and whether they are decoded.
        """
        begins = self.state.steps[BEGIN, : passes + 1]
        log = self.state.log[:DROPS, : begins[-1]].astype(np.int64)
        who, first, count, gives, drafts = log
        answers = first >= self.state.requests[INPUT, who]
        return {
            "step": np.repeat(np.arange(passes), np.diff(begins)),
            "request_id": who,
            "first_token": first,
            "tokens": count,
            "decodes": (count == 1 + drafts) & (gives > 0) & answers,
        }

    def digests(self) -> list[str]:
        """Of every thousand steps, all before among them, a digest of when each was decided (where
        the clock decides) and of the tokens that it has: where two runs' differ first, they parted.
        """
        steps, found, told = int(self.state.numbers[STEPS]), hashlib.sha256(), list[str]()
        for first in range(0, steps, DIGESTED):
            last = min(first + DIGESTED, steps)
            begin, end = self.state.steps[BEGIN, [first, last]]
            if not self.clockless:
                found.update(np.ascontiguousarray(self.state.steps[DECIDED, first:last]).tobytes())
            found.update(self.state.log[:3, begin:end].astype(np.int64).tobytes())
            told.append(found.hexdigest()[:12])
        return told

    def answers_ns(self, outcome: Outcome) -> dict[str, Floats]:
        """What requests with more than one token take from the first of them to the last, in ns:
        what their GPU is charged between, by category, and the ``rest``.
        """
        many = np.flatnonzero(self.counts() & (self.outputs > 1))
        return {**self._answers_ns(outcome, many), "gaps": self.outputs[many] - 1}

    def decode_parts_ms(self, outcome: Outcome) -> dict[str, Floats]:
        """What the time from the first token to the last is made of, in ms; they add up: what the
        request's GPU is charged between, and the ``rest``: it is idle, the request waits to be
        computed again or for its keys and values, and what GPUs and host take longer at its end
        than at its begin (below 0: shorter).
        """
        there = np.flatnonzero(self.outputs > 0)
        columns = {}
        for name, of in self._answers_ns(outcome, there).items():
            columns[f"decode_{name}_ms"] = np.full(len(self.outputs), np.nan)
            columns[f"decode_{name}_ms"][there] = of / MS
        return columns

    def _answers_ns(self, outcome: Outcome, which: Ints) -> dict[str, Any]:
        """The same in ns, of those requests ``which`` have a token."""
        last = np.cumsum(self.outputs)[which] - 1
        charged = outcome.charges.cumsum(axis=0)
        gpu = self.gpu[which]
        begin, end = self.passes[1][which], self.of_pass[last]
        parts = (charged[end, gpu] - charged[begin, gpu]).T
        whole = self.last_ns[which] - self.first_ns[which]
        named = dict(zip(outcome.categories, parts, strict=True))
        return {**named, "rest": whole - parts.sum(axis=0)}

    def parts_ms(self, outcome: Outcome) -> dict[str, Floats]:
        """What the time to the first token is made of, in ms; they add up: ``queue`` until the
        first pass begins, what the request's GPU is charged from there to the end of the pass that
        gives the token (where that is another one, from its first pass there on, and ``transfer``
        between), what it is ``idle`` between, and the ``frontend``: the way to the scheduler
        and back, and until all GPUs and the host are done with the pass.
        """
        there = self.outputs > 0
        charged = np.concatenate(
            (np.zeros_like(outcome.charges[:1]), outcome.charges.cumsum(axis=0))
        )
        begins, given = np.where(there, self.passes, 0)
        where = self.where or Where(self.gpu, self.gpu)
        handed, moved = where.handed, np.zeros(len(there), np.int64)
        if handed is None:
            parts = (charged[given + 1, where.gives] - charged[begins, where.begins]).T
        else:
            last, again = np.where(there, handed, 0)
            parts = (charged[last + 1, where.begins] - charged[begins, where.begins]).T
            parts = parts + (charged[given + 1, where.gives] - charged[again, where.gives]).T
            moved = outcome.starts[again, where.gives] - outcome.ends[last, where.begins]
        taken = self.taken_ns
        parts[outcome.categories.index("host")] -= taken - self.begins_ns
        spent = self.given_ns - taken
        rest = self.first_ns - self.sent_ns - spent
        queue = taken - self.sent_ns - self.way_ns
        columns = {
            "queue": queue,
            **dict(zip(outcome.categories, parts, strict=True)),
            **({} if handed is None else {"transfer": moved}),
            "idle": spent - moved - parts.sum(axis=0),
            "frontend": rest - queue,
        }
        return {f"ttft_{name}_ms": np.where(there, of / MS, np.nan) for name, of in columns.items()}


def statistics_of(name: str, values: Floats) -> dict[str, float | None]:
    """Mean, median, standard deviation and percentiles of ``values`` in ms, NaN left out."""
    known = values[~np.isnan(values)]
    which = ("mean", "median", "std", *(f"p{p}" for p in PERCENTILES))
    if not len(known):
        return {f"{one}_{name}_ms": None for one in which}
    mean, spread = float(known.mean()), float(known.std())
    ranks = np.percentile(known, PERCENTILES, overwrite_input=True)  # at once: no whole sort
    median, *others = ranks.tolist()
    found = (mean, median, spread, median, *others)
    return {f"{one}_{name}_ms": value for one, value in zip(which, found, strict=True)}


def _shown(schedule: Schedule, state: State) -> tuple[NDArray[np.bool_], NDArray[np.int32]]:
    """Of each token of ``schedule`` whether one follows from it that was not lost, bool[n], and
    with the end of which pass what follows is there, int32[n], the number of passes: of none.
    """
    assert schedule.served is not None, "its scheduler says where tokens stand"
    log = state.log[:, : state.steps[BEGIN, schedule.passes]]
    shown = np.repeat(np.minimum(log[SHOWN], np.int32(schedule.passes)), log[COUNT])
    logits: NDArray[np.bool_] = shown < schedule.passes
    logits &= schedule.served.outputs
    if (log[DROPS] > 0).any():
        logits[np.cumsum(log[COUNT])[log[DROPS] > 0] - 1] = False
    return logits, shown


def _filled(values: Ints, count: int, there: NDArray[np.bool_]) -> Ints:
    """``values`` of the first requests that are ``there``, -1 of all others."""
    found = np.full(count, -1, np.int64)
    found[: len(values)] = np.where(there, values, -1)
    return found


def _most_in_a_second(instants: Ints, number: Ints) -> float:
    """The most tokens that come in one second, counted from the start, of which so many come at
    each of the ``instants``.
    """
    seconds, which = np.unique(instants // SECOND, return_inverse=True)
    return float(np.bincount(which, number, len(seconds)).max(initial=0))
