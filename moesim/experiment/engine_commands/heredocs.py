"""Files that a pasted text writes before it names them: ``cat > more.yml <<EOF``, ``echo -e``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from moesim.config.document import Document
from moesim.config.errors import InputError, Problem
from moesim.config.files.paths import look_up
from moesim.config.strict_yaml.yaml import parse_document, read_document

_HEREDOC = re.compile(
    r"\b(?:cat|tee)\b(?P<head>[^\n;&]*?)<<-?[ \t]*['\"\\]?(?P<end>\w+)['\"]?(?P<tail>[^\n]*)\n"
    r"(?P<body>(?:.*\n)*?)[ \t]*(?P=end)[ \t\r]*(?=[\n\"';)]|\Z)"
)
"""A file's text up to the word that ends it; where the file's name is, a shell leaves open."""
_ECHO = re.compile(
    r"\b(?:echo(?:[ \t]+-[ne]+)?|printf)[ \t]+(?P<quote>['\"])(?P<body>[^'\"]*)(?P=quote)"
    r"(?P<head>)[ \t]*(?P<tail>>[^\n;&]*)"
)
"""The same as one word, with ends of lines as ``\\n``."""
_INTO = re.compile(r"(?P<more>>)?>[ \t]*(?P<to>[^\s<>|&]+)")
_TEE = re.compile(r"(?:^|tee)(?P<more>[ \t]+-a)?[ \t]+(?P<to>[^\s<>|&-][^\s<>|&]*)")


def written_files(text: str) -> tuple[str, dict[str, str]]:
    """``text`` without the files that it writes for an option of its, and these by their names."""
    files: dict[str, str] = {}
    for found in sorted(
        (*_HEREDOC.finditer(text), *_ECHO.finditer(text)), key=lambda one: one.start()
    ):
        into = _into(found)
        name = plain_path(into["to"]) if into else ""
        if into is None or not _is_named(name, text.replace(found[0], "")):
            continue
        files[name] = (files.get(name, "") if into["more"] else "") + _body(found)
        text = text.replace(found[0], "", 1)
    return text, files


def _body(found: re.Match[str]) -> str:
    text = found["body"]
    return text if found.re is _HEREDOC else text.replace("\\n", "\n") + "\n"


def _into(found: re.Match[str]) -> re.Match[str] | None:
    """Where a heredoc goes: behind ``>`` or behind ``tee``."""
    for part in (found["head"], found["tail"]):
        teed = _TEE.search(part) if "tee" in part or found[0].startswith("tee") else None
        if (into := teed or _INTO.search(part)) is not None:
            return into
    return None


def _is_named(name: str, text: str) -> bool:
    """Whether the file stands behind an option."""
    return re.search(rf"\s-[\w-]+[\s=\\'\"]+\S*{re.escape(Path(name).name)}", text) is not None


def plain_path(name: str) -> str:
    """A path without quotes, and a variable in one of its two forms."""
    return re.sub(r"\$\{(\w+)\}", r"$\1", name.strip("'\"")).removeprefix("./")


def keys_of(
    name: str, files: Mapping[str, str], folders: tuple[Path, ...]
) -> Mapping[str, Any] | None:
    """What stands in the YAML file ``name`` that a text wrote (among ``files``), under that path or
    another one of a container's, or that is here; None where neither is. InputError where it is
    broken, or has no keys.
    """
    if (document := _document_of(name, files, folders)) is None:
        return None
    if isinstance(document.data, Mapping):
        return document.data
    what = "has no keys; write some, as in 'kv_cache_dtype: fp8'"
    raise InputError([Problem(document.start.source, "", what)])


def _document_of(name: str, files: Mapping[str, str], folders: tuple[Path, ...]) -> Document | None:
    path = plain_path(name)
    alike = (one for one in files if Path(one).name == Path(path).name)
    if (found := path if path in files else next(alike, None)) is not None:
        return parse_document(files[found], found)
    here = look_up(path, folders)
    return read_document(here) if here is not None and here.is_file() else None
