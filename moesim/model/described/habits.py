"""Small parts that no key of a config.json speaks of, by the words of its model type.

They are less than a thousandth of a model; without an entry the usual is taken, and totals stay
within that. Checked against transformers' modules.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any


@dataclass(frozen=True)
class Habits:
    """``qk_norm``: norms on queries and keys, over one ``head`` each or ``all`` of them; ``norms``
    a layer; ``router_bias`` of a router's matrix; ``shared_gate``: a gate of the shared expert's
    own; ``expert_bias``, ``sinks``: as gpt-oss has them; ``gate`` of attention's output; ``shared``
    experts; ``double``: a layer is two blocks of attention and dense network, with experts beside.
    """

    qk_norm: str = ""
    norms: int = 2
    router_bias: bool = False
    shared_gate: bool = False
    expert_bias: bool = False
    attention_bias: bool | None = None
    output_bias: bool | None = None
    layer_norm_bias: bool = False
    sinks: bool = False
    tied: bool = False
    correction: bool | None = None
    gate: bool = False
    shared: int = 0
    double: bool = False


_BY_WORD: tuple[tuple[str, Habits], ...] = (
    ("qwen3_next", Habits(qk_norm="head", shared_gate=True, gate=True)),
    ("qwen3_5", Habits(qk_norm="head", shared_gate=True, gate=True)),
    ("deepseek_v3", Habits(correction=True)),
    ("glm_moe", Habits(correction=True)),
    ("kimi", Habits(correction=True)),
    ("sarvam", Habits(qk_norm="head", correction=True)),
    ("solar", Habits(correction=True)),
    ("ernie4_5", Habits(correction=True)),
    ("nemotron", Habits(correction=True)),
    ("qwen3", Habits(qk_norm="head", output_bias=None)),
    ("qwen2_moe", Habits(attention_bias=True, output_bias=False, shared_gate=True)),
    ("gpt_oss", Habits(attention_bias=True, expert_bias=True, router_bias=True, sinks=True)),
    ("olmoe", Habits(qk_norm="all")),
    ("flex_olmo", Habits(qk_norm="all")),
    ("minimax_m3", Habits(qk_norm="head", correction=True)),
    ("minimax_m", Habits(qk_norm="all", correction=True)),
    ("glm4_moe", Habits(output_bias=False, correction=True)),
    ("glm4v_moe", Habits(output_bias=False, correction=True)),
    ("afmoe", Habits(qk_norm="head", norms=4, correction=True, gate=True)),
    ("lfm2_moe", Habits(qk_norm="head", tied=True)),
    ("hy_v4", Habits(gate=True, sinks=True, correction=False)),
    ("hy_v3", Habits(qk_norm="head", correction=True)),
    ("inkling2", Habits(gate=True, correction=True)),
    ("dots1", Habits(qk_norm="head", correction=True)),
    ("exaone_moe", Habits(qk_norm="head", correction=True)),
    ("hunyuan", Habits(qk_norm="head")),
    ("gemma4", Habits(qk_norm="head", norms=7, tied=True)),
    ("gemma", Habits(qk_norm="head", norms=4, tied=True)),
    ("phimoe", Habits(layer_norm_bias=True)),
    ("cohere", Habits(norms=1, tied=True)),
    ("longcat", Habits(double=True, correction=True)),
    ("step3p", Habits(qk_norm="head")),
    ("llama4", Habits(shared=1)),
    ("bailing", Habits(qk_norm="head")),
)
"""By a word in the model type, the most special first."""
_DEFAULT = Habits()
NO_AUX = ("noaux", "sigmoid", "sqrtsoftplus")


def habits_of(config: Mapping[str, Any]) -> Habits:
    """The habits of a configuration."""
    name = str(config.get("model_type") or "").lower()
    found = next((habits for word, habits in _BY_WORD if word in name), _DEFAULT)
    return replace(found, correction=_corrects(config, found))


def _corrects(config: Mapping[str, Any], habits: Habits) -> bool:
    """Whether the router has a score correction for each expert."""
    said = [config.get(key) for key in ("use_routing_bias", "moe_router_enable_expert_bias",
                                        "use_moe_router_bias", "use_expert_bias")]  # fmt: skip
    if any(value is not None for value in said):
        return any(bool(value) for value in said)
    if habits.correction is not None:
        return habits.correction
    words = " ".join(str(config.get(key, "")) for key in ("topk_method", "scoring_func",
                     "moe_router_activation_func", "score_function"))  # fmt: skip
    return any(word in words for word in NO_AUX)
