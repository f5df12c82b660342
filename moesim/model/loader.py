"""The door for models: a shipped card by name, or a user's config.json or GGUF file by path."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from moesim.config.errors import InputError, Problem, nearest
from moesim.config.files.file_kinds import MODEL, check_kind
from moesim.config.files.paths import expanded
from moesim.config.files.shipped import made_once, stems
from moesim.config.json_text import read_object
from moesim.config.names import known_name, plain_name
from moesim.config.strict_yaml.yaml import compose_file
from moesim.model.chosen import (
    SEPARATOR,
    chosen_formats,
    renamed,
    split_cache,
    split_format,
    with_cache,
)
from moesim.model.described import ConfigError, describe_config
from moesim.model.described.keys import language_model
from moesim.model.family import Family, family_for
from moesim.model.gguf import is_gguf, load_gguf
from moesim.model.gguf.files import in_folder
from moesim.model.quantization import QuantizationConfig, from_quantization_file
from moesim.model.spec import ModelSpec

CARDS = Path(__file__).parent / "cards"
ATTENTION = {"full_attention", "sliding_attention"}
"""What families know of ``layer_types``; a model with others is described by its keys."""
_CONFIG, _QUANTIZATION = "config.json", "hf_quant_config.json"


def model_names() -> list[str]:
    """The names of the shipped cards, sorted."""
    return stems(CARDS, ".json")


def load_model(name_or_path: str, folders: Sequence[Path] = ()) -> ModelSpec:
    """As ``named.load_model``, of cards by their own names alone."""
    base, chosen = split_format(name_or_path)
    if chosen is not None and not is_there(name_or_path, folders):
        if (known := known_name(base, model_names())) is None:
            return _with_format(base, chosen, folders)
        return made_once((CARDS, known, chosen), partial(_with_format, known, chosen, ()))
    if (known := known_name(name_or_path, model_names())) is not None:
        return made_once((CARDS, known), partial(_build, CARDS / f"{known}.json", known))
    path = _find(name_or_path, folders)
    if is_gguf(path):
        return load_gguf(path)
    if path.suffix in (".yaml", ".yml"):
        check_kind(compose_file(path).data, MODEL, str(path))
    name = path.stem if path.name != _CONFIG else path.resolve().parent.name
    return _build(path, name)


def _find(name_or_path: str, folders: Sequence[Path]) -> Path:
    relative = expanded(name_or_path)
    for folder in (*folders, Path()):
        try:
            if (folder / relative).is_dir():
                return _in_folder(folder / relative)
            if (folder / relative).exists():
                return folder / relative
        except (OSError, ValueError):
            continue
    what = (
        f"model '{name_or_path}' is neither a shipped card nor a path to a {_CONFIG} or GGUF file"
    )
    if relative.suffix in (".json", ".gguf"):
        raise InputError(f"{what}: there is no such file")
    known = nearest(plain_name(name_or_path), model_names())
    what += ", nor a repository or a name in Ollama's library of a card"
    raise InputError(f"{what}; write the path of its {_CONFIG} (a small file), or a card: {known}")


def is_there(path: str, folders: Sequence[Path]) -> bool:
    """Whether ``path`` is in one of ``folders`` or in the working directory."""
    with suppress(OSError, ValueError):
        return any((folder / expanded(path)).exists() for folder in (*folders, Path()))
    return False


def _with_format(base: str, chosen: str, folders: Sequence[Path]) -> ModelSpec:
    """The model ``base`` with the formats ``chosen`` in place of its own, and in its name."""
    weights, cache = split_cache(chosen)
    model = _with_weights(base, weights, folders) if weights else load_model(base, folders)
    if cache is None:
        return model
    name = f"{split_format(model.name)[0]}{SEPARATOR}{chosen}"
    return replace(with_cache(model, cache), name=name)


def _with_weights(base: str, chosen: str, folders: Sequence[Path]) -> ModelSpec:
    model = load_model(base, folders)
    known = known_name(base, model_names())
    path = CARDS / f"{known}.json" if known else _find(base, folders)
    if is_gguf(path):
        what = f"has formats of its own; name it without '{SEPARATOR}{chosen}'"
        raise InputError([Problem(str(path), "", what)])
    formats = chosen_formats(chosen, model)
    return renamed(_build(path, model.name, formats), chosen, formats)


def _in_folder(folder: Path) -> Path:
    config = folder / _CONFIG
    if (found := config if config.exists() else in_folder(folder)) is not None:
        return found
    what = f"is a folder with neither a {_CONFIG} nor a GGUF file, so no model"
    raise InputError([Problem(str(folder), "", what)])


def _build(path: Path, name: str, formats: QuantizationConfig | None = None) -> ModelSpec:
    config = read_object(path, _CONFIG, strict=False)
    check_kind(config, MODEL, str(path))
    beside = path.with_name(path.name.removesuffix(_CONFIG) + _QUANTIZATION)
    if path.name.endswith(_CONFIG) and not _quantization(config) and beside.is_file():
        config["quantization_config"] = from_quantization_file(read_object(beside, strict=False))
    if formats is not None:
        config = {**language_model(config), "quantization_config": formats}
    if (family := _family(config)) is None:
        try:
            return describe_config(config, name)
        except ConfigError as error:
            raise InputError([Problem(str(path), error.key, error.what)]) from None
    try:
        read = family.model_validate(config)
        model, quantization = read.build(name), read.weights.quantization
    except ValidationError as error:
        raise InputError(_problems(error, str(path), family)) from None
    return replace(model, notes=(*model.notes, *(quantization.notes if quantization else ())))


def _quantization(config: dict[str, Any]) -> Any:
    return language_model(config).get("quantization_config")


def _family(config: dict[str, Any]) -> type[Family] | None:
    types = config.get("layer_types")
    if isinstance(types, list) and not {str(one) for one in types} <= ATTENTION:
        return None
    model_type, architectures = config.get("model_type"), config.get("architectures")
    names = [str(name) for name in architectures] if isinstance(architectures, list) else []
    return family_for(model_type if isinstance(model_type, str) else None, names)


def _problems(error: ValidationError, where: str, family: type[Family]) -> list[Problem]:
    details = error.errors(include_url=False)
    missing = [_path(detail["loc"]) for detail in details if detail["type"] == "missing"]
    found = [
        Problem(where, _path(detail["loc"]), _what(detail["input"], detail["msg"], detail["type"]))
        for detail in details
        if detail["type"] != "missing"
    ]
    if missing:
        what = f"a model of the family {family.kind} needs {', '.join(missing)}: missing"
        found.insert(0, Problem(where, "", what))
    return found


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location)


def _what(value: Any, message: str, kind: str) -> str:
    if kind == "value_error":
        return message.removeprefix("Value error, ")
    shown = json.dumps(value, default=str)
    return f"{shown[:60]}: {message[0].lower()}{message[1:]}"
