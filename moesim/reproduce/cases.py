"""A point of the study as what an engine plays."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from moesim.engine.case import Case, Ints
from moesim.engine.routing import Routing
from moesim.experiment.building.planning import neighbours, plan_of
from moesim.gating import registry as gatings
from moesim.hardware import CostModel, HardwareProfile
from moesim.memory.policies import registry as policies
from moesim.model import ModelSpec, load_model
from moesim.placement import registry as planners
from moesim.placement.mapping import Placement
from moesim.placement.task import Task as Placing
from moesim.reproduce.eager import EagerPrices
from moesim.reproduce.machines import hardware_of, software_of
from moesim.reproduce.parameters import Assumptions
from moesim.reproduce.settings import GATINGS, GPUS, TASKS, Setting
from moesim.reproduce.traces import pool_path, read_pool, repeated
from moesim.trace import RoutingTrace
from moesim.workload.batching.static import Static
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule


@dataclass(frozen=True)
class Pools:
    """Where pools of sentences lie, and how many sentences they have, by ``lm`` and ``mt``."""

    folder: Path
    lm: int = 512
    mt: int = 3072

    def of(self, setting: Setting, values: Assumptions) -> Path:
        """The pool's file that ``setting`` draws from."""
        task = TASKS[setting.task]
        return pool_path(self.folder, task, setting.domain, values, self.sentences(setting))

    def sentences(self, setting: Setting) -> int:
        """How many sentences that pool has."""
        return int(getattr(self, TASKS[setting.task].mix)) * setting.pool


def case_of(setting: Setting, values: Assumptions, pools: Pools) -> Case:
    """The case of ``setting``, its experts placed by its planner."""
    task, hardware = TASKS[setting.task], hardware_of(values)
    model, software = load_model(task.model), software_of(values)
    trace, schedule = workload(pools.of(setting, values), setting, values)
    case = Case(
        trace=trace,
        model=model,
        prices=prices_of(setting, values, hardware, model),
        software=software,
        schedule=schedule,
        gating=_gating(setting),
        placement=neighbours(model, setting.gpus),
        gpus=setting.gpus,
        nodes=setting.nodes,
        slots=_slots(setting, model),
        policy=policies.get(setting.policy)(),
        kernels=setting.kernels,
    )
    if setting.planner != "contiguous":
        case = replace(case, placement=_planned(setting, case))
    links = hardware.links(GPUS, software.pinned).on_nodes(setting.nodes)
    return replace(case, links=links) if case.offloaded and links.shared("h2d") else case


def prices_of(
    setting: Setting, values: Assumptions, hardware: HardwareProfile, model: ModelSpec
) -> Any:
    """Prices of fairseq's kernels on the node."""
    task = TASKS[setting.task]
    batched = setting.kernels == "batched"
    prices = CostModel(hardware, model, serial=not batched, batched=batched, nodes=setting.nodes)
    return EagerPrices(prices, task.phase, values)


@lru_cache(maxsize=12)
def _scheduled(
    pool: RoutingTrace, phase: Any, batch: int, gpus: int, batches: int, workers: int
) -> Schedule:
    """Batches of ``batch`` sentences over all GPUs; of each ``workers`` GPUs have the same."""
    requests = repeated(Requests.of(pool, phase), batch * batches, workers)
    seats = Static(batch_size=batch).seats(requests)
    return Schedule.of(requests, seats, pool, gpus)


def workload(path: Path, setting: Setting, values: Assumptions) -> tuple[RoutingTrace, Schedule]:
    """The sentences and the forward passes of ``setting``."""
    phase, gpus = TASKS[setting.task].phase, setting.gpus
    workers = gpus if values["sentences"] == "same" else 1
    pool = read_pool(path)
    sizes = (setting.sentences, gpus, setting.batches, workers)
    return pool, _scheduled(pool, phase, *sizes)


def _gating(setting: Setting) -> Any:
    given = dict(GATINGS[setting.gating])
    kind = gatings.get(given.pop("kind"))
    if "capacity_fraction" in kind.model_fields:
        given["capacity_fraction"] = TASKS[setting.task].capacity
    return kind(**given)


def _slots(setting: Setting, model: ModelSpec) -> Ints:
    """Slots int64[gpus, MoE layers]: of the decoder's layers as ``setting`` has them; all local
    experts elsewhere, and where there is no limit.
    """
    local = -(-max(layer.moe.experts for layer in model.moe_layers if layer.moe) // setting.gpus)
    few = local if setting.slots is None else min(setting.slots, local)
    layers = [few if layer.stack == "decoder" else local for layer in model.moe_layers]
    return np.tile(np.array(layers, np.int64), (setting.gpus, 1))


def _planned(setting: Setting, case: Case) -> Placement:
    """The planner's placement, from the first half of the forward passes."""
    routing = Routing(replace(case, schedule=case.schedule.first(-(-case.schedule.passes // 2))))
    counts = [routing.choices(*piece).sum(axis=2) for piece in routing.pieces()]
    planner = planners.get(setting.planner)()
    plan = plan_of(planner, Placing(case.gpus, np.concatenate(counts)))
    return Placement.of(plan.physical_to_logical, case.gpus)
