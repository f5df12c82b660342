"""Machines and their parts by the names that people and tools have for them.

``nvidia-smi`` says 'NVIDIA GeForce RTX 4090' or 'NVIDIA H100 80GB HBM3', ``lscpu`` 'AMD Ryzen 9
7950X 16-Core Processor', people 'RTX 4090 24GB'. One rule reads them all: words of vendors and of
packaging say nothing, letters and what stands between words neither; what is left has to be the
same, and memory, form factor, channels and the like must agree where both say them.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from difflib import SequenceMatcher
from functools import cache
from typing import NamedTuple

from moesim.config.files.paths import shipped_folder
from moesim.config.names import known_name, plain_name

FOLDER = "hardware_profiles"
FITTED = "fitted to one run"
"""How the title ends of a host that 'moesim calibrate host' made."""
FEW = 4
"""Names that are told as near."""
ALIKE = 0.6
"""How much of two names has to be the same for one to be near the other."""
_TITLE = re.compile(r'^title:\s*"?(.*?)"?\s*$', re.MULTILINE)
_BASE = re.compile(r"^base:\s*(\S+)\s*$", re.MULTILINE)
_HEAD_BYTES = 4096
_ASIDE = re.compile(r"\(([^()]*)\)")
_MARKS = re.compile(r"\((?:r|tm|c)\)|[®™©]")
_BEHIND = re.compile(r"(?:\s@|\sw/|\swith\s|[,;]).*")
"""Of a processor: its clock, its graphics; of a title: what is told beside the name."""
_NOISE = re.compile(
    r"(?<![a-z0-9])(?:nvidia|geforce|tesla|amd|ati|radeon|instinct|intel|apple|rtx|rx|core|cpu|gpu"
    r"|graphics|processor|hbm\d?e?|oam|ac|workstation|server|founders|edition|\d+-cores?"
    r"|(?:imac|mac(?:book)?)(?:-(?:pro|air|studio|mini))?"
    r"|\d+(?:st|nd|rd|th)-gen)(?![a-z0-9])|(?<![a-z0-9])(?:rtx|rx)(?=\d)"
)
_STATED: Mapping[str, re.Pattern[str]] = {
    name: re.compile(rf"(?<![a-z0-9]){pattern}(?![a-z0-9])")
    for name, pattern in {
        "memory": r"(\d+)-?gi?b", "form": r"(sxm|pcie)\d?", "rate": r"ddr\d-(\d{4})",
        "generation": r"ddr(\d)(?:-\d{4})?", "channels": r"(\d+)-?ch(?:annels?)?",
        "sockets": r"([12])s", "threads": r"(\d+)t", "experts by": r"(amx)",
    }.items()
}  # fmt: skip
"""What a name may say or leave open."""
_SLOT = re.compile(r"pcie\d")
_SEVERAL = re.compile(r"(?P<number>\d+)\s*[x*]\s*(?P<part>.+)", re.IGNORECASE)
"""Several of a GPU, as in '8x H100'."""

RENTED: Mapping[str, str] = {
    "p4d.24xlarge": "a100-sxm-40gb", "p4de.24xlarge": "dgx-a100", "p5.48xlarge": "dgx-h100",
    "p5.4xlarge": "h100-sxm", "p5e.48xlarge": "dgx-h200", "p5en.48xlarge": "dgx-h200",
    "p6-b200.48xlarge": "dgx-b200", "g4dn.xlarge": "t4", "g5.xlarge": "a10g", "g6.xlarge": "l4",
    "g6e.xlarge": "l40s", "a2-highgpu-8g": "a100-sxm-40gb", "a2-ultragpu-8g": "dgx-a100",
    "a3-highgpu-8g": "dgx-h100", "a3-megagpu-8g": "dgx-h100", "a3-ultragpu-8g": "dgx-h200",
    "a4-highgpu-8g": "dgx-b200", "g2-standard-4": "l4", "nd96isr_h100_v5": "dgx-h100",
    "nd96isr_h200_v5": "dgx-h200", "nd96amsr_a100_v4": "dgx-a100",
    "nc24ads_a100_v4": "a100-pcie-80gb", "nc40ads_h100_v5": "h100-nvl",
}  # fmt: skip
"""Machines that clouds rent, and what has their GPUs (from memory)."""


PLATFORMS: Mapping[str, str] = {
    r"epyc 7[\da-z]\d2": "epyc-7002", r"epyc 7[\da-z]\d3": "epyc-7003",
    r"epyc 9[\da-z]\d4": "epyc-9004", r"epyc 9[\da-z]\d5": "epyc-9005",
    r"e5-\d{4}[a-z]? v4": "xeon-v4", r"(?:gold|silver|platinum) \d2\d\d": "xeon-2nd",
    r"(?:gold|silver|platinum) \d3\d\d": "xeon-3rd",
    r"(?:gold|silver|platinum) \d4\d\d": "xeon-4th",
    r"(?:gold|silver|platinum) \d5\d\d": "xeon-5th", r"xeon.* 6\d\d\d[pe]": "xeon-6",
    r"threadripper pro [35]\d\d\dwx": "ddr4-3200-8ch",
    r"threadripper [23]\d\d\dw?x": "ddr4-3200-4ch",
    r"threadripper pro [79]\d\d\dwx": "ddr5-5200-8ch", r"threadripper [79]\d\d\dx": "ddr5-5200-4ch",
    r"ryzen \d [1-5]\d\d\d": "ddr4-3200-2ch", r"ryzen \d 7\d\d\d": "ddr5-5600-2ch",
    r"ryzen \d 9\d\d\d": "ddr5-6000-2ch", r"i[3579]-(?:[6-9]|1[01])\d\d\d": "ddr4-3200-2ch",
    r"i[3579]-1[2-4]\d\d\d": "ddr5-5600-2ch", r"ultra \d 2\d\d": "ddr5-6400-2ch",
}  # fmt: skip
"""CPUs by their numbers, and how the hosts begin that they usually stand in (from memory)."""


class Meant(NamedTuple):
    """What a name says: the ``words`` that are left, as one, and what else it ``states``."""

    words: str
    states: Mapping[str, str]


def known_part(name: str, known: Collection[str]) -> str | None:
    """The one of ``known`` machines or parts that ``name`` means; None where it is none, or may be
    several.
    """
    if (same := known_name(name, known)) is not None:
        return same
    found = _meant(name, known)
    return found[0] if len(found) == 1 else None


def near_parts(name: str, known: Collection[str]) -> str:
    """What to write for a ``name`` that is none of ``known``, for the end of a sentence."""
    if len(found := _meant(name, known)) > 1:
        more = ", ..." if len(found) > FEW else ""
        return f"it may be any of {', '.join(found[:FEW])}{more}; write which"
    if usual := _of_platform(name, known):
        return f"its usual hosts: {', '.join(usual[:FEW])}; which memory it has is yours to say"
    word, words = plain_name(name), _read(name).words
    close = [one for one in sorted(known) if words and words in _words_of(one)]
    close = close or [one for one in sorted(known) if word and _ends_of(one, word, words)]
    close = close or [one for one in sorted(known) if _any_order(words) in _orders_of(one)]
    close = close or [one for one in sorted(known) if _begins(words, one)]
    close = close or sorted(
        (one for one in known if _likeness(words, one) >= ALIKE),
        key=lambda one: (-_likeness(words, one), one),
    )
    if len(close) == 1:
        return f"did you mean '{close[0]}'?"
    return f"near it: {', '.join(close[:FEW])}" if close else f"for example {min(known)}"


def _of_platform(name: str, known: Collection[str]) -> list[str]:
    """Those of ``known`` in which a CPU of this ``name`` usually stands; where it says its memory,
    and there are such, those that have it.
    """
    text, asked = _MARKS.sub("", name.lower()), _read(name)
    found = [begin for pattern, begin in PLATFORMS.items() if re.search(pattern, text)]
    usual = [one for begin in found for one in sorted(known) if one.startswith(f"{begin}-")]
    if not usual or not asked.states:
        return usual
    alike = [one for one in sorted(known) if _kind_of_memory(one) == _kind_of_memory(usual[0])]
    return [one for one in dict.fromkeys((*usual, *alike)) if _agree(asked, one)] or usual


def _kind_of_memory(one: str) -> tuple[str, str | None, str | None]:
    """By which a host that names no CPU may stand for another: its generation and channels."""
    read = _read(one)
    return read.words, read.states.get("generation"), read.states.get("channels")


def near_gpus(name: str, known: Collection[str]) -> str:
    """As ``near_parts``, of GPUs and machines, which may be several or rented."""
    if (several := _SEVERAL.fullmatch(name)) and (one := known_part(several["part"], known)):
        number = several["number"]
        return f"write '{one}', and parallelism: {{expert: {number}}} or --gpus {number}"
    if rented := RENTED.get(name.lower().strip()):
        return f"its GPUs are those of '{rented}': write that, and its host where you know it"
    return _with_memory(name, known) or near_parts(name, known)


def _with_memory(name: str, known: Collection[str]) -> str | None:
    """What to write for a card of ``known`` with a memory that none ships with."""
    asked = _read(name)
    others = {key: value for key, value in asked.states.items() if key != "memory"}
    card = Meant(asked.words, others)
    same = [one for one in sorted(known) if card.words in _words_of(one) and _agree(card, one)]
    if "memory" not in asked.states or not card.words or not same:
        return None
    base, memory = same[0], f"{asked.states['memory']} GB"
    what = f"'{base}' has another memory: write gpu: {{base: {base}, memory: {memory}}} in hardware"
    return f"{what}, or that name and --set 'hardware.gpu.memory={memory}'"


def fitted_names(known: Collection[str]) -> list[str]:
    """Those of ``known`` whose title says that they were fitted to a run."""
    return [one for one in known if _head(one).title.endswith(FITTED)]


def _meant(name: str, known: Collection[str]) -> list[str]:
    """All of ``known`` that ``name`` may mean, sorted."""
    asked = _read(name)
    if not asked.words and not asked.states:
        return []
    found = [one for one in known if asked.words in _words_of(one) and _agree(asked, one)]
    if "memory" not in asked.states:
        found = [one for one in found if _head(one).base not in found]
    return sorted(found if "form" in asked.states else _without_slots(found))


def _without_slots(found: Collection[str]) -> Iterator[str]:
    """Those of ``found`` that are no PCIe card of a module that is among them, with as much memory:
    of such a card drivers and people say it.
    """
    states = {one: _states_of(one) for one in found}
    modules = {own.get("memory") for own in states.values() if own.get("form") == "sxm"}
    for one, own in states.items():
        if own.get("form") != "pcie" or own.get("memory") not in modules:
            yield one


def _agree(asked: Meant, one: str) -> bool:
    states = _states_of(one)
    return all(states.get(key) == value for key, value in asked.states.items())


def _any_order(words: str) -> tuple[str, ...]:
    """Runs of letters and of digits, sorted: of '6000pro' those of 'pro6000'."""
    return tuple(sorted(re.findall(r"[a-z]+|\d+", words)))


def _orders_of(one: str) -> set[tuple[str, ...]]:
    return {_any_order(words) for words in _words_of(one) if words}


def _ends_of(one: str, word: str, words: str) -> bool:
    """Whether ``one`` begins with the ``word``, or one of its names ends with its ``words``."""
    return one.startswith(word) or any(words and own.endswith(words) for own in _words_of(one))


def _begins(words: str, one: str) -> bool:
    return any(own and words.startswith(own) for own in _words_of(one))


def _likeness(words: str, one: str) -> float:
    return max(SequenceMatcher(None, words, own).ratio() for own in _words_of(one))


@cache
def _read(name: str) -> Meant:
    """What ``name`` says."""
    text = plain_name(_BEHIND.sub("", _MARKS.sub(" ", name.lower())))
    states: dict[str, str] = {}
    slots = _SLOT.search(text) is not None
    for key, pattern in _STATED.items():
        if (found := pattern.search(text)) and not (key == "form" and slots):
            states[key] = found[1]
    for key in states:
        text = _STATED[key].sub(" ", text)
    return Meant(re.sub(r"[^a-z0-9]", "", _NOISE.sub(" ", text)), states)


@cache
def _words_of(one: str) -> tuple[str, ...]:
    """The words of a shipped file's name and title, and of what its title has in brackets."""
    title = _head(one).title
    told = [_ASIDE.sub(" ", title), *_ASIDE.findall(title)] if title else []
    return (_read(one).words, *(words for text in told if (words := _read(text).words)))


@cache
def _states_of(one: str) -> Mapping[str, str]:
    """What the name and the title say beside."""
    return {**_read(_ASIDE.sub(" ", _head(one).title)).states, **_read(one).states}


class _Head(NamedTuple):
    """What a shipped file begins with; ``base``: whose other size it is."""

    title: str
    base: str | None


_UNTITLED = _Head("", None)


def _head(one: str) -> _Head:
    return _heads().get(one, _UNTITLED)


@cache
def _heads() -> Mapping[str, _Head]:
    """Of all shipped machines and parts that have a title."""
    return dict(_read_heads())


def _read_heads() -> Iterator[tuple[str, _Head]]:
    whole = shipped_folder() / FOLDER
    for folder in (whole / "hosts", whole / "gpus", whole):
        for path in folder.glob("*.yaml"):
            with path.open(encoding="utf-8") as file:
                head = file.read(_HEAD_BYTES)
            if title := _TITLE.search(head):
                base = _BASE.search(head)
                yield path.stem, _Head(title[1], base[1] if base else None)
