"""Models by the names that people have for them: cards, repositories, files, Ollama's library."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from moesim.config.errors import InputError
from moesim.config.files.paths import look_up
from moesim.config.names import known_name
from moesim.model import loader
from moesim.model.chosen import AS_EXPERTS, FORMATS, SEPARATOR, split_cache, split_format
from moesim.model.gguf.recipes import RECIPES, SAME
from moesim.model.gguf.types import BY_NAME
from moesim.model.gguf.usual import NATIVE as OF_NATIVE
from moesim.model.gguf.usual import USUAL, usual_recipe
from moesim.model.loader import model_names
from moesim.model.networks import in_dense_words, networks_as_experts
from moesim.model.repositories import GGUF, REPOSITORY, card_of, format_in, is_card
from moesim.model.spec import ModelSpec

_PUBLIC = re.compile(rf"(?P<name>{REPOSITORY}|[\w.-]+)(:(?P<tag>[\w.-]+))?")
_SITE = re.compile(r"^(https?://)?(www\.)?(hf\.co|huggingface\.co)/")
_UNSLOTH: Mapping[str, str] = {
    "q2_k_xl": "q2_k", "q3_k_xl": "q3_k_m", "q4_k_xl": "q4_k_m", "q5_k_xl": "q5_k_m",
    "q6_k_xl": "q6_k", "q8_k_xl": "q8_0",
}  # fmt: skip
"""Mixes that are not llama-quantize's, and the nearest of its own."""
_ALIASES: Mapping[str, str] = {"mxfp4": "mxfp4_moe", "fp16": "f16"}
"""Names of files for mixes of llama-quantize."""
_BITS: Mapping[str, str] = {
    "q2": "q2_k", "q3": "q3_k_m", "q4": "q4_k_m", "q5": "q5_k_m", "q6": "q6_k", "q8": "q8_0",
}  # fmt: skip
"""Words that say only how many bits, and the mix that most files of so many have."""
_NATIVE = "mxfp4"
"""A format of experts that published GGUF files keep of a model that is published in it: the
converter repacks it, and llama-quantize does not quantise again.
"""
_PLAIN = ("f32", "f16", "bf16")
_ROWS = re.compile(r"_r(4|8|16)$")
"""The ending of formats whose rows are interleaved for the CPU (ik_llama.cpp)."""
_EXACT = "name the file for exact bytes"
_CHECKPOINTS: Mapping[str, str] = {
    "fp8": "fp8_block", "fp8_block": "fp8_block", "fp16": "bf16", "f16": "bf16",
}  # fmt: skip
"""Names of checkpoints that mean another format than the same word elsewhere."""
_OWN_FP8: Mapping[re.Pattern[str], str] = {
    re.compile(rf"(^|/)({names})"): found
    for names, found in (
        (r"glm-4\.|thudm/|llama-4-", "fp8"),
        ("nvidia/|neuralmagic/|nm-testing/|redhatai/|amd/|tencent/", "fp8_static"),
    )
}
"""Publishers and models whose ``-FP8`` has no blocks of 128 (from memory of their config.json): a
scale a channel and inputs scaled as they come, by compressed-tensors (zai-org, meta-llama), or a
scale a matrix and one set before for its input (ModelOpt, AutoFP8, Quark, AngelSlim).
"""
_WORDS: Mapping[str, str] = {
    **_BITS, "fp8_dynamic": "fp8", "w8a8_fp8": "fp8", "modelopt": "fp8_static",
    "modelopt_fp8": "fp8_static", "fp8_kv": "fp8_static", "modelopt_fp4": "nvfp4", "fp4": "nvfp4",
    "w8a8_int8": "int8", "w8a8": "int8", "w8a16": "int8",
    "awq": "int4", "awq_4bit": "int4", "awq_marlin": "int4", "gptq": "int4", "gptq_int4": "int4",
    "gptq_marlin": "int4", "w4a16": "int4", "4bit": "int4_g64", "8bit": "int8_g64",
}  # fmt: skip
"""Words of checkpoints and of ``--quantization`` (vLLM, SGLang), and their formats; groups of 128
where a word has none, of 64 in those of MLX.
"""
_BY_NAME = ("compressed-tensors", "auto", "none")
"""Values that say only that the checkpoint says it."""


class Named(NamedTuple):
    """A model's name in an experiment; what was assumed, and what is wrong, a sentence each."""

    model: str
    assumed: tuple[str, ...] = ()
    wrong: tuple[str, ...] = ()


def load_model(name: str, folders: Sequence[Path] = ()) -> ModelSpec:
    """The model of a card, of a Hugging Face ``config.json``, or of a GGUF file (any part of a
    split one); a folder stands for the one that it holds. ``NAME@FORMAT`` is the same model in
    other formats (``moesim.model.chosen``), ``ffn-experts:NAME`` a dense one with its networks as
    experts (``moesim.model.networks``).

    A card's name is read as ``config.names`` says; a repository of Hugging Face or a name of
    Ollama's is its card, in the format that it names (``named``), which the model's notes say. A
    relative path is looked up in ``folders``, then in the working directory. InputError says what
    is wrong with the name or the file.
    """
    found = named(name, folders)
    as_experts = found.model.startswith(AS_EXPERTS)
    own = in_dense_words(found.model.removeprefix(AS_EXPERTS)) if as_experts else found.model
    try:
        model = loader.load_model(own, folders)
    except InputError as error:
        if not (instead := _without_file(name)):
            raise
        raise InputError(f"{error}{instead}") from None
    model = networks_as_experts(model) if as_experts else model
    return replace(model, notes=(*model.notes, *found.assumed)) if found.assumed else model


def named(name: str, folders: Sequence[Path] = ()) -> Named:
    """The model ``name`` in moesim's own words: a card's or a file's is itself; what a repository
    or Ollama's library has is its card in the format that the name says. What nobody knows is
    itself too.
    """
    if name.startswith(AS_EXPERTS):
        found = named(name.removeprefix(AS_EXPERTS), folders)
        return found._replace(model=f"{AS_EXPERTS}{found.model}")
    if _is_own(name, folders):
        return Named(name)
    base, chosen = split_format(name)
    found = Named(base) if _is_own(base, folders) else _public(base)
    if chosen is None:
        return found
    card, own = split_format(found.model)
    weights, cache = split_cache(chosen)
    if weights is None:
        chosen = f"{own},{chosen}" if own else chosen
    elif cache is None:
        chosen = _in_words(chosen)
    return found._replace(model=f"{card}{SEPARATOR}{chosen}")


def _without_file(name: str) -> str:
    """What stands for a GGUF file that is not here, by its name."""
    if not name.lower().endswith(GGUF) or card_of(name) is None:
        return ""
    return f"; '{from_gguf(name, ()).model}' is such a model without the file"


def _is_own(name: str, folders: Sequence[Path]) -> bool:
    return known_name(name, model_names()) is not None or loader.is_there(name, folders)


def _public(name: str) -> Named:
    """The card of a repository (``publisher/model``, a mix of a GGUF one behind a colon) or of a
    name of Ollama's (``model:size``); ``name`` itself where there is none.
    """
    found = _PUBLIC.fullmatch(plain := _SITE.sub("", name))
    if found is None or plain.lower().endswith((GGUF, ".json", ".yaml", ".yml")):
        return Named(name)
    repository, tag = found["name"], found["tag"]
    library = "/" not in repository
    whole = f"{repository}-{tag}" if library and tag else repository
    if (card := card_of(whole)) is None:
        return Named(name)
    files = bool(tag) or "gguf" in repository.lower()
    mix = (None if library else tag) or format_in(whole) or usual_mix(whole)
    read = from_gguf(whole, (), mix) if files else from_checkpoint(whole, ())
    shape = "" if is_card(whole, card) else ", a model of its shape"
    told = f"'{name}' is read as {read.model}{shape}"
    return Named(read.model, (told, *read.wrong))


def _in_words(chosen: str) -> str:
    """A format in moesim's words."""
    return _WORDS.get(chosen.strip().lower().replace("-", "_"), chosen)


def from_gguf(name: str, folders: Sequence[Path], mix: str | None = None) -> Named:
    """The model of a GGUF file, or of a repository of such files with the ``mix`` that is asked
    for: the file itself if it is here, else the card that its name is of.
    """
    if look_up(name, folders) is not None:
        return Named(name)
    if (card := card_of(name)) is None:
        public = _public(name)
        return _unknown(name) if public.model == name else public
    text = mix or format_in(name)
    if text is None:
        what = f"'{name}' names no format: taken for {card} as its config.json has it"
        return Named(card, (what,))
    found, wrong = _gguf_format(text, card)
    if found and experts_format(card) == _NATIVE:
        found, wrong = _of_native(found)
    return Named(_in_format(card, found), _assumed(name, card), (wrong,) if wrong else ())


def usual_mix(repository: str) -> str:
    """What llama.cpp takes of a repository of GGUF files where no mix is asked for: Q4_K_M, or the
    one that there is, as of a model that is published in MXFP4.
    """
    card = card_of(repository)
    return usual_recipe(loader.load_model(card)) if card else USUAL


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
    found = _of_checkpoint(name, text)
    if asked in _BY_NAME:
        asked = ""
    elif asked and found in FORMATS and found not in _PLAIN:
        return _of_its_name(name, card, found, asked)
    elif asked:
        found = _in_words(asked)
    if found in ("", experts_format(card)):
        return Named(card, _assumed(name, card))
    if found not in FORMATS:
        wrong = f"'{asked or text}' is no format that moesim knows: read as {card} has it"
        return Named(card, _assumed(name, card), (wrong,))
    return Named(_in_format(card, found), _assumed(name, card))


def _of_checkpoint(name: str, text: str) -> str:
    """The format of a checkpoint ``name`` whose ending is ``text``, in moesim's words."""
    word = text.replace("-", "_")
    plain = _SITE.sub("", name).lower().replace("\\", "/")
    own = next((one for rule, one in _OWN_FP8.items() if word == "fp8" and rule.search(plain)), "")
    return own or _in_words(_CHECKPOINTS.get(word, text))


def _of_its_name(name: str, card: str, found: str, asked: str) -> Named:
    """A quantised checkpoint, of which a ``--quantization`` says how it is read, not what it is."""
    method = FORMATS.get(_in_words(asked))
    wrong = f"--quantization {asked}: the name says {found}, which is read"
    model = card if found == experts_format(card) else _in_format(card, found)
    differs = method is None or method.name != FORMATS[found].name
    return Named(model, _assumed(name, card), (wrong,) if differs else ())


def opened(name: str, folders: Sequence[Path]) -> ModelSpec | None:
    """The model of an experiment; None where it cannot be opened."""
    try:
        return load_model(name, folders) if name else None
    except InputError:
        return None


def experts_format(card: str) -> str:
    """The format of a card's own experts."""
    first = loader.load_model(card).moe_layers[:1]
    return next((layer.moe.expert.dtype for layer in first if layer.moe), "")


def _gguf_format(text: str, card: str) -> tuple[str | None, str]:
    """A mix of ``llama-quantize``, or a type of tensors, by the name that files of ``card`` give
    it, and what is wrong with it.
    """
    word = text.lower().replace("-", "_")
    plain = _not_interleaved(word.removeprefix("ud_"))
    nearest = {**_ALIASES, **_UNSLOTH, **_BITS}.get(plain, plain)
    if nearest in BY_NAME and nearest not in {*RECIPES, *SAME}:
        what = f"'{text}' is a type of tensors, and a mix's others differ: all are read in it"
        return nearest, f"{what}, embedding and head in 16 bits; {_EXACT}"
    if nearest not in RECIPES and nearest not in SAME:
        return None, _as_published(text, card)
    if plain in _BITS:
        return nearest, f"'{text}' says only how many bits: taken for {nearest}"
    if plain != word.removeprefix("ud_"):
        return nearest, f"'{text}' has rows interleaved: taken for {nearest}"
    own = word.startswith("ud_") or plain in _UNSLOTH
    return nearest, f"'{text}' is its publisher's own mix, taken for {nearest}; {_EXACT}" * own


def _not_interleaved(word: str) -> str:
    """A format without the ending of interleaved rows (``_r4``), where these have as many bytes."""
    plain = _ROWS.sub("", word)
    rows = {one.matrix_bytes(1, 4096) for name in (word, plain) if (one := BY_NAME.get(name))}
    return word if len(rows) > 1 else plain


def _as_published(text: str, card: str) -> str:
    """That a format is not known: what is taken instead, how large it is, and what to write."""
    model, bits = loader.load_model(card), re.sub(r"\D.*", "", text.lstrip("udtiq_-"))
    size = f"{experts_format(card)}, {model.bytes / 1e9:,.0f} GB"
    nearest = f"iq{bits}_k" if f"iq{bits}_k" in BY_NAME else "iq4_k"
    what = f"'{text}' is no mix that moesim knows, so weights are as config.json has them ({size})"
    return f"{what}; write the nearest, as --set model={card}{SEPARATOR}{nearest}"


def _of_native(mix: str) -> tuple[str | None, str]:
    """What a ``mix`` is of a model whose experts are in MXFP4: they stay so, the rest is in it."""
    if mix in _PLAIN:
        return None, ""
    if mix in (OF_NATIVE, "q8_0"):
        return OF_NATIVE, ""
    return OF_NATIVE, f"experts stay in {_NATIVE} in files of {mix}: taken for {OF_NATIVE}"


def _unknown(name: str) -> Named:
    return Named(name, (), (f"'{name}' is not here, and its name is of no card: give its path",))


def _assumed(name: str, card: str) -> tuple[str, ...]:
    """What is assumed where the name is of a variant of the card."""
    return () if is_card(name, card) else (f"'{name}' is taken for the shape of {card}",)


def _in_format(card: str, chosen: str | None) -> str:
    return f"{card}{SEPARATOR}{chosen}" if chosen else card
