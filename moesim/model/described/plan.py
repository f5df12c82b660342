"""What every layer consists of: a kind of attention, and experts, a dense network or nothing."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from moesim.model.described.habits import Habits
from moesim.model.described.keys import MOST_LAYERS, ConfigError, Keys

MOE, DENSE, NOTHING = "moe", "dense", ""
FULL, SLIDING, CHUNKED, SPARSE = "full", "sliding", "chunked", "sparse"
COMPRESSED, LINEAR, MAMBA, CONV, NONE = "compressed", "linear", "mamba", "conv", "none"

_WORDS = (
    ("compress", COMPRESSED), ("sliding", SLIDING), ("swa", SLIDING), ("local", SLIDING),
    ("window", SLIDING), ("chunk", CHUNKED), ("sparse", SPARSE), ("index", SPARSE),
    ("linear", LINEAR), ("kda", LINEAR), ("delta", LINEAR), ("lightning", LINEAR),
    ("mamba", MAMBA), ("ssm", MAMBA), ("conv", CONV), ("full", FULL), ("global", FULL),
    ("mla", FULL), ("gqa", FULL), ("mha", FULL),
)  # fmt: skip
"""Kinds of attention by what their names contain, the most special first."""
_PLAIN = re.compile("(self|dense|softmax|causal|multihead)?(attention|attn)")
"""Names of attention that say no more of it, without what joins their words."""
_LETTERS = {"M": "mamba", "*": "attention", "E": "moe", "-": "mlp"}
"""Of a pattern with a letter a block."""
_NETWORKS = ("moe", "mlp", "dense", "ffn")


@dataclass(frozen=True)
class LayerPlan:
    """The kind of attention and the network of a layer: NONE and NOTHING where it has none."""

    mixer: str
    network: str


def plan_of(keys: Keys, habits: Habits) -> list[LayerPlan]:
    """The plan of every layer. ConfigError where lists and numbers contradict each other."""
    layers = _layers(keys)
    if (types := keys.list_of("block_types", layers)) is not None:
        found = [_block(keys, _LETTERS.get(str(word), str(word))) for word in types[:layers]]
    else:
        mixers = _mixers(keys, layers)
        networks = [MOE if sparse else DENSE for sparse in _sparse(keys, layers)]
        found = [LayerPlan(*pair) for pair in zip(mixers, networks, strict=True)]
    if habits.double:
        found = [one for pair in found for one in (pair, LayerPlan(pair.mixer, DENSE))]
    if all(one.network != MOE for one in found):
        raise ConfigError("", "no layer has experts, though the model is said to have some")
    return found


def _layers(keys: Keys) -> int:
    types = keys.value("block_types")
    if keys.name("layers") is None and isinstance(types, list | str) and types:
        return min(len(types), MOST_LAYERS)
    return keys.needed("layers", MOST_LAYERS)


def _block(keys: Keys, word: str) -> LayerPlan:
    if any(part in word.lower() for part in _NETWORKS):
        return LayerPlan(NONE, MOE if "moe" in word.lower() else DENSE)
    kind = _kind(keys, word)
    return LayerPlan(MAMBA if kind == LINEAR and keys.name("state_heads") else kind, NOTHING)


def _kind(keys: Keys, word: Any) -> str:
    name = str(word).lower()
    found = next((kind for part, kind in _WORDS if part in name), None)
    if found is None and not _PLAIN.fullmatch(re.sub("[^a-z]", "", name)):
        keys.note(f"attention {str(word)[:40]!r} is not known: it is counted as grouped attention")
    return found or FULL


def _mixers(keys: Keys, layers: int) -> list[str]:
    for found in (_listed(keys, layers), _numbered(keys, layers), _periodic(keys, layers)):
        if found is not None:
            return found
    if keys.value("compress_ratios") is not None:
        return [COMPRESSED] * layers
    return [SLIDING if _slides(keys) else FULL] * layers


def _slides(keys: Keys) -> bool:
    return bool(keys.number("window")) and keys.flag("use_sliding_window", default=True)


def _listed(keys: Keys, layers: int) -> list[str] | None:
    """By a word or a number for each layer."""
    if (types := keys.list_of("attention_types", layers)) is not None:
        found = [_kind(keys, word) for word in types[:layers]]
        if keys.value("compress_ratios") is not None or keys.value("compress_rates") is not None:
            found = [COMPRESSED if kind != LINEAR else kind for kind in found]
        return found
    if (types := keys.list_of("attn_type_list", layers)) is not None:
        return [FULL if kind else LINEAR for kind in types[:layers]]
    for name in ("hybrid_layer_pattern", "sliding_window_layout"):
        if (types := keys.list_of(name, layers)) is not None:
            return [SLIDING if kind else FULL for kind in types[:layers]]
    rotary = keys.value("no_rope_layers")
    if isinstance(rotary, list) and len(rotary) >= layers and keys.number("chunk"):
        return [CHUNKED if kind else FULL for kind in rotary[:layers]]
    return None


def _numbered(keys: Keys, layers: int) -> list[str] | None:
    """By lists of layer numbers, which count from 0 or from 1."""
    linear = keys.value("linear_attn_config")
    if isinstance(linear, dict) and isinstance(linear.get("full_attn_layers"), list):
        full = Keys(linear).layers_in("full_attn_layers") or set()
        others = Keys(linear).layers_in("kda_layers") or set()
        first = 0 if 0 in full | others else 1
        if full & others or max(full | others, default=0) >= layers + first:
            raise ConfigError("linear_attn_config", f"its lists are not of {layers} layers")
        return [FULL if index + first in full else LINEAR for index in range(layers)]
    if (attending := keys.layers_in("attn_layer_indices")) is not None:
        return [FULL if index in attending else MAMBA for index in range(layers)]
    return None


def _periodic(keys: Keys, layers: int) -> list[str] | None:
    """By a period: the last of every n layers differs, or the one at an offset."""
    if period := keys.number("attn_layer_period"):
        offset = keys.number("attn_layer_offset")
        return [FULL if i % period == offset else MAMBA for i in range(layers)]
    for name, other in (
        ("full_attention_interval", LINEAR), ("layer_group_size", LINEAR),
        ("global_attn_every_n_layers", SLIDING), ("no_rope_layer_interval", CHUNKED),
    ):  # fmt: skip
        if (period := keys.number(name)) > 1 and (other != CHUNKED or keys.number("chunk")):
            return [other if (i + 1) % period else FULL for i in range(layers)]
    if keys.number("chunk") and not keys.number("window"):
        return [CHUNKED if (i + 1) % 4 else FULL for i in range(layers)]
    pattern = keys.value("sliding_window_pattern")
    if isinstance(pattern, int) and pattern > 1 and _slides(keys):
        return [SLIDING if (i + 1) % pattern else FULL for i in range(layers)]
    if isinstance(pattern, str) and re.fullmatch("[LG]+", pattern) and _slides(keys):
        return [SLIDING if pattern[i % len(pattern)] == "L" else FULL for i in range(layers)]
    return None


def _sparse(keys: Keys, layers: int) -> Iterator[bool]:
    """Whether each layer has experts."""
    types = keys.list_of("network_types", layers)
    every = keys.value("moe_every")
    listed = keys.list_of("moe_every", layers) if isinstance(every, list) else None
    chosen, dense = keys.layers_in("moe_layers"), keys.layers_in("dense_layers") or set()
    for index in range(layers):
        if types is not None:
            word = str(types[index]).lower()
            yield "moe" in word or "sparse" in word
        elif listed is not None:
            yield bool(listed[index])
        elif chosen is not None:
            yield index in chosen
        else:
            yield index not in dense and _by_period(keys, index)


def _by_period(keys: Keys, index: int) -> bool:
    first, last = keys.of_layer("dense_first", 0), keys.of_layer("moe_end", 0, MOST_LAYERS)
    if not first <= index <= last:
        return False
    every = max(keys.number("moe_every", 1), 1)
    if keys.name("moe_every") == "moe_layer_freq":
        return index % every == 0
    if keys.name("moe_offset") is not None:
        return index % every == keys.number("moe_offset")
    return (index + 1) % every == 0
