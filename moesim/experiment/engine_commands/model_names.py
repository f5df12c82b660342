"""Models by the names that engines' command lines have: repositories and files, as cards."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from moesim.config.errors import InputError
from moesim.config.paths import look_up
from moesim.model import ModelSpec, load_model, model_names
from moesim.model.chosen import FORMATS, SEPARATOR
from moesim.model.gguf.recipes import RECIPES, SAME
from moesim.model.loader import CARDS

GGUF = ".gguf"
_REPOSITORY = re.compile(r"huggingface\.co/([\w.-]+/[\w.-]+)")
_PART = re.compile(r"-\d{5}-of-\d{5}$")
_FORMAT = re.compile(
    r"[-_.](?P<format>(?:ud-)?(?:i?q\d\w*|tq\d_\d|mxfp4(?:_moe)?|bf16|f16|fp16|f32)"
    r"|fp8(?:-block|-dynamic)?|nvfp4|mxfp4|awq(?:-4bit)?|gptq(?:-int4)?|int4|int8)$"
)
_TRAINED = re.compile(r"-(instruct|thinking|chat|base|it|hf|exp|preview|original|\d{4})$")
_VERSION = re.compile(r"-v\d(\.\d)?$")
"""Words behind a model's name that say how it was trained, not what shape it has."""
_UNSLOTH: Mapping[str, str] = {
    "q2_k_xl": "q2_k", "q3_k_xl": "q3_k_m", "q4_k_xl": "q4_k_m", "q5_k_xl": "q5_k_m",
    "q6_k_xl": "q6_k", "q8_k_xl": "q8_0",
}  # fmt: skip
"""Mixes that are not llama-quantize's, and the nearest of its own."""
_ALIASES: Mapping[str, str] = {"mxfp4": "mxfp4_moe", "fp16": "f16"}
"""Names of files for mixes of llama-quantize."""
_NATIVE = "mxfp4"
"""A format of experts that published GGUF files keep of a model that is published in it: the
converter repacks it, and llama-quantize does not quantise again.
"""
_PLAIN = ("f32", "f16", "bf16")
_OF_NATIVE = "mxfp4_moe"
_CHECKPOINTS: Mapping[str, str] = {
    "fp8": "fp8_block", "fp8-block": "fp8_block", "fp8-dynamic": "fp8", "nvfp4": "nvfp4",
    "awq": "int4", "awq-4bit": "int4", "gptq": "int4", "gptq-int4": "int4", "int4": "int4",
    "int8": "int8",
}  # fmt: skip
"""Names of checkpoints, and their formats of one class; groups of 128 where a name has none."""
_QUANTIZATIONS: Mapping[str, str] = {
    "fp8": "fp8", "w8a8_fp8": "fp8", "modelopt": "fp8", "modelopt_fp8": "fp8",
    "modelopt_fp4": "nvfp4", "w8a8_int8": "int8", "awq": "int4", "awq_marlin": "int4",
    "gptq": "int4", "gptq_marlin": "int4",
}  # fmt: skip
"""Values of ``--quantization``, of vLLM and of SGLang."""
_BY_NAME = ("compressed-tensors", "auto", "none")
"""Values that say only that the checkpoint says it."""


class Named(NamedTuple):
    """A model's name in an experiment; what was assumed, and what is wrong, a sentence each."""

    model: str
    assumed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


@cache
def repositories() -> Mapping[str, str]:
    """The Hugging Face repository of every card that names one in its source."""
    found = {}
    for name in model_names():
        source = json.loads((CARDS / f"{name}.json").read_text(encoding="utf-8")).get("source", "")
        if match := _REPOSITORY.search(source):
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
    """Cards by their own names, by those of their repositories, and by these without training."""
    found = {name: name for name in model_names()}
    for name, repository in repositories().items():
        for shape in _shorter(_plain(repository), _TRAINED):
            found.setdefault(shape, name)
    return found


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


def from_gguf(name: str, folders: Sequence[Path], mix: str | None = None) -> Named:
    """The model of a GGUF file, or of a repository of such files with the ``mix`` that is asked
    for: the file itself if it is here, else the card that its name is of.
    """
    if look_up(name, folders) is not None:
        return Named(name)
    if (card := card_of(name)) is None:
        return _unknown(name)
    text = mix or format_in(name)
    if text is None:
        what = f"'{name}' names no format: taken for {card} as its config.json has it"
        return Named(card, (what,))
    found, wrong = _gguf_format(text)
    if found and experts_format(card) == _NATIVE:
        found, wrong = _of_native(found)
    return Named(_in_format(card, found), _assumed(name, card), (wrong,) if wrong else ())


def usual_mix(repository: str) -> str:
    """What llama.cpp takes of a repository of GGUF files where no mix is asked for: Q4_K_M, or the
    one that there is, as of a model that is published in MXFP4.
    """
    card = card_of(repository)
    return _OF_NATIVE if card and experts_format(card) == _NATIVE else "q4_k_m"


def from_checkpoint(name: str, folders: Sequence[Path], quantization: str | None = None) -> Named:
    """The model of a repository or a folder of safetensors: the folder if it is here, else the card
    that its name is of, in the format of its name or of a ``quantization`` at start.
    """
    if look_up(name, folders) is not None:
        wrong = f"--quantization {quantization}: read as the files have it" if quantization else ""
        return Named(name, (), tuple(filter(None, [wrong])))
    if (card := card_of(name)) is None:
        return _unknown(name)
    asked, text = (quantization or "").lower(), format_in(name) or ""
    found = _CHECKPOINTS.get(text, text)
    if asked and asked not in _BY_NAME:
        found = _QUANTIZATIONS.get(asked, asked)
    if found in ("", "bf16", "fp16", experts_format(card)):
        return Named(card, _assumed(name, card))
    if found not in FORMATS:
        wrong = f"'{asked or text}' is no format that moesim knows: read as {card} has it"
        return Named(card, _assumed(name, card), (wrong,))
    return Named(_in_format(card, found), _assumed(name, card))


def opened(name: str, folders: Sequence[Path]) -> ModelSpec | None:
    """The model of an experiment; None where it cannot be opened."""
    try:
        return load_model(name, folders) if name else None
    except InputError:
        return None


def experts_format(card: str) -> str:
    """The format of a card's own experts."""
    first = load_model(card).moe_layers[:1]
    return next((layer.moe.expert.dtype for layer in first if layer.moe), "")


def _gguf_format(text: str) -> tuple[str | None, str]:
    """A mix of ``llama-quantize`` by the name that files give it, and what is wrong with it."""
    word = text.lower().replace("-", "_")
    plain = word.removeprefix("ud_")
    nearest = _ALIASES.get(plain, _UNSLOTH.get(plain, plain))
    if nearest not in RECIPES and nearest not in SAME:
        return None, f"'{text}' is no mix that moesim knows, so weights are as config.json has them"
    own = word.startswith("ud_") or plain in _UNSLOTH
    remedy = "name the file for exact bytes"
    return nearest, f"'{text}' is its publisher's own mix, taken for {nearest}; {remedy}" * own


def _of_native(mix: str) -> tuple[str | None, str]:
    """What a ``mix`` is of a model whose experts are in MXFP4: they stay so, the rest is in it."""
    if mix in _PLAIN:
        return None, ""
    if mix in (_OF_NATIVE, "q8_0"):
        return _OF_NATIVE, ""
    return _OF_NATIVE, f"experts stay in {_NATIVE} in files of {mix}: taken for {_OF_NATIVE}"


def _unknown(name: str) -> Named:
    return Named(name, (), (f"'{name}' is not here, and its name is of no card: give its path",))


def _assumed(name: str, card: str) -> tuple[str, ...]:
    """What is assumed where the name is of a variant of the card."""
    own = {card, _plain(repositories().get(card, card))}
    return () if own.intersection(_both(name)) else (f"'{name}' is taken for the shape of {card}",)


def _in_format(card: str, chosen: str | None) -> str:
    return f"{card}{SEPARATOR}{chosen}" if chosen else card
