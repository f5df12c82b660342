"""Versions of software as people name them, and which profile prices each."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from moesim.config.errors import nearest
from moesim.config.files.paths import shipped_folder
from moesim.config.files.shipped import stems
from moesim.config.names import known_name, plain_name

FOLDER = "hardware_profiles/software"
Version = tuple[int, ...]
ON_LLAMA_CPP = ("ollama", "lm-studio", "lmstudio", "koboldcpp", "llamafile", "jan", "gpt4all")
YEARS = range(2000, 2100)
OTHERS = ("mlx", "mlx-lm", "exllama", "exllamav2", "exllamav3", "tabbyapi", "mistral.rs", "tgi",
          "lmdeploy", "aphrodite")  # fmt: skip
"""Engines whose kernels no profile has."""
_SINCE = re.compile(r'^since:\s*"?([^"\s]+)', re.MULTILINE)
_VERSION = re.compile(r"[bv]?\d[\dx]*(?:[.-][\dx]+)*(?:[.-]?(?:rc|post|dev|a|b)\d*)?")


def version_of(text: str) -> Version | None:
    """The numbers of a version: of b6512 (6512,), of v0.19.1 (0, 19, 1), of b7xxx (7000,)."""
    if not _VERSION.fullmatch(text):
        return None
    return tuple(int(number) for number in re.findall(r"\d+", text.replace("x", "0")))


@cache
def _said() -> Mapping[str, str]:
    """The shipped profiles that say from which version on they hold, and it, as written."""
    found = {}
    for name in stems(shipped_folder() / FOLDER, ".yaml"):
        text = (shipped_folder() / FOLDER / f"{name}.yaml").read_text(encoding="utf-8")
        if said := _SINCE.search(text):
            found[name] = said[1]
    return found


@cache
def _since() -> Mapping[str, Version]:
    """The same, in numbers."""
    return {name: version_of(said) or (0,) for name, said in _said().items()}


def _of_engine(engine: str) -> list[str]:
    """The profiles of an engine that say since when, the oldest first."""
    since = _since()
    own = [one for one in since if plain_name(one).partition("@")[0] == engine]
    return sorted(own, key=since.__getitem__)


def _begins(profile: str, asked: Version) -> bool:
    """Whether ``profile`` holds from the version on that is ``asked`` for, or one inside it."""
    return _since()[profile][: len(asked)] <= asked


def _counts_as(profile: str, asked: Version | None) -> bool:
    """Whether ``asked`` is a version as those of ``profile`` are, which are months or are not: none
    is before a build.
    """
    if asked is None:
        return False
    if _since()[profile][0] in YEARS:
        return asked[0] in YEARS
    return asked[0] not in YEARS or len(asked) == 1


def software_named(name: str, known: list[str]) -> str | None:
    """The one of ``known`` profiles that prices software ``name``: its own; that of the latest
    version at or before it, or of the oldest; of an engine alone, the youngest. None: of none.
    """
    if (same := known_name(name, known)) is not None:
        return same
    engine, _, version = plain_name(name).partition("@")
    own, asked = _of_engine(engine), version_of(version)
    if not own or (version and not _counts_as(own[0], asked)):
        return None
    if asked is None:
        return own[-1]
    return next((one for one in reversed(own) if _begins(one, asked)), own[0])


def priced_as(name: str, known: list[str]) -> str | None:
    """What to say of software ``name`` where a profile of another version prices it, else None."""
    found = software_named(name, known)
    if found is None or found == known_name(name, known):
        return None
    asked = version_of(plain_name(name).partition("@")[2])
    if asked is None:
        return f"'{name}' is priced as '{found}', its youngest version here"
    if not _begins(found, asked):
        return f"'{name}' is older than all versions here, and priced as '{found}', the oldest"
    return f"'{name}' is priced as '{found}', the latest version here at or before it"


def near_software(name: str, known: list[str]) -> str:
    """What to write for a ``name`` that no profile prices, for the end of a sentence."""
    engine, _, version = plain_name(name).partition("@")
    if engine in ON_LLAMA_CPP:
        return "it runs llama.cpp's kernels: write llama.cpp, or its build, as in llama.cpp@b6500"
    if engine in OTHERS:
        return "nobody has counted its kernels; of what is here llama.cpp may be nearest"
    own = [one for one in known if plain_name(one).partition("@")[0] == engine]
    if version and own:
        what = f"'{version}' is no version of {name.partition('@')[0]}"
        if version_of(version) and (known_since := _of_engine(engine)):
            what += f", whose are as {_said()[known_since[0]]}"
        return f"{what}; {nearest(plain_name(name), own)}"
    return nearest(plain_name(name), known)
