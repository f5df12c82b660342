"""From a resolved experiment to what the engine plays and to its memory."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from moesim.config.errors import InputError
from moesim.config.files.inputs import Inputs, recording
from moesim.config.registry import kind_of
from moesim.engine.case import Case
from moesim.experiment.building.built import Built, limit_of
from moesim.experiment.building.execution import captured_of, execution_of
from moesim.experiment.building.fitted_layers import fewest_layers, with_layers
from moesim.experiment.building.footprints import footprint_of, residences_of
from moesim.experiment.building.host_memory import host_cache_of
from moesim.experiment.building.misses import way_beside_layers_on_cpu, way_of
from moesim.experiment.building.of_card import of_card
from moesim.experiment.building.planning import neighbours, placement_of, rules_of
from moesim.experiment.building.pools import pool_bytes_of
from moesim.experiment.building.serving import Engine, kv_pool_of, passes_of_run, with_blocks
from moesim.experiment.building.slots import check_loads, slots_of_run
from moesim.experiment.building.speculation import drafter_of
from moesim.experiment.building.split import exchange_of
from moesim.experiment.building.stages import stages_of_run
from moesim.experiment.building.variants import with_variants
from moesim.experiment.loading.inputs import check_columns, tell_components
from moesim.experiment.loading.names import needed
from moesim.experiment.loading.pieces import with_pieces
from moesim.experiment.loading.quality import read_quality
from moesim.experiment.loading.traces import (
    lost_by_routing,
    model_of,
    trace_of,
    transformed_of,
    varies_of,
)
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout, undivided_heads, undivided_layers
from moesim.experiment.schema.serving import Memory
from moesim.hardware import CostModel, HardwareProfile, SoftwareProfile
from moesim.hardware.described.unit_groups import UnitGroups
from moesim.hardware.engine_fits import with_engine
from moesim.memory.host.host_cache import HostCache
from moesim.model import ModelSpec
from moesim.model.drafting import with_drafter
from moesim.model.routed import varying
from moesim.model.slicing import (
    sliced,
    with_host_layers,
    with_offloaded_layers,
    with_sliced_experts,
)
from moesim.model.unpacked import with_unpacked_experts
from moesim.trace import RoutingTrace
from moesim.workload.context import at_context
from moesim.workload.timetable import first_passes


def build(experiment: Experiment, limit_steps: int | None = None) -> Built:
    """Resolve ``experiment``; only its first ``limit_steps`` forward passes where given.

    Raises InputError where trace and model, or GPUs and machine, do not fit.
    """
    experiment = with_layers_fitted(of_card(experiment))
    with recording() as inputs:
        return _build(experiment, limit_steps, inputs)


def with_layers_fitted(experiment: Experiment, context: int | None = None) -> Experiment:
    """``experiment`` with the layers that ``experts.on_cpu.layers: auto`` takes as a number: the
    ``fewest_layers`` that the GPUs allow, else all of them, or none where CPU and GPU share a
    memory.
    """
    if not experiment.experts.on_cpu.fitted:
        return experiment
    layers = fewest_layers(experiment, build, context)
    if layers is None:
        unified = _machine(experiment).unified
        layers = 0 if unified else len(model_of(experiment).moe_layers)
    return with_layers(experiment, layers)


def _build(experiment: Experiment, limit_steps: int | None, inputs: Inputs) -> Built:
    """``inputs``: what is being recorded of what is read here."""
    tell_components(experiment)
    hardware = _machine(experiment)
    layout = Layout.of(experiment, hardware)
    case = _divided(experiment, _case(experiment, hardware, layout), layout)
    case = _placed(experiment, case, hardware)
    if limit_steps is not None:
        case = _first(case, limit_steps)
    case = _linked(case, hardware, layout)
    residences = residences_of(case)
    case = replace(case, host_cache=_host_cache(experiment, case, hardware))
    lost = lost_by_routing(experiment)
    if case.serving is not None:
        from moesim.trace.synthesis.evenness import drawn_notes  # what draws traces is behind it

        lost = {**lost, "routing_share": case.serving.served.routing_share}
        if drawn := drawn_notes(case.trace):
            lost["routing_notes"] = [*lost.get("routing_notes", ()), *drawn]
    of_tokens = transformed_of(experiment).by_token if experiment.routing else None
    footprint, quality = footprint_of(case, residences), read_quality(experiment)
    return Built(case, hardware, footprint, residences, inputs, lost, quality, of_tokens)


def _machine(experiment: Experiment) -> HardwareProfile:
    """The hardware, as the software's kernels see it."""
    hardware: HardwareProfile = needed("hardware", experiment.hardware, experiment.folders)
    software: SoftwareProfile = needed("software", experiment.software, experiment.folders)
    units = experiment.experts.miss.near_units
    return with_engine(hardware, software).model_copy(update={"near_units": units})


def _host_cache(experiment: Experiment, case: Case, hardware: HardwareProfile) -> HostCache | None:
    """Host memory as a cache, if ``experiment`` asks for one."""
    room = experiment.experts.host
    if room.capacity.kind == "all" and not hardware.unified:
        return None
    all_there = tuple(
        replace(one, slots=(one.local,) * len(one.slots)) for one in residences_of(case)
    )
    return host_cache_of(case, room, hardware, footprint_of(case, all_there))


def _model_of(experiment: Experiment, trace: RoutingTrace, layout: Layout) -> ModelSpec:
    """A GPU's share of the model; an InputError where the trace is not of it."""
    model = with_pieces(experiment, model_of(experiment))
    trace.check_fits(model)
    model = varying(model, varies_of(experiment))
    check_columns(experiment, trace)
    if (what := undivided_heads(model, layout.group)) is not None:
        raise InputError(f"parallelism.dense: {what}; write data")
    if (what := undivided_layers(model, layout.stages)) is not None:
        raise InputError(f"parallelism.pipeline: {what}")
    parts = with_sliced_experts(sliced(model, layout.group), layout.slices)
    parts = with_host_layers(parts, experiment.host_layers)
    zero_copy = experiment.experts.miss.uses_link
    return with_offloaded_layers(parts, experiment.offload_layers, zero_copy=zero_copy)


def _case(experiment: Experiment, hardware: HardwareProfile, layout: Layout) -> Case:
    """What the experiment says, with neighbouring experts and one slot a layer."""
    named: SoftwareProfile = needed("software", experiment.software, experiment.folders)
    software = named.on_card(hardware.datasheet)
    trace = trace_of(experiment)
    if experiment.workload.context is not None:
        trace = at_context(trace, experiment.workload.context)
    model = _model_of(experiment, trace, layout)
    model = with_unpacked_experts(model, software.unpacking_bytes)
    near = experiment.experts.miss.near_memory
    drafter = drafter_of(experiment, layout)
    model = with_drafter(model, drafter) if drafter else model
    planned = passes_of_run(experiment, trace, Engine(model, software, layout, hardware))
    return Case(
        trace=trace,
        model=model,
        prices=_prices(experiment, hardware, model, layout),
        software=software,
        schedule=planned.schedule,
        scheduler=planned.scheduler,
        serving=planned.serving,
        gating=experiment.gating,
        placement=neighbours(model, layout.gpus // layout.slices),
        gpus=layout.gpus,
        nodes=layout.nodes,
        group=layout.group,
        slices=layout.slices,
        reduces=layout.reduces,
        once=layout.once,
        dispatch_dtype=layout.dispatch_dtype,
        slots=np.ones((layout.gpus, len(model.moe_layers)), np.int64),
        policy=experiment.experts.policy,
        miss=way_of(experiment, software, model),
        kernels=experiment.experts.kernels,
        order=experiment.experts.order,
        protect=experiment.experts.protect,
        initial=experiment.experts.initial,
        seed=experiment.seed,
        decide=experiment.decide,
        prefill=experiment.workload.prefill.experts,
        stream_from=experiment.workload.prefill.stream_from,
        prefetch=experiment.experts.prefetch,
        host_start_ns=0 if near else hardware.experts_start_ns,
        bandwidths=_bandwidths(hardware, software, layout, near=near),
        unit_groups=_unit_groups(hardware, model) if near else None,
        verifies=experiment.workload.speculative is not None,
        drafter=drafter,
    )


def _bandwidths(
    hardware: HardwareProfile, software: SoftwareProfile, layout: Layout, *, near: bool
) -> tuple[int, int]:
    """Bytes a second of a GPU's copies, and at which its part of the host, or a ``near`` memory,
    reads experts.
    """
    link = hardware.datasheet.copy_of("h2d", software.pinned).bytes_per_second
    if near and hardware.near_memory is not None:
        return link, hardware.near_memory.bytes_per_second
    return link, hardware.host.expert_bytes_per_second // _sharing(hardware, layout)


def _unit_groups(hardware: HardwareProfile, model: ModelSpec) -> UnitGroups | None:
    if (device := hardware.near_memory) is None:
        return None
    return device.groups(hardware.near_units, model.hidden_size * model.activation_bytes)


def _sharing(hardware: HardwareProfile, layout: Layout) -> int:
    """GPUs that share a NUMA node of the host."""
    return -(-layout.gpus_per_node // hardware.host.numa_nodes.value)


def _prices(
    experiment: Experiment, hardware: HardwareProfile, model: ModelSpec, layout: Layout
) -> CostModel:
    return CostModel(
        hardware,
        model,
        serial=experiment.experts.kernels == "serial",
        batched=experiment.experts.kernels == "batched",
        gpus_per_node=_sharing(hardware, layout),
        nodes=layout.nodes,
    )


def _divided(experiment: Experiment, case: Case, layout: Layout) -> Case:
    """``case`` with its layers divided over GPUs, if they are."""
    if layout.stages == 1:
        return case
    return replace(case, stages=stages_of_run(case, experiment.experts, layout.stages))


def _placed(experiment: Experiment, case: Case, hardware: HardwareProfile) -> Case:
    """``case`` with its experts' places, their slots, and how its passes are launched."""
    limit_bytes = limit_of(hardware)
    placed = placement_of(experiment, case)
    case = replace(case, placement=placed, rebalance=rules_of(experiment.placement, placed))
    room, own = experiment.experts, experiment.execution
    memory = experiment.memory or Memory()
    if case.serving is not None and not memory.kv.is_left:
        case = replace(case, kv_pool=kv_pool_of(case, memory, hardware))
    if room.variants is None:
        slots = slots_of_run(case, room, limit_bytes)
        case = replace(case, slots=slots, pool_bytes=pool_bytes_of(case, room, limit_bytes))
        check_loads(case, room)
    else:
        case = with_variants(case, experiment, limit_bytes)
    if any(room.on_cpu.of(case.model)):
        case = replace(case, miss=way_beside_layers_on_cpu(experiment, case.software, case.model))
    if case.serving is not None:
        kv = case.kv_pool or kv_pool_of(case, memory, hardware)
        exchange = exchange_of(case, memory, kv)
        case = replace(case, exchanges=exchange is not None)
        captured = captured_of(case, None if own == "auto" else own)
        case = replace(case, execution=captured.others, captured=captured)
        return with_blocks(replace(case, kv_pool=kv), kv.blocks, exchange)
    return replace(case, execution=execution_of(case).execution if own == "auto" else own)


def _linked(case: Case, hardware: HardwareProfile, layout: Layout) -> Case:
    """``case`` with the links that its copies share, if they share any."""
    both = case.miss.uses_host and case.miss.loads and not case.miss.near_memory
    links = hardware.links(layout.gpus_per_node, case.software.pinned, host_reads=both)
    links = links.on_nodes(layout.nodes)
    if not (case.offloaded and links.shared("h2d")):
        return case
    if case.miss.uses_link:
        raise InputError(
            f"experts.miss: '{kind_of(type(case.miss))}' reads over a link that these GPUs"
            " share, which is not simulated; write load, or a profile whose GPUs have root"
            " ports of their own"
        )
    return replace(case, links=links)


def _first(case: Case, passes: int) -> Case:
    """``case`` up to its first ``passes``."""
    if case.serving is not None and case.serving.routed is not None:
        what = "a run of first steps has one engine; leave replicas and disaggregation out"
        raise InputError(f"serving: {what}")
    case = replace(case, schedule=case.schedule.first(passes))
    if case.serving is not None:
        case.serving.most_steps = passes
        return case
    return replace(case, scheduler=case.scheduler and first_passes(case.scheduler, passes))
