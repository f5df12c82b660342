"""Names of modules in checkpoints, as quantisation blocks list them, whatever their dialect."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

_WRAPPERS = re.compile(
    r"^(?:(?:model|language_model|text_model|backbone|transformer|module|llm|thinker)\.)+"
)
_SAME = {
    "attn": "self_attn", "attention": "self_attn",
    "ffn": "mlp", "feed_forward": "mlp", "block_sparse_moe": "mlp", "moe": "mlp",
    "shared_experts": "shared_expert", "shared_mlp": "shared_expert",
    "w1": "gate_proj", "w3": "up_proj", "w2": "down_proj", "fc1": "up_proj", "fc2": "down_proj",
    "wq_a": "q_a_proj", "wq_b": "q_b_proj", "wkv": "kv_proj", "wo_a": "o_a_proj",
    "wo_b": "o_b_proj", "head": "lm_head", "output_layer": "lm_head", "embed": "embed_tokens",
}  # fmt: skip
"""Words of other checkpoints by the word that is used here."""
_BLOCKS = ("self_attn", "linear_attn", "mlp")
_ANY_BLOCK = "mixer"
_REGEX = "re:"


def without_wrappers(name: str) -> str:
    """``name`` without the modules that only hold the language model."""
    return _WRAPPERS.sub("", name)


class Modules:
    """A list of modules by name, part of a name, name with ``*``, or ``re:`` and an expression.

    A name stands for all that lies below it. An entry of another dialect (``ffn`` for ``mlp``)
    means the same module. ValueError where an expression is none.
    """

    def __init__(self, entries: Iterable[str]) -> None:
        listed = list(dict.fromkeys(entries))
        self._apart = any("linear_attn" in entry for entry in listed)
        self._names = {self._common(entry): entry for entry in listed if not _is_pattern(entry)}
        begun = [entry for entry in listed if _is_beginning(entry)]
        self._beginnings = {self._common(entry[:-1]): entry for entry in begun}
        self._lengths = {len(beginning) for beginning in self._beginnings}
        self._entries = [one for one in listed if _is_pattern(one) and not _is_beginning(one)]
        self._known: dict[str, str | None] = {}
        patterns = [_compiled(entry).pattern for entry in self._entries]
        self._any = re.compile("|".join(patterns) or "(?!)")

    def entry_for(self, module: str) -> str | None:
        """The entry that means ``module`` (its full dotted name), None without one."""
        if module not in self._known:
            self._known[module] = self._found(module)
        return self._known[module]

    def __contains__(self, module: str) -> bool:
        return self.entry_for(module) is not None

    def _found(self, module: str) -> str | None:
        common = self._common(module)
        for spelt in (common, _mixed(common)) if self._names or self._lengths else ():
            for part in _subpaths(spelt):
                if part in self._names:
                    return self._names[part]
            for ending in _endings(spelt):
                for length in self._lengths:
                    if ending[:length] in self._beginnings:
                        return self._beginnings[ending[:length]]
        spellings = _spellings(module) if self._entries else []
        if not any(self._any.search(spelt) for spelt in spellings):
            return None
        patterns = ((entry, _compiled(entry)) for entry in self._entries)
        return next(
            entry for entry, one in patterns if any(one.search(spelt) for spelt in spellings)
        )

    def _common(self, name: str) -> str:
        words = [_SAME.get(word, word) for word in without_wrappers(name).split(".")]
        if not self._apart:
            words = ["self_attn" if word == "linear_attn" else word for word in words]
        return ".".join(words)


def _is_pattern(entry: str) -> bool:
    return "*" in entry or entry.startswith(_REGEX)


def _is_beginning(entry: str) -> bool:
    return _is_pattern(entry) and entry.find("*") == len(entry) - 1 > 0


@lru_cache(4096)
def _compiled(entry: str) -> re.Pattern[str]:
    try:
        if entry.startswith(_REGEX):
            return re.compile(f"^(?:{entry.removeprefix(_REGEX)})")
    except re.error as error:
        raise ValueError(f"'{entry[:60]}' is no regular expression ({error})") from None
    glob = re.escape(without_wrappers(entry)).replace(r"\*", ".*")
    return re.compile(rf"(^|\.){glob}(\.|$)")


def _endings(name: str) -> Iterator[str]:
    words = name.split(".")
    return (".".join(words[first:]) for first in range(len(words)))


def _subpaths(name: str) -> Iterator[str]:
    words = name.split(".")
    for first in range(len(words)):
        for last in range(len(words), first, -1):
            yield ".".join(words[first:last])


def _mixed(name: str) -> str:
    return ".".join(_ANY_BLOCK if word in _BLOCKS else word for word in name.split("."))


def _spellings(module: str) -> list[str]:
    """``module`` as other checkpoints write it: one word exchanged, without wrappers."""
    words = module.split(".")
    found = [words]
    for place, word in enumerate(words):
        others = _OTHERS.get(word, ())
        found += [[*words[:place], other, *words[place + 1 :]] for other in others]
    names = [".".join(one) for one in found]
    return [*names, *(without_wrappers(name) for name in names), _mixed(without_wrappers(module))]


_OTHERS: dict[str, list[str]] = {}
for _word, _common in _SAME.items():
    _OTHERS.setdefault(_common, []).append(_word)
