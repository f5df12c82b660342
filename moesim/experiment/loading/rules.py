"""Rules over several keys of an experiment; each is a function that says what is wrong."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from moesim.config.counted import counted
from moesim.config.errors import InputError
from moesim.config.paths import find
from moesim.config.registry import kind_of
from moesim.experiment.loading.names import loaded, needed
from moesim.experiment.loading.near_memory import beside_near_memory
from moesim.experiment.loading.quality import read_quality
from moesim.experiment.schema.experiment import Experiment
from moesim.experiment.schema.layout import Layout, undivided_heads, undivided_layers
from moesim.hardware import load_software
from moesim.memory.choices.base import ByLimits
from moesim.memory.choices.gate_cumulative import GateCumulative
from moesim.memory.on_cpu import OnCpu
from moesim.memory.policies.least_stale import LeastStale
from moesim.model import load_model
from moesim.model.chosen import FORMATS
from moesim.model.chosen import with_experts_in as variant_name
from moesim.model.slicing import unsliced_experts
from moesim.placement.plan import PlanFile, read_plan
from moesim.workload.speculation import Draft, Mtp

if TYPE_CHECKING:
    from moesim.model import ModelSpec


@dataclass(frozen=True)
class Conflict:
    """Keys that do not go together: reported at the first of ``keys``, caused by any of them."""

    keys: tuple[str, ...]
    what: str


Rule = Callable[[Experiment, "ModelSpec | None"], "Conflict | None"]


def conflicts(experiment: Experiment, model: ModelSpec | None) -> Iterator[Conflict]:
    """Every rule that ``experiment`` breaks; those about the model are left out where it is
    None.
    """
    for rule in RULES:
        if (found := rule(experiment, model)) is not None:
            yield found


def batched_rows_are_equal(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A batched product takes as many rows of every expert."""
    del model
    if experiment.experts.kernels != "batched" or not experiment.gating.uneven:
        return None
    kind = kind_of(type(experiment.gating))
    what = f"'batched' multiplies equal rows of every expert, which '{kind}' gating does not give"
    remedy = "write grouped, or a gating that pads (static, tutel)"
    return Conflict(("experts.kernels", "gating"), f"{what}; {remedy}")


def graph_needs_a_fixed_course(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A captured graph cannot wait for the host to decide."""
    if (experiment.execution, experiment.decide) != ("graph", "host"):
        return None
    keys = ("execution", "decide")
    remedy = "write decide: device, or execution: piecewise"
    if may_miss(experiment, model):
        what = f"'graph' with decide: host cannot load missing experts; {remedy}, or capacity: all"
        return Conflict((*keys, "experts.capacity", "model", "parallelism.expert"), what)
    if experiment.gating.agrees:
        what = f"'graph' with decide: host cannot wait for the largest count; {remedy}"
        return Conflict((*keys, "gating"), what)
    if experiment.parallelism.expert > 1 and experiment.gating.uneven:
        what = f"'graph' with decide: host cannot split tokens unevenly over GPUs; {remedy}"
        return Conflict((*keys, "gating", "parallelism.expert"), what)
    if experiment.experts.kernels == "serial" and experiment.gating.uneven:
        what = "'graph' with decide: host cannot call experts one by one whose rows only the gate"
        what += f" knows; {remedy}, or kernels: grouped"
        return Conflict((*keys, "experts.kernels", "gating"), what)
    return None


def encoder_for_encode(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The phase ``encode`` runs the encoder."""
    if model is None or experiment.workload.phase != "encode" or model.has_encoder:
        return None
    what = f"'encode' needs a model with an encoder; {model.name} has none"
    return Conflict(("workload.phase", "model"), f"{what}; write decode, prefill or all")


def context_of_decode_steps(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A context is one that decode steps have, and that the model takes."""
    phase, context = experiment.workload.phase, experiment.workload.context
    if context is None:
        return None
    if phase not in ("decode", "all"):
        what = f"is that of decode steps, and phase '{phase}' has none; leave it out"
        return Conflict(("workload.context", "workload.phase"), what)
    if model is None or context <= (model.longest_context or context):
        return None
    longest = model.longest_context
    what = f"{context:,} tokens are more than the {longest:,} of {model.name}"
    return Conflict(("workload.context", "model"), f"{what}; write {longest} or less")


def experts_to_route_to(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A trace needs MoE layers."""
    del experiment
    if model is None or model.moe_layers:
        return None
    return Conflict(("model",), f"{model.name} has no MoE layer; name a model with experts")


def expert_for_every_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Every GPU holds at least one expert of each layer."""
    if model is None or not model.moe_layers:
        return None
    gpus, experts = holders(experiment), min(_experts(model))
    if gpus <= experts:
        return None
    what = f"{gpus} GPUs are more than the {counted(experts, 'expert')} of {model.name}"
    return Conflict(("parallelism.expert", "model"), f"{what}; {experts} or less")


def gpus_on_nodes(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The machine has the nodes and GPUs, and they can share the dense part."""
    hardware = loaded("hardware", experiment.hardware, experiment.folders)
    if hardware is None:
        return None
    keys = ("parallelism.expert", "parallelism.nodes", "parallelism.pipeline", "hardware")
    try:
        layout = Layout.of(experiment, hardware)
    except InputError as error:
        at, _, what = error.problems[0].what.partition(": ")
        return Conflict((at, *(key for key in keys if key != at)), what)
    if model is None:
        return None
    if (layers := undivided_layers(model, layout.stages)) is not None:
        return Conflict(("parallelism.pipeline", "model"), layers)
    if (heads := undivided_heads(model, layout.group)) is not None:
        return Conflict(("parallelism.dense", *keys, "model"), f"{heads}; write dense: data")
    return None


def slices_of_experts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """GPUs that slice experts have equal parts of them."""
    asked = experiment.parallelism
    if model is None or asked.experts == "expert":
        return None
    if (what := unsliced_experts(model, asked.expert)) is None:
        return None
    keys = ("parallelism.experts", "parallelism.expert", "model")
    return Conflict(keys, f"{what}; or write experts: expert")


def nothing_to_place(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Sliced experts are on every GPU."""
    del model
    kind = kind_of(type(experiment.placement))
    if experiment.parallelism.experts == "expert" or kind == "contiguous":
        return None
    what = f"'{kind}' has nothing to place: every GPU holds a part of each expert"
    return Conflict(
        ("placement", "placement.kind", "parallelism.experts"),
        f"{what}; leave it out, or write parallelism.experts: expert",
    )


def one_memory_holds_all(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Where CPU and GPU share one memory, experts that are not in it come from storage, and the
    GPU's slots are the room for them.
    """
    if not _in_place(experiment, model):
        return None
    hardware, asked = _hardware(experiment), experiment.experts
    if hardware.host.storage is None:
        what = f"'{asked.capacity}' leaves experts out, and {hardware.name} has one memory to load"
        what += " them from and to; write all, or a drive that they are read from, as in"
        what += f" hardware: {{base: {hardware.name}, storage: nvme-pcie4}}"
        return Conflict(("experts.capacity", "hardware", "model", "parallelism.expert"), what)
    if asked.host.capacity.kind != "all":
        what = f"{hardware.name} has one memory, whose room for experts is experts.capacity"
        return Conflict(("experts.host.capacity", "hardware"), f"{what}; leave this out")
    if asked.host.chunk is not None:
        what = f"no copy follows the read where there is one memory, as on {hardware.name}"
        return Conflict(("experts.host.chunk", "hardware"), f"{what}; leave this out")
    if asked.miss.uses_host or asked.miss.uses_link:
        what = f"'{kind_of(type(asked.miss))}' uses experts in a memory of the host, and"
        what += f" {hardware.name} has one memory"
        return Conflict(("experts.miss", "hardware"), f"{what}; write load")
    return None


def _in_place(experiment: Experiment, model: ModelSpec | None) -> bool:
    """Whether experts are read into the one memory that CPU and GPU share."""
    hardware = _hardware(experiment)
    return hardware is not None and hardware.unified and may_miss(experiment, model)


def _hardware(experiment: Experiment) -> Any:
    return loaded("hardware", experiment.hardware, experiment.folders)


def host_of_one_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Several GPUs share the cores and the memory of their own NUMA nodes."""
    del model
    hardware = loaded("hardware", experiment.hardware, experiment.folders)
    if hardware is None or hardware.host.numa_nodes.value == 1:
        return None
    host, gpus = hardware.host, experiment.parallelism.expert // (experiment.parallelism.nodes or 1)
    given = [key for key in ("remote_node_fraction", "threads") if getattr(host, key) is not None]
    if gpus <= 1 or not given:
        return None
    what = f"{counted(gpus, 'GPU')} share {counted(host.numa_nodes.value, 'NUMA node')}, and"
    what += f" host.{given[0]} is of a host that works for one GPU; leave it out, or write 1"
    return Conflict(("parallelism.expert", "parallelism.nodes", "hardware"), what)


def pool_of_one_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A slot of a pool is in the memory of one GPU."""
    del model
    stages = experiment.parallelism.pipeline
    if stages == 1 or experiment.experts.policy.scope != "global":
        return None
    what = f"'global' shares slots over layers, which pipeline: {stages} has on several GPUs"
    keys = ("experts.policy.scope", "experts.policy", "parallelism.pipeline")
    return Conflict(keys, f"{what}; write scope: layer")


def one_pool_of_equal_slots(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A slot of a pool over all layers takes an expert of any of them."""
    if model is None or experiment.experts.policy.scope != "global":
        return None
    sizes = sorted({layer.moe.expert.bytes for layer in model.moe_layers if layer.moe})
    if len(sizes) <= 1:
        return None
    what = f"'global' shares slots over layers, but experts of {model.name} have from {sizes[0]} to"
    keys = ("experts.policy.scope", "experts.policy", "model")
    return Conflict(keys, f"{what} {sizes[-1]} bytes; write scope: layer")


def slots_of_one_layer(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Slots by layer need a cache of each layer."""
    del model
    if experiment.experts.slots.kind == "equal":
        return None
    policy, keys = experiment.experts.policy, ("experts.slots", "experts.policy")
    if policy.scope == "global":
        what = "'by_layer' shares slots out to layers, but scope: global has one pool of them all"
        return Conflict((*keys, "experts.policy.scope"), f"{what}; write equal, or scope: layer")
    if policy.shared_buffers() is not None:
        what = "'by_layer' shares slots out to layers, but this policy has buffers of all layers"
        return Conflict(keys, f"{what}; write equal, or another policy")
    return None


def host_beside_the_device(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Where nothing runs beside a kernel, the host cannot compute experts beside the GPU."""
    del model
    if not experiment.experts.miss.uses_host:
        return None
    if load_software(experiment.software, experiment.folders).overlap:
        return None
    what = f"'{kind_of(type(experiment.experts.miss))}' computes experts beside the GPU, and the"
    what += f" software '{experiment.software}' runs nothing beside a kernel; write miss: load"
    return Conflict(("experts.miss", "software"), what)


def ranks_before_a_pass(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A pool that is ranked by the layer that runs is not asked before a pass."""
    del model
    prefetch, policy = experiment.experts.prefetch, experiment.experts.policy
    if not (prefetch.before_pass and policy.scope == "global" and isinstance(policy, LeastStale)):
        return None
    what = "'least_stale' over all layers ranks by the layer that runs, and none does before a pass"
    keys = ("experts.prefetch.when", "experts.policy")
    return Conflict(keys, f"{what}; write scope: layer, or another policy such as lru")


def prefetch_beside_the_kernels(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Prefetches are copied beside kernels, into slots that a policy gives up."""
    del model
    prefetch, policy = experiment.experts.prefetch, experiment.experts.policy
    if not prefetch.fetches:
        return None
    name, keys = kind_of(type(prefetch)), ("experts.prefetch",)
    software = load_software(experiment.software, experiment.folders)
    beside = software.overlap and not (software.blocking and experiment.execution != "graph")
    if not (beside or prefetch.before_pass):
        what = f"'{name}' copies beside kernels, and the software '{experiment.software}' does not"
        remedy = "write none, when: before_pass, or another software"
        return Conflict((*keys, "software"), f"{what}; {remedy}")
    if policy.lists or policy.shared_buffers() is not None:
        what = f"'{name}' puts experts into slots past '{kind_of(type(policy))}', which keeps lists"
        what += " of what is in them; write none, or another policy such as lru"
        return Conflict((*keys, "experts.policy"), what)
    if policy.restarts:
        what = f"'{kind_of(type(policy))}' begins anew with requests, which prefetches run ahead of"
        return Conflict((*keys, "experts.policy"), f"{what}; write none, or another policy")
    if experiment.workload.prefill.experts != "cache" and experiment.workload.phase != "decode":
        what = f"'{name}' goes through the caches, and these prompts around them; write none, or"
        return Conflict((*keys, "workload.prefill.experts"), f"{what} prefill: {{experts: cache}}")
    return None


def order_of_streams(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Johnson's order is of copies that nothing spares, whatever runs before."""
    del model
    experts, keys = experiment.experts, ("experts.order",)
    if experts.order != "least_makespan":
        return None
    if experts.policy.shared_buffers() is None:
        what = "'least_makespan' orders what policy: stream copies in every step; write id,"
        return Conflict((*keys, "experts.policy"), f"{what} resident_first, or policy: stream")
    if experiment.workload.prefill.experts != "cache" and experiment.workload.phase != "decode":
        what = "'least_makespan' does not go with prompts around the caches yet; write prefill:"
        return Conflict((*keys, "workload.prefill.experts"), f"{what} {{experts: cache}}")
    return None


def background_beside_the_kernels(
    experiment: Experiment, model: ModelSpec | None
) -> Conflict | None:
    """Copies in the background run beside kernels, between passes that go through the caches."""
    del model
    miss, keys = experiment.experts.miss, ("experts.miss",)
    if not miss.copies_behind:
        return None
    name = kind_of(type(miss))
    if experiment.experts.protect == "none":
        what = f"'{name}' copies only over what no step needs; write protect: step, or cheapest"
        return Conflict((*keys, "experts.protect"), what)
    software = load_software(experiment.software, experiment.folders)
    if software.overlap and software.blocking and experiment.execution != "graph":
        what = f"'{name}' copies beside kernels, and the software '{experiment.software}' does not"
        return Conflict((*keys, "software"), f"{what}; write cpu, or another software")
    if experiment.experts.prefetch.fetches:
        what = f"'{name}' does not go together with prefetch yet; write cheapest, or prefetch: none"
        return Conflict((*keys, "experts.prefetch"), what)
    if experiment.workload.prefill.experts == "stream" and experiment.workload.phase != "decode":
        what = f"'{name}' does not go together with prompts that stream; write prefill: bypass"
        return Conflict((*keys, "workload.prefill.experts"), what)
    return None


def near_memory_of_one_gpu(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A near-memory device holds all experts of one GPU that are not there."""
    del model
    if not experiment.experts.miss.near_memory:
        return None
    for key, wrong in beside_near_memory(experiment).items():
        if wrong:
            what = f"experts are computed near memory {wrong}"
            return Conflict(("experts.miss.computed_by", "experts.miss", key), what)
    return None


def storage_below_the_host(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Reads follow what the caches of GPUs decide without a clock, in order."""
    room, keys = experiment.experts.host, ("experts.host", "experts.host.capacity")
    if room.capacity.kind == "all" and not _in_place(experiment, model):
        return None
    policy, name = room.policy, kind_of(type(room.policy))
    special = policy.looks_ahead or policy.weighs or policy.restarts
    if special or policy.shared_buffers() is not None:
        what = f"'{name}' needs to know more of a use than that it is one; write lru or lfu_decay"
        return Conflict(("experts.host.policy", "experts.host.policy.kind"), what)
    if experiment.experts.prefetch.fetches:
        what = "reads from storage do not go together with prefetch yet; write prefetch: none"
        return Conflict(("experts.prefetch", *keys, "hardware"), what)
    if experiment.workload.prefill.experts == "stream" and experiment.workload.phase != "decode":
        what = "reads from storage do not go together with prompts that stream yet; write bypass"
        return Conflict(("workload.prefill.experts", *keys, "hardware"), what)
    return None


def variants_of_experts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Variants are decided in slots of their own, variant by variant, with loads alone."""
    room, choose = experiment.experts, experiment.experts.choose
    if room.variants is None:
        if choose is None:
            return None
        what = "says which variant is wanted, and there are none; write experts.variants"
        return Conflict(("experts.choose", "experts.variants"), what)
    has_middle, rule = room.variants.middle is not None, choose or GateCumulative()
    if isinstance(rule, ByLimits) and has_middle != (rule.middle is not None):
        what = "names middle where experts.variants has none, or not where it has one; write both"
        return Conflict(("experts.choose", "experts.variants", "experts.choose.middle"), what)
    for key, wrong in _beside_variants(experiment, model).items():
        if wrong:
            return Conflict(("experts.variants", key), f"variants work {wrong}")
    return None


def _beside_variants(experiment: Experiment, model: ModelSpec | None) -> dict[str, str | bool]:
    """By key what is wrong with it beside variants, in words."""
    room, parallelism, policy = (
        experiment.experts, experiment.parallelism, experiment.experts.policy
    )  # fmt: skip
    phase, through = experiment.workload.phase, experiment.workload.prefill.experts
    experts = max(_experts(model)) if model is not None and model.moe_layers else 0
    spare = experiment.placement.spare(experts, experiment.folders) if experts else 0
    return {
        "experts.capacity": room.capacity.kind == "all"
        and "with room for a part of the experts; write auto, or another capacity than all",
        "experts.miss": kind_of(type(room.miss)) != "load" and "with misses that load alone",
        "experts.prefetch": room.prefetch.fetches and "without prefetch yet; write none",
        "experts.policy": (policy.looks_ahead or policy.shared_buffers() is not None)
        and f"with policies that know them, not '{kind_of(type(policy))}'; write lru",
        "experts.slots": room.slots.kind != "equal" and "with equal slots; write slots: equal",
        "experts.on_cpu": model is not None
        and any(room.on_cpu.of(model))
        and "without layers on the CPU yet",
        "experts.host.capacity": room.host.capacity.kind != "all"
        and "with a host that holds all experts yet; write all",
        "host_layers": experiment.host_layers > 0 and "without layers on the CPU yet; write 0",
        "offload_layers": bool(experiment.offload_layers) and "without copied layers yet; write 0",
        "software": load_software(experiment.software, experiment.folders).unpacking_bytes > 0
        and "without software that unpacks experts yet; write another software",
        "gating": kind_of(type(experiment.gating)) != "dynamic" and "with dynamic gating alone",
        "parallelism.pipeline": parallelism.pipeline > 1 and "without a pipeline yet; write 1",
        "parallelism.experts": parallelism.experts == "tensor"
        and "with whole experts yet; write parallelism.experts: expert",
        "workload.prefill.experts": phase != "decode"
        and through != "cache"
        and "with prompts through the caches; write cache",
        "placement": spare > 0 and "without replicas yet",
        "workload.speculative": experiment.workload.speculative is not None
        and "without drafts yet; leave speculative out",
    }


def formats_of_variants(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Each variant is a format that the model can have."""
    variants = experiment.experts.variants
    if model is None or variants is None:
        return None
    for name, variant in variants.named:
        path = f"experts.variants.{name}.format"
        if variant.group is not None and variant.format is None:
            what = "is of a format; write experts.variants." + f"{name}.format"
            return Conflict((f"experts.variants.{name}.group",), what)
        if variant.group is not None and variant.format_name not in FORMATS:
            what = "is of the integer formats int2, int3, int4 and int8, with 32, 64 or 128 inputs"
            return Conflict((f"experts.variants.{name}.group", path), f"{what}; leave it out")
        try:
            load_model(variant_name(experiment.model, variant.format_name), experiment.folders)
        except InputError as error:
            said = "; ".join(problem.what for problem in error.problems)
            return Conflict((path, "experts.variants", "model"), said)
    return None


def layers_of_the_host(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Whole layers on the CPU are for answers of one GPU."""
    if not experiment.host_layers:
        return None
    hardware = loaded("hardware", experiment.hardware, experiment.folders)
    wrong = {
        "parallelism.expert": experiment.parallelism.expert > 1 and "with one GPU alone; write 1",
        "parallelism.pipeline": experiment.parallelism.pipeline > 1
        and "of one GPU yet; write pipeline: 1, or experts.on_cpu",
        "workload.phase": experiment.workload.phase != "decode"
        and "in decode steps alone: of longer prompts engines copy the layers; write decode",
        "gating": kind_of(type(experiment.gating)) != "dynamic" and "with dynamic gating alone",
        "experts.prefetch": experiment.experts.prefetch.fetches and "without prefetch; write none",
        "hardware": hardware is not None
        and hardware.unified
        and "where the GPU has a memory of its own",
        "model": model is not None and model.has_encoder and "of models without an encoder",
    }
    for key, what in wrong.items():
        if what:
            return Conflict(("host_layers", key), f"layers run on the CPU {what}")
    return None


def layers_that_are_copied(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Whole layers are copied over a link that nothing else uses meanwhile, to one GPU."""
    if not experiment.offload_layers:
        return None
    hardware = loaded("hardware", experiment.hardware, experiment.folders)
    experts, asked, workload = experiment.experts, experiment.parallelism, experiment.workload
    streams = workload.prefill.experts == "stream" and workload.phase != "decode"
    wrong = {
        "parallelism.expert": asked.expert > 1 and "to one GPU alone yet; write 1",
        "parallelism.pipeline": asked.pipeline > 1 and "to one GPU alone yet; write pipeline: 1",
        "host_layers": experiment.host_layers > 0 and "and run on the GPU; leave host_layers out",
        "experts.on_cpu": experts.on_cpu != OnCpu()
        and "with their experts; leave on_cpu out, or offload_layers",
        "experts.host": experts.host.capacity.kind != "all"
        and "from a host that holds all of them; write capacity: all",
        "experts.policy": experts.policy.scope == "global"
        and "beside slots of each other layer; write scope: layer",
        "experts.slots": experts.slots.kind != "equal"
        and "beside equal slots of the others; write equal",
        "experts.prefetch": experts.prefetch.fetches and "without prefetch yet; write none",
        "experts.miss": experts.miss.copies_behind
        and "without copies in the background yet; write load or cpu",
        "workload.prefill.experts": streams and "without prompts that stream; write cache",
        "hardware": hardware is not None
        and hardware.unified
        and "where the GPU has a memory of its own",
    }
    del model
    for key, what in wrong.items():
        if what:
            return Conflict(("offload_layers", key), f"layers are copied {what}")
    return None


def budget_for_an_expert(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A budget below one expert would prefetch nothing."""
    prefetch = experiment.experts.prefetch
    if model is None or not model.moe_layers or not prefetch.fetches or prefetch.budget is None:
        return None
    least = min(layer.moe.expert.bytes for layer in model.moe_layers if layer.moe)
    if prefetch.budget >= least:
        return None
    what = f"{prefetch.budget} bytes would prefetch nothing: one expert of {model.name} has {least}"
    keys = ("experts.prefetch.budget", "experts.prefetch", "model")
    return Conflict(keys, f"{what} bytes; write '{least} B' or more")


def plan_for_this_run(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A plan's file is there, and is for the model and the GPUs."""
    planner, gpus = experiment.placement, experiment.parallelism.expert
    if model is None or not model.moe_layers or not isinstance(planner, PlanFile):
        return None
    try:
        path = find(planner.file, experiment.folders)
        read_plan(path, (len(model.moe_layers), max(_experts(model))), gpus)
    except InputError as error:
        keys = ("placement.file", "placement", "placement.kind", "model", "parallelism.expert")
        return Conflict(keys, "; ".join(map(str, error.problems)))
    return None


def replicas_need_uneven_splits(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A gating that pads gives every expert its room; it has no rule for replicas."""
    gating = experiment.gating
    if model is None or not model.moe_layers or not (gating.invokes_all or not gating.uneven):
        return None
    spare = experiment.placement.spare(max(_experts(model)), experiment.folders)
    if spare <= 0:
        return None
    keys = ("placement", "placement.redundant", "placement.file", "gating", "gating.kind")
    what = f"{counted(spare, 'replica')} a layer, but '{kind_of(type(gating))}' gating pads and"
    remedy = "write gating: {kind: dynamic}, or plan without replicas"
    return Conflict(keys, f"{what} takes none; {remedy}")


def prices_that_say_something(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A list has a price, one of each thing, and what is bought has a life."""
    del model
    energy, cost = experiment.energy, experiment.cost
    if energy is not None and energy.embodied is not None and not energy.life:
        what = "is spread over the hours in use; write energy.life too, as in '4 years'"
        return Conflict(("energy.embodied",), what)
    if cost is None:
        return None
    if (cost.card is not None or cost.host is not None) and not cost.life:
        what = (
            "what is bought is spread over the hours in use; write cost.life too, as in '3 years'"
        )
        return Conflict(("cost.card", "cost.host"), what)
    if cost.gpu is not None and cost.card is not None:
        what = "a GPU is rented or bought; write one of gpu and card"
        return Conflict(("cost.card", "cost.gpu"), what)
    if (cost.gpu, cost.card, cost.host, cost.electricity) == (None,) * 4:
        return Conflict(("cost",), "names no price; write one, as in {gpu: 2.5 $/h}")
    return None


def energy_of_whole_layers(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Which part works while the host runs whole layers is not told apart."""
    del model
    asked = experiment.energy or (experiment.cost and experiment.cost.electricity)
    if not experiment.host_layers or asked is None:
        return None
    what = "what the CPU draws for whole layers is not counted yet; write host_layers: 0"
    return Conflict(("energy", "cost.electricity", "host_layers"), what)


def drafts_of_decode_steps(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """Drafts are verified by decode steps that are known beforehand."""
    del model
    workload = experiment.workload
    if workload.speculative is None:
        return None
    if workload.phase not in ("decode", "all"):
        what = f"drafts are verified in decode steps, and phase '{workload.phase}' has none"
        return Conflict(("workload.speculative", "workload.phase"), f"{what}; leave it out")
    if workload.batching.reads_clock:
        kind = kind_of(type(workload.batching))
        what = f"does not go together with '{kind}', which says during the run who decodes, yet"
        return Conflict(("workload.speculative", "workload.batching"), f"{what}; write static")
    return None


def what_drafts(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """A model has the layer that drafts, or a dense one beside it does."""
    asked = experiment.workload.speculative
    if isinstance(asked, Mtp) and model is not None and not model.mtp_layers:
        what = f"{model.name} has no MTP layer; write ngram, or draft with a smaller model"
        return Conflict(("workload.speculative.kind", "model"), what)
    if not isinstance(asked, Draft):
        return None
    try:
        smaller = needed("model", asked.model, experiment.folders)
    except InputError as error:
        said = "; ".join(problem.what for problem in error.problems)
        return Conflict(("workload.speculative.model",), said)
    if not smaller.moe_layers:
        return None
    what = f"{smaller.name} has experts, and which of them its drafts need is not known"
    return Conflict(("workload.speculative.model",), f"{what}; name a dense model")


def quality_is_a_table(experiment: Experiment, model: ModelSpec | None) -> Conflict | None:
    """The table of answers' quality can be read."""
    del model
    try:
        read_quality(experiment)
    except InputError as error:
        return Conflict(("quality.table", "quality"), "; ".join(map(str, error.problems)))
    return None


RULES: tuple[Rule, ...] = (
    quality_is_a_table,
    batched_rows_are_equal,
    graph_needs_a_fixed_course,
    encoder_for_encode,
    context_of_decode_steps,
    experts_to_route_to,
    expert_for_every_gpu,
    gpus_on_nodes,
    one_memory_holds_all,
    host_of_one_gpu,
    pool_of_one_gpu,
    one_pool_of_equal_slots,
    slots_of_one_layer,
    host_beside_the_device,
    prefetch_beside_the_kernels,
    ranks_before_a_pass,
    order_of_streams,
    background_beside_the_kernels,
    near_memory_of_one_gpu,
    storage_below_the_host,
    variants_of_experts,
    formats_of_variants,
    layers_of_the_host,
    layers_that_are_copied,
    budget_for_an_expert,
    slices_of_experts,
    nothing_to_place,
    plan_for_this_run,
    replicas_need_uneven_splits,
    prices_that_say_something,
    energy_of_whole_layers,
    drafts_of_decode_steps,
    what_drafts,
)


def may_miss(experiment: Experiment, model: ModelSpec | None) -> bool:
    """Whether an expert can be missing: some GPU may hold more experts than it has room for."""
    capacity = experiment.experts.capacity
    if experiment.experts.variants is not None:
        return True
    if capacity.kind == "all" or (capacity.kind == "fraction" and capacity.amount == 1):
        return False
    if model is None or not model.moe_layers or capacity.kind in ("fraction", "auto"):
        return True
    spare = experiment.placement.spare(max(_experts(model)), experiment.folders)
    local = -(-(max(_experts(model)) + spare) // holders(experiment))
    return _slots(capacity, model) < local


def holders(experiment: Experiment) -> int:
    """GPUs that hold experts of their own."""
    asked = experiment.parallelism
    return asked.expert if asked.experts == "expert" else 1


def _slots(capacity: Any, model: ModelSpec) -> int:
    if capacity.kind == "slots":
        return int(capacity.amount)
    largest = max(layer.moe.expert.bytes for layer in model.moe_layers if layer.moe)
    return int(capacity.amount) // len(model.moe_layers) // largest


def _experts(model: ModelSpec) -> list[int]:
    return [layer.moe.experts for layer in model.moe_layers if layer.moe]
