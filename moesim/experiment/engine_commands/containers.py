"""Files that name containers, of Compose and of Kubernetes: each container is a line.

Keys are from memory of their documentation: a Compose service has ``entrypoint`` and ``command``,
each text or a list, a container of Kubernetes ``command`` and ``args``.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from moesim.config.strict_yaml.yaml import compose

_FIRST_KEY = re.compile(r"(?:\s*(?:#[^\n]*|---)[ \t\r]*\n)*[ \t]*(?:- )?[\w.-]+:\s")
"""How YAML begins, and no command does."""
_WORDS = ("entrypoint", "command", "args")
_NAMED = re.compile(rf"^[ \t]*(?:- )?(?:{'|'.join(_WORDS)}):\s", re.MULTILINE)
_BETWEEN = re.compile(r"^---[ \t\r]*$", re.MULTILINE)
_SHELL = re.compile(r"(?:\S*/)?(?:ba)?sh\s")
_SETS = ("environment", "env")


def with_lines(text: str) -> str:
    """The lines that start the containers of ``text``, where that is such a file; else ``text``.
    InputError where it is broken.
    """
    if _FIRST_KEY.match(text) is None or _NAMED.search(text) is None:
        return text
    documents = [part for part in _BETWEEN.split(text) if _NAMED.search(part)]
    return "\n".join(line for part in documents for line in _lines(compose(part, "YAML").data))


def _lines(value: Any) -> Iterator[str]:
    """A line for each mapping in ``value`` that has words of a command."""
    if isinstance(value, Mapping):
        if any(_said(value.get(key)) for key in _WORDS):
            yield _line(value)
            return
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _lines(one)


def _line(container: Mapping[str, Any]) -> str:
    """What starts it, behind what ``docker run`` would have in front."""
    said = " ".join(filter(None, (_said(container.get(key)) for key in _WORDS)))
    sets = [one for key in _SETS for one in _variables(container.get(key))]
    if not (image := container.get("image")) or _is_program(said, container):
        return " ".join([*map(shlex.quote, sets), said])
    options = [word for one in sets for word in ("-e", one)]
    return " ".join([shlex.join(["docker", "run", *options, str(image)]), said])


def _is_program(said: str, container: Mapping[str, Any]) -> bool:
    """Whether the words are all that runs, in place of the image's own program."""
    whole = "entrypoint" in container or {"command", "args"} <= container.keys()
    return whole or _SHELL.match(said) is not None


def _said(words: Any) -> str:
    """Words for a shell, of text or of a list; none of what is neither."""
    if isinstance(words, str):
        return " ".join(words.split("\n")).strip()
    return shlex.join(map(str, words)) if isinstance(words, list) else ""


def _variables(sets: Any) -> list[str]:
    """``NAME=value`` of a mapping, of a list of such texts or of names and values."""
    if isinstance(sets, Mapping):
        return [f"{name}={value}" for name, value in sets.items()]
    found: Sequence[Any] = sets if isinstance(sets, list) else ()
    pairs = [one for one in found if isinstance(one, Mapping) and {"name", "value"} <= one.keys()]
    return [
        *(one for one in found if isinstance(one, str)),
        *(f"{one['name']}={one['value']}" for one in pairs),
    ]
