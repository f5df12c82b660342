"""The forward passes of a run: of batches of the trace's requests, or of served requests."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import NamedTuple

import numpy as np

from moesim.config.counted import counted
from moesim.config.errors import InputError, Problem
from moesim.engine.case import Case
from moesim.experiment.building.footprints import footprint_of, residences_of, served_pass
from moesim.experiment.building.of_card import block_size_of
from moesim.experiment.building.speculation import requests_of
from moesim.experiment.loading.requests import load_of
from moesim.experiment.schema.disaggregation import Disaggregation
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout
from moesim.experiment.schema.serving import Memory
from moesim.hardware import HardwareProfile, SoftwareProfile
from moesim.memory.footprint.footprint import Footprint
from moesim.memory.footprint.kv_groups import KvAsked, KvPlan, kv_plan
from moesim.memory.footprint.kv_pool import KvPool
from moesim.model import ModelSpec
from moesim.trace import RoutingTrace
from moesim.workload.batching.base import seats_by
from moesim.workload.batching.continuous import Continuous
from moesim.workload.schedule import Schedule
from moesim.workload.serving.base import RequestScheduler
from moesim.workload.serving.fleets.fleet import Routed
from moesim.workload.serving.fleets.wire import CachedLayer, Roles, Wire
from moesim.workload.serving.requests.requests import ServedRequests, served_requests
from moesim.workload.serving.run import Serving
from moesim.workload.serving.state import NEVER, SPARE, STATE, TOKENS, Exchange, Group, Room
from moesim.workload.serving.stepping.host import NO_TIME, HostTimes
from moesim.workload.speculation import Speculation, accepted_of_served, others_of_served
from moesim.workload.timetable import Scheduler

NO_LIMIT = 1 << 30
"""Blocks where no layer needs any."""


class Planned(NamedTuple):
    """Forward passes: those that are known, what says during the run which there are (None: nothing
    does), and how requests are served (None: they are not).
    """

    schedule: Schedule
    scheduler: Scheduler | None
    serving: Serving | None = None


class Engine(NamedTuple):
    """What runs passes: a GPU's share of the model, the software, the GPUs, and their machine."""

    model: ModelSpec
    software: SoftwareProfile
    layout: Layout
    hardware: HardwareProfile


def passes_of_run(experiment: Experiment, trace: RoutingTrace, engine: Engine) -> Planned:
    """The passes that ``experiment`` asks for; InputError where it asks for none that can be."""
    batching, prefill = experiment.workload.batching, experiment.workload.prefill
    if isinstance(batching, Continuous):
        return _served(experiment, trace, engine, batching)
    layout = engine.layout
    requests = requests_of(experiment, trace)
    seats = seats_by(batching, requests)
    passes = partial(batching.passes, requests, trace, layout.gpus, prefill.chunk)
    schedule = Schedule.of(requests, seats, trace, layout.gpus, prefill.chunk)
    return Planned(schedule, passes if batching.reads_clock else None)


def host_times_of(software: SoftwareProfile) -> HostTimes:
    """What the host takes between steps."""
    return HostTimes(
        schedule_ns=round(software.schedule_ns),
        per_request_ns=round(software.per_request_ns),
        output_ns=round(software.output_ns),
        per_request_out_ns=round(software.per_request_out_ns),
        frontend_ns=round(software.frontend_ns),
        tokenize_ns=round(software.tokenize_ns),
        per_prompt_token_ns=round(software.per_prompt_token_ns),
    )


def _with_drafts(served: ServedRequests, asked: Speculation, seed: int) -> ServedRequests:
    """``served`` whose answers are drafted as is ``asked``."""
    prompts, tokens = served.asked.input_tokens, served.asked.tokens
    accepts, astray = accepted_of_served(tokens, asked, seed), None
    if asked.rejected == "other":
        astray = others_of_served(prompts, tokens, seed)
    return replace(served, asked=replace(served.asked, accepts=accepts), astray=astray)


def _served(
    experiment: Experiment,
    trace: RoutingTrace,
    engine: Engine,
    batching: Continuous,
) -> Planned:
    layout, arrivals = engine.layout, experiment.workload.arrivals
    longest, times = engine.model.longest_context, host_times_of(engine.software)
    if arrivals.clockless and arrivals.concurrency is None:  # an offline batch begins with tokens
        times = times._replace(tokenize_ns=0, per_prompt_token_ns=0)
    memory, routed = experiment.memory or Memory(), _routed(experiment, engine)
    asked = experiment.workload.speculative
    drafts = asked.drafts if asked else 0
    shares = (batching.scheduler, drafts, routed)
    plan = _plan_of(engine.model, engine.hardware, memory, shares)
    block = plan.block_size if plan else block_size_of(experiment)
    served = served_requests(load_of(experiment), trace, block)
    _some_count(experiment, served.asked.count)
    if asked is not None and drafts:
        served = _with_drafts(served, asked, experiment.seed)
    room = Room(
        ranks=layout.gpus // layout.group,
        block_size=block,
        caches_prefixes=memory.prefix_caching,
        longest=longest or NEVER,
        loop=arrivals.concurrency is not None,
        think_ns=arrivals.think_ns,
        prefilled=experiment.workload.phase == "decode",
        visible_ns=2 * times.frontend_ns + times.output_ns,
        visible_each_ns=times.per_request_out_ns,
        drafts=drafts,
        look_ahead=asked.look_ahead if asked else 0,
        groups=_groups_of(plan),
        inside=plan is not None and plan.inside,
    )
    ahead = experiment.experts.policy.looks_ahead
    # a client's next request is on its way for a while; a host that takes time is seen by clocks
    clockless = arrivals.clockless and not (room.loop and times.travels)
    clockless &= not memory.split.reads_misses
    clockless = clockless and routed is None
    timed = not clockless or (times != NO_TIME and not ahead)
    serving = Serving(served, batching.scheduler, room, layout.gpus, not timed)
    serving = replace(serving, routed=routed)
    return _planned(replace(serving, known=clockless, times=times if timed else NO_TIME))


Shares = tuple[RequestScheduler, int, Routed | Roles | None]
"""Who shares a pool: a scheduler, drafts that a step verifies, and the engines."""
KEEPS = {"tokens": TOKENS, "state": STATE, "spare": SPARE}


def _plan_of(
    model: ModelSpec, hardware: HardwareProfile, memory: Memory, serving: Shares
) -> KvPlan | None:
    """Groups of layers whose requests take blocks of one pool; None where room for windows is set
    aside, as where instances hand over what they hold.
    """
    scheduler, drafts, routed = serving
    if not scheduler.shares_windows or isinstance(routed, Roles):
        return None
    asked = KvAsked(
        block_size=memory.block_size or scheduler.usual_block,
        caches_prefixes=memory.prefix_caching,
        drafts=drafts,
        capability=hardware.datasheet.capability,
    )
    return kv_plan(model, asked)


def _groups_of(plan: KvPlan | None) -> tuple[Group, ...]:
    """``plan`` as a scheduler takes it. A state is left once the next token is past its block."""
    if plan is None:
        return (Group(),)
    return tuple(
        Group(2 if one.keeps == "state" else one.window or NEVER, one.times, KEEPS[one.keeps])
        for one in plan.groups
    )


def _some_count(experiment: Experiment, requests: int) -> None:
    """An InputError where the warm-up leaves no request that latencies count."""
    asked = experiment.serving and experiment.serving.warm_up
    if asked and asked >= requests:
        what = f"{asked} of {counted(requests, 'request')} are left out of latencies, so that none"
        raise InputError([Problem("", "serving.warm_up", f"{what} is left; write fewer")])


def _routed(experiment: Experiment, engine: Engine) -> Routed | Roles | None:
    """The engines that share requests; None: one has them all."""
    asked = experiment.serving
    if asked is None or asked.alone:
        return None
    if (apart := asked.disaggregation) is None:
        return Routed(asked.replicas, asked.router, experiment.seed)
    return Roles(
        prefill=apart.prefill,
        decode=apart.decode,
        routers=(asked.router, apart.router),
        wire=wire_of(apart, engine),
        by_layer=apart.overlap == "layer",
        again=apart.first_token == "decode",  # noqa: S105 (no password)
        seed=experiment.seed,
    )


def wire_of(apart: Disaggregation, engine: Engine) -> Wire:
    """What joins instances that prefill and that decode. InputError where nothing says it."""
    rate, network = apart.bandwidth, engine.hardware.network
    if rate is None and network is None:
        what = f"'{engine.hardware.name}' has no network, over which keys and values would go"
        raise InputError(f"serving.disaggregation.bandwidth: {what}; write one, as in 50 GB/s")
    if rate is None and network is not None:
        gpus = engine.hardware.gpus
        rate = network.bandwidth.value * min(1, network.nics.value / gpus)
    assert rate is not None, "there is one"
    layers = [
        CachedLayer(0, None, layer.attention.state_bytes)
        if layer.attention.state_bytes
        else CachedLayer(layer.gpu_kv_bytes_per_token, layer.attention.window)
        for layer in engine.model.cached_layers
    ]
    return Wire(max(1, int(rate)), round(apart.latency), tuple(layers), engine.layout.group)


def _planned(serving: Serving) -> Planned:
    scheduler = None if serving.clockless else serving.passes
    schedule = serving.schedule() if serving.known else serving.as_if_at_once()
    return Planned(schedule, scheduler, serving)


def with_blocks(case: Case, blocks: int, exchange: Exchange | None = None) -> Case:
    """``case`` whose requests are served where every rank has so many ``blocks``, that perhaps
    change places with slots.
    """
    assert case.serving is not None, "requests are served"
    limit = None if blocks == NO_LIMIT else blocks
    room = replace(case.serving.room, blocks=limit, exchange=exchange)
    serving = replace(case.serving, room=room, state=None)
    case.serving.planned = None  # the plan without a limit is only what this one is compared with
    planned = _planned(serving)
    serving.planned = None  # nothing else is planned
    return replace(case, **planned._asdict())


def _left(
    held: Footprint, memory: Memory, hardware: HardwareProfile, scheduler: RequestScheduler
) -> int:
    """Bytes for keys and values that the engine's share of a GPU leaves beside what is ``held``, or
    a share of all that is left.
    """
    free = hardware.memory_bytes - hardware.context_bytes
    fullest, share = int(held.total.max()), memory.gpu_memory_utilization
    if (of_free := memory.share_of_free(scheduler.kv_share)) is not None:
        return int(of_free * (free - fullest))
    if scheduler.shares_without_passes:
        lasting = int((held.total - held.parts["activations"]).max())
        return min(int(share * free) - lasting, free - fullest)
    return int(share * hardware.memory_bytes) - hardware.context_bytes - fullest


def most_bytes(case: Case, memory: Memory, hardware: HardwareProfile) -> int:
    """What weights, activations and the room for keys and values may take of each GPU of ``case``,
    whose requests are served.
    """
    assert case.serving is not None, "requests are served"
    assert case.kv_pool is not None, "requests are served"
    empty = replace(case, kv_pool=replace(case.kv_pool, blocks=0))
    held = served_pass(empty, residences_of(case))
    left = _left(held, memory, hardware, case.serving.scheduler)
    return int(held.total.max()) + left


def kv_pool_of(case: Case, memory: Memory, hardware: HardwareProfile) -> KvPool:
    """What is set aside for keys and values on every GPU of ``case``, whose experts have their
    slots where that is what they leave. InputError where nothing is left.
    """
    assert case.serving is not None, "requests are served"
    scheduler, size = case.serving.scheduler, case.serving.room.block_size
    tokens = scheduler.most_tokens or int(np.diff(case.schedule.offsets).max())
    seats = scheduler.most_running
    fewer = case.serving.room.loop or scheduler.shares_windows  # who shares sets nothing aside
    at_once = min(seats, case.serving.served.asked.coming) if fewer else seats
    shares = (scheduler, case.serving.room.drafts, case.serving.routed)
    plan = _plan_of(case.model, hardware, memory, shares)
    empty = KvPool(0, size, seats, tokens, at_once, not scheduler.keeps_windows, plan)
    each = max(empty.block_bytes(share.model) for share in case.shares)
    if memory.kv.kind == "blocks":
        return replace(empty, blocks=int(memory.kv.amount))
    if not each:  # all layers have windows or states
        return replace(empty, blocks=NO_LIMIT)
    beside = ""
    if memory.kv.kind == "bytes":
        blocks = int(memory.kv.amount) // each
    else:
        held = footprint_of(replace(case, kv_pool=empty), residences_of(case))
        left = _left(held, memory, hardware, scheduler)
        blocks, beside = left // each, held.beside(left)
    if blocks < 1:
        what = f"leaves no room for a block of keys and values{beside}; write more GPUs"
        what += " (parallelism.expert), fewer bits a weight, fewer slots for experts, a larger"
        by_free = memory.share_of_free(scheduler.kv_share) is not None
        what += f" memory.{'kv' if by_free else 'gpu_memory_utilization'}, or fewer tokens a step"
        if any(empty.seat_bytes(share.model) for share in case.shares):
            what += f", or max_num_seqs: windows and states of {at_once} requests are set aside"
        raise InputError(f"memory.kv: '{memory.kv}' {what}")
    return replace(empty, blocks=blocks)
