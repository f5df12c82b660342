"""What servers of safetensors checkpoints have in common: names of models, and shared work."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from moesim.config.errors import Problem
from moesim.config.names import plain_name
from moesim.config.registry import kind_of
from moesim.experiment.engine_commands.base import NOTE, Configuration, Folders, Reading
from moesim.experiment.loading.names import needed
from moesim.experiment.schema.layout import ONCE, Layout
from moesim.model.chosen import (
    FORMATS,
    GGML_CACHES,
    cache_of,
    split_cache,
    split_format,
    with_cache_in,
)
from moesim.model.named import Named, from_checkpoint, named
from moesim.model.repositories import is_checkpoint, repositories
from moesim.model.spec import ModelSpec
from moesim.placement.eplb import Eplb

GPUS_OF_A_NODE = 8
FP8_BLOCK = 128
EIGHT_BITS = ("fp8", "fp8_e4m3", "fp8_e5m2")
SIXTEEN_BITS = ("", "auto", "bf16", "bfloat16", "fp16", "float16", "half")
"""Values of ``--kv-cache-dtype``, of vLLM and of SGLang."""
MICRO_BATCHES = "GPUs that hold layers each work one after the other here; servers overlap batches"


@dataclass(frozen=True)
class Ranks:
    """How a line spreads the work over ``gpus``.

    ``group``: GPUs that share the attention of the same requests; ``slices``: GPUs that each have a
    part of the same experts, 1 where these are whole; ``nodes``: None where the line does not say.
    """

    gpus: int
    group: int
    slices: int
    nodes: int | None = None


def put_model(
    reading: Reading, name: str | None, quantization: str | None, folders: Folders
) -> str:
    """Put the model of a line, and return its name in the experiment."""
    if not name:
        reading.warn("model", "none is named; write one")
        return ""
    found = from_checkpoint(name, folders, quantization)
    given = reading.line.last("--kv-cache-dtype")
    cache = given.value.lower() if given else ""
    if cache in EIGHT_BITS:
        found = found._replace(model=with_cache_in(found.model, "fp8"))
    elif cache not in SIXTEEN_BITS:
        reading.warn("model", f"{given}: read as the activations' format")
    put_named(reading, found)
    return found.model


def cache_words(asked: Configuration) -> list[str]:
    """The option of a KV cache in another format than the activations'."""
    cache = cache_of(asked.experiment.named.model)
    return ["--kv-cache-dtype", cache] if cache else []


def why_not_cached(asked: Configuration, engine: str) -> list[str]:
    """That no server has a KV cache in a format of llama.cpp's."""
    cache = cache_of(asked.experiment.named.model)
    if cache not in GGML_CACHES:
        return []
    return [f"model: kv_cache={cache}: llama.cpp has such; {engine} has kv_cache=fp8"]


def put_named(reading: Reading, found: Named) -> None:
    """Put a model, with what was assumed of its name."""
    reading.put("model", found.model)
    for what in found.assumed:
        reading.note("model", what)
    for what in found.wrong:
        reading.warn("model", what)


def put_ranks(reading: Reading, ranks: Ranks, words: str, eager: str = "") -> None:
    """Put ``parallelism`` as ``words`` say it (``-tp {group} -dp {ranks}``), and say where it is
    not what they mean. Steps of ranks that exchange rows are captured, unless the option ``eager``
    says otherwise.
    """
    if ranks.gpus == 1:
        return
    if ranks.nodes is None and GPUS_OF_A_NODE == ranks.group < ranks.gpus:
        ranks = replace(ranks, nodes=ranks.gpus // ranks.group)
        reading.note("parallelism.nodes", f"{ranks.nodes}, of {GPUS_OF_A_NODE} GPUs each")
    reading.put("parallelism.expert", ranks.gpus)
    reading.put("parallelism.nodes", ranks.nodes)
    reading.put("parallelism.dense", "data" if ranks.group == 1 else "tensor")
    if ranks.group < ranks.gpus and not reading.line.has(eager):
        reading.put("decide", "device")
    of_node = ranks.gpus // (ranks.nodes or 1)
    if ranks.slices > 1 and of_node == ranks.gpus <= GPUS_OF_A_NODE:
        put_slices(reading, ranks)
    elif ranks.slices > 1:
        what = f"each expert is sliced over {ranks.slices} GPUs, of several nodes; read as whole"
        what += " ones"
        reading.warn("experts", f"not modelled: {what}")
    if ranks.group not in (1, of_node):
        problem = Problem(_said(words, ranks, ranks.group), "", _groups(ranks, of_node, words))
        reading.line.problems.append(problem)
    elif ranks.nodes is None and ranks.group > GPUS_OF_A_NODE:
        what = f"attention over {ranks.group} GPUs is of one node so large, as gb200; over nodes of"
        what += f" fewer it is read as over each one's, with requests of its own: {_NOT_ACROSS}"
        reading.warn(_said(words, ranks, ranks.group), what)


def _said(words: str, ranks: Ranks, group: int) -> str:
    """The options that spread the GPUs of ``ranks`` so that ``group`` share attention."""
    return words.format(gpus=ranks.gpus, group=group, ranks=ranks.gpus // group)


def put_slices(reading: Reading, ranks: Ranks) -> None:
    """Put that experts are sliced, over all GPUs of a node or over some."""
    if ranks.slices == ranks.gpus:
        reading.put("parallelism.experts", "tensor")
        return
    reading.put("parallelism.slice", ranks.slices)
    if ranks.group == 1:  # each GPU's attention gathers all tokens
        reading.put("parallelism.exchange", "all_gather")


def put_dispatch(reading: Reading, ranks: Ranks, model: ModelSpec | None, *, once: bool) -> None:
    """Put how DeepEP's kernels dispatch rows of ranks with requests of their own: ``once`` to a GPU
    or once to an expert, and what has scales for blocks of 128 in 8 bits (from memory of vLLM and
    SGLang).
    """
    if ranks.slices > 1 or ranks.group == ranks.gpus:
        return
    reading.put("parallelism.exchange", ONCE if once else None)
    reading.put("parallelism.dispatch_dtype", _rounded(model))


def _rounded(model: ModelSpec | None) -> str | None:
    """The format of what DeepEP dispatches of a ``model``; None: that of its activations."""
    experts = {layer.moe.expert for layer in model.moe_layers if layer.moe} if model else set()
    blocks = {(one.dtype, one.block) for one in experts} == {("fp8", FP8_BLOCK)}
    return "fp8_block" if blocks else None


def asks_deepep(layout: Layout) -> bool:
    """Whether rows are dispatched as DeepEP alone does: once to a GPU, or rounded as it rounds."""
    dispatches = layout.group < layout.gpus and not layout.gathers
    return dispatches and (layout.once or layout.dispatch_dtype == "fp8_block")


def dispatch_note(asked: Configuration, *, deepep: bool) -> list[str]:
    """Where the line, with DeepEP or without, does not say how rows are dispatched."""
    layout = layout_of(asked)
    if layout.gpus == 1:
        return []
    found = [] if deepep or not layout.once else [f"{NOTE}parallelism.exchange: {ONCE}: {_UNSAID}"]
    given = layout.dispatch_dtype
    if given != (rounded := _rounded(asked.model) if deepep else None):
        instead = f"is left out: DeepEP dispatches rows in {rounded}"
        what = instead if given is None else f"'{given}': {_UNSAID}"
        found.append(f"{NOTE}parallelism.dispatch_dtype {what}")
    return found


_UNSAID = "the line does not say so; the engine dispatches as it does by default"


def expert_ranks(reading: Reading, option: str, gpus: int) -> int:
    """GPUs that slice the same experts, where ``option`` says how many hold whole ones."""
    ranks = reading.line.whole(option, 1) or 1
    if gpus % ranks:
        what = f"{gpus} GPUs are no {ranks} groups; read as each expert sliced over all"
        reading.warn(f"{option} {ranks}", what)
        return gpus
    return gpus // ranks


def expert_words(option: str, layout: Layout) -> list[str]:
    """``option`` with how many hold whole experts, GPUs or groups of them; one is the default."""
    holders = layout.gpus // layout.slices
    return [] if holders == 1 else [option, str(holders)]


_NOT_ACROSS = "attention over GPUs of several nodes is not modelled"


def _groups(ranks: Ranks, of_node: int, words: str) -> str:
    """Why attention over some of a node's GPUs, or over several nodes', cannot be read, and what
    can.
    """
    sizes = (of_node, 1) if "{ranks}" in words else (of_node,)
    instead = " or ".join(f"'{_said(words, ranks, size)}'" for size in sizes)
    if ranks.group > of_node:
        return f"{_NOT_ACROSS}, only over the {of_node} of a node or on one: write {instead}"
    what = (
        f"{ranks.gpus // ranks.group} groups of {ranks.group} GPUs, each with requests of its own"
    )
    what += f", whose experts are over all {ranks.gpus}: not modelled"
    return f"{what}; attention is over the {of_node} GPUs of a node or on one: write {instead}"


def put_stages(reading: Reading, word: str, gpus: int) -> None:
    """Put the layers split over GPUs by the option ``word``, beside ``gpus`` that share each
    layer's work.
    """
    stages = reading.line.whole(word, 1) or 1
    if stages == 1:
        return
    if gpus > 1:
        what = f"{stages} stages of {gpus} GPUs; read as {gpus} GPUs that hold all layers, each"
        what += f" {stages} x the bytes; write all {stages * gpus} as stages or as GPUs that share"
        reading.warn(f"{word} {stages}", f"not modelled: {what} each layer")
        return
    reading.put("parallelism.pipeline", stages)
    reading.warn(f"{word} {stages}", f"not modelled: {MICRO_BATCHES}")


def decided_note(asked: Configuration) -> list[str]:
    """What a server does otherwise where a host reads what ranks exchange."""
    layout, experiment = layout_of(asked), asked.experiment
    captured = layout.group < layout.gpus and experiment.execution != "eager"
    if experiment.decide == "device" or not captured:
        return []
    return [f"{NOTE}decide: host: no host reads counts in a step that is captured (decide: device)"]


def stages_note(asked: Configuration) -> list[str]:
    """What a server does otherwise where layers are split over GPUs."""
    if asked.experiment.parallelism.pipeline == 1:
        return []
    what = f"{MICRO_BATCHES}; the engine divides numbers of layers, not bytes"
    return [f"{NOTE}parallelism.pipeline: {what}"]


def put_batch(reading: Reading, word: str, batch: int | None) -> None:
    """Put the requests in flight, over all GPUs."""
    if batch is not None:
        reading.put("workload.batching", {"kind": "refill", "batch_size": batch})
        return
    what = (
        "not given: one request at a time; the engine takes as many as there are, up to its limit"
    )
    reading.note(word, what)


def put_eplb(reading: Reading, redundant: int | None) -> None:
    """Put the placement that DeepSeek's balancer makes."""
    placement = {"kind": "eplb"}
    reading.put("placement", placement | ({"redundant": redundant} if redundant else {}))
    reading.note("EPLB", "it plans once from the run's first part, and does not plan again")


def layout_of(asked: Configuration) -> Layout:
    """How the experiment's GPUs stand on nodes."""
    one = asked.experiment
    return Layout.of(one, needed("hardware", one.hardware, one.folders))


def why_not_served(asked: Configuration, engine: str) -> list[str]:
    """What of an experiment no server of this kind runs: experts that are not on its GPUs."""
    experts, gating = asked.experiment.experts, asked.experiment.gating
    reasons = why_not_cached(asked, engine)
    if asked.experiment.host_layers:
        what = f"host_layers: {engine} runs no layers on the CPU; llama.cpp does"
        reasons.append(what)
    if any(asked.on_cpu):
        what = f"experts.on_cpu: {engine} computes no experts on the CPU"
        reasons.append(f"{what}; llama.cpp and ktransformers do")
    elif asked.slots is not None:
        kind = kind_of(type(experts.miss))
        what = f"experts.capacity: {experts.capacity}, miss: {kind}: no release of {engine} keeps"
        remedy = "offload_layers keeps whole layers on the host (--cpu-offload-gb)"
        reasons.append(f"{what} some experts on the GPU and serves the others; {remedy}")
    if gating.drops or not gating.uneven:
        what = f"gating: {kind_of(type(gating))}: {engine} computes what is routed"
        reasons.append(f"{what}, and neither pads nor drops")
    return reasons


def checkpoint(asked: Configuration) -> tuple[str, str | None, list[str]]:
    """The repository of an experiment's model, its format, and what is to be said of the two."""
    base, chosen = split_format(asked.experiment.named.model)
    chosen = split_cache(chosen)[0] if chosen else None
    if base.endswith("config.json"):
        return str(Path(base).parent), chosen, []
    name, own = repositories().get(plain_name(base), base), None
    written = split_format(asked.experiment.model)[0]
    if is_checkpoint(written):
        name, own = written, split_format(named(written).model)[1]
    if chosen == own:
        return name, None, []
    if chosen is None or chosen in FORMATS or "=" in chosen:
        return name, chosen, []
    said = f"{chosen} is a mix of GGUF files; name a checkpoint of {name} in the nearest format"
    return name, None, [f"{NOTE}model: {said}"]


def server_model(
    asked: Configuration, quantization: tuple[str, ...] = ("--quantization", "fp8")
) -> tuple[str, list[str], list[str]]:
    """What a server is to load, the words by which it makes fp8 of a checkpoint in 16 bits, and
    what is to be said. A repository alone would be started in its own format, which may not fit:
    another one's stands as it would be called.
    """
    name, chosen, notes = checkpoint(asked)
    if chosen is None:
        return name, [], notes
    if chosen == "fp8" and quantization:
        return name, [*quantization], notes
    base = split_format(asked.experiment.named.model)[0]
    for standing in (f"{name}-FP8", f"{name}-{chosen.upper()}"):
        if named(standing).model == f"{base}@{chosen}":
            what = f"'{standing}' stands for a checkpoint of {name} in {chosen}; name yours"
            return standing, [], [*notes, f"{NOTE}model: {what}"]
    return name, [], [*notes, f"{NOTE}model: name a checkpoint of {name} in {chosen}"]


def eplb_of(asked: Configuration) -> Eplb | None:
    """The balancer of the experiment, if it is its placement."""
    placement = asked.experiment.placement
    return placement if isinstance(placement, Eplb) else None


def batch_note(asked: Configuration) -> list[str]:
    """What a server does that static batches do not."""
    batching = asked.experiment.workload.batching
    if batching.in_flight == 1 or batching.serves or kind_of(type(batching)) == "refill":
        return []
    return [f"{NOTE}workload.batching: a server admits requests at once (kind: refill)"]
