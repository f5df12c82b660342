"""Cards by the names that repositories, files and Ollama's library have for their models."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache

from moesim.model.loader import CARDS, model_names

GGUF = ".gguf"
REPOSITORY = "[\\w.-]+/[\\w.-]+"
"""A publisher and a model, as Hugging Face has them."""
_SOURCE = re.compile(rf"huggingface\.co/({REPOSITORY})")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_FORMAT = re.compile(
    r"[-_.](?P<format>(?:ud-)?(?:i?q\d\w*|tq\d_\d|mxfp4(?:_moe)?|bf16|f16|fp16|f32)"
    r"|fp8(?:-block|-dynamic|-kv)?|nvfp4|fp4|mxfp4|awq(?:-4bit)?|gptq(?:-int4)?|int4|int8"
    r"|w4a16|w8a8|w8a16|[2-8]bit)(?:-v\d)?$"
)
_TRAINED = re.compile(
    r"-(instruct|thinking|chat|base|it|pt|hf|exp|preview|original|latest|quantized|mlx|smol|mix|\d{4})$"
)
_VERSION = re.compile(r"-v\d(\.\d)?$")
"""Words behind a model's name that say how it was trained, not what shape it has."""
_ACTIVE = re.compile(r"-a\d+(\.\d+)?b$")
"""The active parameters, which short names leave out: qwen3-30b."""
_SHAPES: Mapping[str, str] = {
    "deepseek-r1-671b": "deepseek-r1", "deepseek-v3-671b": "deepseek-v3",
    "deepseek-v2.5": "deepseek-v2", "deepseek-v2-236b": "deepseek-v2",
    "deepseek-v2-16b": "deepseek-v2-lite", "deepseek-coder-v2": "deepseek-v2",
    "deepseek-coder-v2-236b": "deepseek-v2", "deepseek-coder-v2-16b": "deepseek-v2-lite",
    "deepseek-coder-v2-lite": "deepseek-v2-lite", "dots.llm1.inst": "dots-llm1",
    "gpt-oss": "gpt-oss-20b", "gpt-oss-safeguard-20b": "gpt-oss-20b",
    "gpt-oss-safeguard-120b": "gpt-oss-120b", "llama4": "llama-4-scout",
    "llama4-16x17b": "llama-4-scout", "llama4-128x17b": "llama-4-maverick",
    "llama4-maverick": "llama-4-maverick", "mixtral": "mixtral-8x7b",
    "qwen3-coder": "qwen3-coder-30b-a3b", "ring-1t": "ling-1t", "ring-flash-2.0": "ling-flash-2.0",
    "ring-mini-2.0": "ling-mini-2.0", "qwen3-coder-next": "qwen3-next-80b-a3b",
    "olmoe": "olmoe-1b-7b", "solar-open": "solar-open-100b", "step-3.5-flash": "step-3.7-flash",
    "deepseek-v3.1": "deepseek-v3", "deepseek-v3.1-terminus": "deepseek-v3",
    "deepseek-v3.1-671b": "deepseek-v3", "glm-4.7": "glm-4.6", "kimi-k2-thinking": "kimi-k2.5",
    "llama4-scout": "llama-4-scout", "minimax-m2": "minimax-m2.5", "minimax-m2.1": "minimax-m2.5",
    "qwen3-30b-a3b-thinking-2507": "qwen3-30b-a3b-2507", "glm-4.6v": "glm-4.5-air",
    "qwen3-vl-235b-a22b": "qwen3-235b-a22b-2507",
    "qwen3-235b-a22b-thinking-2507": "qwen3-235b-a22b-2507",
}  # fmt: skip
"""Names that no card has, and the cards of their shape, context and formats (from memory)."""


@cache
def repositories() -> Mapping[str, str]:
    """The Hugging Face repository of every card that names one in its source."""
    found = {}
    for name in model_names():
        source = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8")).get("source", "")
        if match := _SOURCE.search(source):
            found[name] = match[1]
    return found


def card_of(name: str) -> str | None:
    """The card of a repository, or of the last part of one, in any variant of training and format;
    None where no card has it.
    """
    known = _cards()
    shapes = (shape for one in _both(name) for shape in _shorter(one, _TRAINED, _VERSION))
    return next((known[shape] for shape in shapes if shape in known), None)


@cache
def _cards() -> Mapping[str, str]:
    """Cards by their own names, by those of their repositories, by these without training, and by
    all of them without their active parameters.
    """
    found = {name: name for name in model_names()} | dict(_SHAPES)
    for name, repository in repositories().items():
        for shape in _shorter(_plain(repository), _TRAINED):
            found.setdefault(shape, name)
    return {_ACTIVE.sub("", name): card for name, card in found.items()} | found


def _shorter(name: str, *endings: re.Pattern[str]) -> Iterator[str]:
    """``name``, then without one more of the ``endings`` each time."""
    yield name
    for ending in endings:
        if (shorter := ending.sub("", name)) != name:
            yield from _shorter(shorter, *endings)
            return


def _plain(name: str) -> str:
    """The last part of a path or repository, without formats."""
    return list(_shorter(_last(name), _FORMAT))[-1]


def _both(name: str) -> tuple[str, str]:
    """The plain name, and that without a publisher, as files may have it: openai_gpt-oss-20b."""
    return _plain(name), _plain(name).partition("_")[2]


def _last(name: str) -> str:
    """The last part of a path or repository, without what files and repositories add to it."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1].lower()
    return _PART.sub("", last.removesuffix(GGUF)).removesuffix("-gguf")


def format_in(name: str) -> str | None:
    """The format that a file's or a repository's name ends with, in lower case."""
    found = _FORMAT.search(_last(name))
    return found["format"] if found else None


def is_checkpoint(name: str) -> bool:
    """Whether ``name`` is a repository, and not one of GGUF files."""
    return re.fullmatch(REPOSITORY, name) is not None and GGUF[1:] not in name.lower()


def is_card(name: str, card: str) -> bool:
    """Whether ``name`` is of the very model of ``card``, not of another one of its shape."""
    own = {card, _plain(repositories().get(card, card))}
    return any({one, _ACTIVE.sub("", one)}.intersection(_both(name)) for one in own)
