"""The reference's case in the engine's own words."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np

from moesim.engine.captured import Captured
from moesim.engine.case import Case as EngineCase
from moesim.gating import registry as gatings
from moesim.hardware.described.kernel_counts import KernelCounts
from moesim.hardware.described.software import SoftwareProfile
from moesim.hardware.described.unit_groups import UnitGroups
from moesim.memory.choices import registry as variant_choices
from moesim.memory.choices.base import VARIANTS
from moesim.memory.host.host_cache import HostCache
from moesim.memory.misses import registry as misses
from moesim.memory.policies import registry as policies
from moesim.memory.prefetch import registry as prefetchers
from moesim.memory.prefetch.base import Prefetcher
from moesim.memory.variants import Variants
from moesim.model.drafting import Drafter
from moesim.model.spec import AttentionSpec, FfnSpec, LayerSpec, ModelSpec, MoeSpec
from moesim.placement import registry as planners
from moesim.placement.mapping import Ints, Placement
from moesim.placement.rebalance import Rebalance
from moesim.placement.task import Task
from moesim.trace import RoutingTrace, TraceMetadata
from moesim.workload.batching import registry as batchings
from moesim.workload.requests import Requests
from moesim.workload.schedule import Schedule
from moesim.workload.speculation import Tree, speculated

from .prices import ToyCostModel
from .reference_placement import local_experts, physical
from .reference_words import Config, Layer, Model, Prefetch, Software, Variant
from .strategies import NEAR, UPLOADS, Case


def engine_case(case: Case) -> EngineCase:
    config = case.config
    model = engine_model(case.model, config)
    trace = engine_trace(case, model)
    requests = Requests.of(trace, config.phase)  # type: ignore[arg-type]
    if config.drafts:
        chosen: dict[str, Any] = {
            "num_speculative_tokens": len(config.chances),
            "width": config.drafts // len(config.chances),
            "acceptance": tuple(percent(chance) for chance in config.chances),
            "rejected": config.rejected,
        }
        tree = Tree(**chosen)
        requests = speculated(requests, trace, tree, config.seed)
    kind: Any = batchings.get(config.batching)
    batching = kind(batch_size=config.batch_size)
    gating_choices: dict[str, Any] = {}
    if config.gating in ("static", "tutel"):
        gating_choices["capacity_fraction"] = percent(config.capacity_fraction)
    if config.gating == "tutel":
        gating_choices["capacity"] = "no_drop" if config.no_drop else "fraction"
    if config.gating == "gshard":
        gating_choices = {
            "factor": float(config.factor),
            "min_capacity": config.min_capacity,
            "drop": config.drop,
        }
    policy_choices: dict[str, Any] = {
        name: percent(value) if isinstance(value, float) else value
        for name, value in config.parameters.items()
    }
    if config.policy != "stream":
        policy_choices["scope"] = config.scope
    if config.policy == "static":
        policy_choices["first_part"] = percent(config.first_part)
    miss_choices: dict[str, Any] = {"uploads": config.uploads} if config.miss in UPLOADS else {}
    if config.miss == "split":
        miss_choices = {"rule": config.rule, "alpha": config.alpha}
    if config.miss == "cpu":
        miss_choices["copies_from"] = config.copies_all_from or "never"
    if config.near_memory and config.miss in NEAR:
        miss_choices["computed_by"] = "near_memory"
    slots = np.array([engine_slots(case, gpu) for gpu in range(config.gpus)], np.int64)
    pool = None if config.pool_bytes is None else np.full(config.gpus, config.pool_bytes)
    return EngineCase(
        trace=trace,
        model=model,
        prices=ToyCostModel(case.prices, lambda spec: int(spec.norm_bytes)),
        software=engine_software(config.software),
        schedule=Schedule.of(requests, batching.seats(requests), trace, config.gpus, config.chunk),
        gating=gatings.get(config.gating)(**gating_choices),
        placement=engine_placement(case),
        gpus=config.gpus,
        group=config.group,
        slices=config.parts,
        reduces=config.reduces,
        once=config.sends_once,
        dispatch_dtype=config.dispatch_dtype if config.gating == "dynamic" else None,
        slots=slots,
        pool_bytes=pool,
        exchanges=config.exchanges,
        policy=policies.get(config.policy)(**policy_choices),
        miss=misses.get(config.miss)(**miss_choices).resolved(),
        bandwidths=config.bandwidths,
        kernels=config.kernels,  # type: ignore[arg-type]
        order=config.order,  # type: ignore[arg-type]
        protect=config.protect,  # type: ignore[arg-type]
        initial=config.initial,  # type: ignore[arg-type]
        seed=config.seed,
        host_start_ns=config.host_start_ns,
        host_cache=engine_host_cache(config),
        nodes=config.nodes,
        execution=config.execution,  # type: ignore[arg-type]
        decide=config.decide,  # type: ignore[arg-type]
        prefill=config.prefill,  # type: ignore[arg-type]
        stream_from=config.stream_from,
        prefetch=engine_prefetch(config.prefetch),
        variants=engine_variants(case, model),
        rebalance=engine_rebalance(case),
        unit_groups=UnitGroups(config.groups, *config.row_ns) if config.groups > 1 else None,
        drafter=engine_drafter(config, model),
        captured=None if config.captured is None else Captured(*config.captured),  # type: ignore[arg-type]
    )


def engine_drafter(config: Config, model: ModelSpec) -> Drafter | None:
    """One more layer as the model's last."""
    if not config.draws:
        return None
    return Drafter(config.draws, replace(model, layers=model.layers[-1:]))


def engine_slots(case: Case, gpu: int) -> list[int]:
    """By MoE layer; a pool of as many bytes as all its experts has slots for all."""
    config, layers = case.config, range(len(case.model.moe_layers))
    if config.pool_bytes is not None:
        local = len(local_experts(case.model, config)[gpu])
        whole = config.pool_bytes >= local * sum(map(case.model.bytes_in, layers))
        return [local - (not whole)] * len(layers)
    given = [config.slots_of(layer) for layer in layers]
    return [physical(case.model, config) if of is None else of for of in given]


def engine_variants(case: Case, model: ModelSpec) -> Variants | None:
    config, local = case.config, physical(case.model, case.config)
    if not config.variants:
        return None
    names = VARIANTS if len(config.variants) == 3 else VARIANTS[::2]
    if config.choose == "resident_else":
        choices: dict[str, Any] = {"then": config.beyond}
    else:
        choices = dict(zip(names, map(percent, config.limits), strict=True))
        choices |= {"beyond": config.beyond, "on_worse": "use" if config.use_worse else "load"}

    def layer_of(layer: LayerSpec, variant: Variant) -> LayerSpec:
        assert layer.moe is not None
        expert = replace(layer.moe.expert, bytes=variant.expert_bytes)
        moe = replace(layer.moe, expert=expert)
        return replace(layer, moe=moe, norm_bytes=layer.norm_bytes + variant.kind)

    def slots_of(variant: Variant) -> list[int]:
        own = replace(config, slots=variant.slots)
        given = [own.slots_of(layer) for layer in range(len(model.moe_layers))]
        return [local if of is None else of for of in given]

    return Variants(
        names=names,
        layers=tuple(
            tuple(layer_of(layer, variant) for layer in model.moe_layers)
            for variant in config.variants
        ),
        slots=np.array([[slots_of(one)] * config.gpus for one in config.variants], np.int64),
        choice=variant_choices.get(config.choose)(**choices),
        nested=tuple(one.nested for one in config.variants),
        elsewhere=misses.get(config.miss).forms[1:],
    )


def engine_host_cache(config: Config) -> HostCache | None:
    if config.host_slots is None:
        return None
    policy = policies.get(config.host_policy)()
    how = (policy, config.reads, config.mapped, config.read_chunk)
    cache = HostCache(config.host_slots, *how, in_place=config.in_place, limit=config.host_bytes)
    return replace(cache, layers_ahead=config.host_layers_ahead)


def engine_prefetch(choices: Prefetch) -> Prefetcher:
    names = {"oracle": ("recall", "precision"), "next_layer": ("first_part",)}
    own: dict[str, Any] = {
        name: [percent(one) for one in shares] if isinstance(shares, tuple) else percent(shares)
        for name in names.get(choices.kind, ())
        for shares in [getattr(choices, name)]
    }
    own |= {"stop": choices.stop, "when": choices.when, "every": choices.every}
    own |= {"cost": f"{choices.cost} ns", "variant": choices.variant}
    own["budget"] = None if choices.budget is None else f"{choices.budget} B"
    return prefetchers.get(choices.kind)(layers=choices.layers, **own)


def engine_rebalance(case: Case) -> Rebalance | None:
    if (rules := case.config.rebalance) is None:
        return None
    room = np.arange(physical(case.model, case.config)) % case.model.experts

    def hottest_first(loads: Ints, gpus: int) -> Ints:
        """The reference's toy plan."""
        assert gpus == case.config.holders
        return np.argsort(-loads, axis=1, kind="stable")[:, room]

    return Rebalance(
        rules.interval, rules.window, hottest_first, rules.one_by_one, rules.least, rules.planning
    )


def engine_placement(case: Case) -> Placement:
    """The plan, or what the planner of that name makes of no routing."""
    layers, config = len(case.model.moe_layers), case.config
    nothing = np.zeros((0, layers, case.model.experts), np.int64)
    if config.plan is None:
        plan = planners.get(config.placement)().place(Task(config.holders, nothing))
    else:
        plan = np.array(config.plan, np.int64)
    return Placement.of(plan, config.holders)


def percent(share: float | Fraction) -> str:
    """As a user writes it; the strategies draw whole percents."""
    return f"{round(share * 100)} %"


def engine_model(model: Model, config: Config) -> ModelSpec:
    gated, unpacking = config.software.copies_per_expert == 3, int(config.unpacks)
    of_layers = [
        FfnSpec(
            model.hidden,
            1,
            gated,
            1,
            model.bytes_in(m),
            "bf16",
            unpacking_bytes=unpacking,
            reused_bytes=model.reused_bytes,
        )
        for m in range(len(model.moe_layers))
    ]
    copied_layers, zero_copy = config.copied_layers, config.reads_layers

    encodes = any(layer.stack == "encoder" for layer in model.layers)
    cross = AttentionSpec(1, 1, 1, 1, None, 1, 1, 1)
    moe = MoeSpec(model.experts, model.top_k, of_layers[0], None, 0, 0, varies=model.varies)

    def layer_spec(layer: Layer) -> LayerSpec:
        expert = of_layers[model.moe_layers.index(layer) if layer.moe else 0]
        return LayerSpec(
            index=layer.index,
            stack=layer.stack,
            attention=AttentionSpec(1, 1, 1, 1, layer.window, 1, 1, 1),
            cross_attention=cross if encodes and layer.stack == "decoder" else None,
            dense=None if layer.moe else expert,
            moe=replace(moe, expert=expert) if layer.moe else None,
            norm_parameters=0,
            norm_bytes=layer.kind,  # what the toy prices go by
            copied=layer.index < copied_layers and not zero_copy,
            zero_copy=layer.index < copied_layers and zero_copy,
        )

    layers = tuple(layer_spec(layer) for layer in model.layers)
    names = ("embedding", "head", "other")
    sizes: dict[str, Any] = {
        f"{name}_{unit}": 0 for name in names for unit in ("parameters", "bytes")
    }
    return ModelSpec(
        name="toy",
        family="toy",
        layers=layers,
        hidden_size=model.hidden,
        vocab_size=1,
        activation_bytes=model.activation_bytes,
        **sizes,
    )


def engine_trace(case: Case, model: ModelSpec) -> RoutingTrace:
    ids = tuple(layer.index for layer in model.moe_layers)
    metadata = TraceMetadata("toy", case.model.experts, case.model.top_k, ids, "toy", "toy", "none")
    return RoutingTrace(**case.arrays(), metadata=metadata)


def engine_software(software: Software) -> SoftwareProfile:
    names = ("launch_ns", "host_per_layer_ns", "host_per_copy_ns", "synchronisation_ns")
    times: dict[str, Any] = {name: float(getattr(software, name)) for name in names}
    return SoftwareProfile(
        name="toy",
        title="toy",
        sources={},
        kernels=KernelCounts(**vars(software.kernels)),
        copied="expert" if software.copies_per_expert == 1 else "matrix",
        pinned=software.pinned,
        states_pinned=software.states_pinned,
        blocking=software.blocking,
        overlap=software.overlap,
        copies_back=software.copies_back,
        logits_to_host=software.logits_to_host,
        input_copies=software.input_copies,
        synchronisations=software.synchronisations,
        cpu_synchronisations=software.cpu_synchronisations,
        resident_synchronisations=software.resident_synchronisations,
        count_reads=software.count_reads,
        calls_empty=software.calls_empty,
        **times,
    )
