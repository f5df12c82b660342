"""Strict YAML: one document of plain data, with the place of every value.

PyYAML's composer supplies the syntax; the values are read here, because PyYAML's own
constructors read ``1e9`` as text and ``no`` as false, and let a key occur twice.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml

from moesim.config.document import Document, Mark
from moesim.config.errors import InputError, Problem, in_order
from moesim.config.files.files import check_regular
from moesim.config.files.inputs import read_input
from moesim.config.json_text import DEEPEST
from moesim.config.strict_yaml.compose import Plain, TooDeepError, composed
from moesim.config.strict_yaml.numbers import NULLS
from moesim.config.text import decoded, mark_at

_PARQUET = b"PAR1"
"""How every Parquet file begins."""
_OTHERS = {_PARQUET: "a Parquet file", b"GGUF": "a GGUF file, which holds a model"}
"""Files that are taken for YAML by mistake, by how they begin."""
END_MARK = "end_mark"
"""The key by which a file says that its last line is ``...``, YAML's end of a document."""
_SAYS_END = re.compile(rf"^{END_MARK}:", re.MULTILINE)
_FIRST_KEY = re.compile(r"^\w", re.MULTILINE)
_ENDS = re.compile(r"^\.\.\.(?=\s|\Z)", re.MULTILINE)


def read_document(path: Path | str) -> Document:
    """The document in the file at ``path``; its mistakes, all at once, as an InputError."""
    return _checked(compose_file(path))


def read_marked_document(path: Path | str) -> Document:
    """Like ``read_document``, of a file that may say how it ends; InputError where it was cut."""
    name, text = str(path), _text(path)
    if is_cut(text):
        what = "was cut: its 'end_mark' promises a last line '...'; copy it again, or write it"
        raise InputError([Problem(name, "", what)])
    return _parsed(text, name)


@lru_cache(maxsize=32)
def _parsed(text: str, name: str) -> Document:
    """A run reads its profiles several times, and parsing is most of that."""
    return parse_document(text, name)


def is_cut(text: str) -> bool:
    """Whether the document has the key ``end_mark`` and not the line ``...`` that ends it."""
    return _SAYS_END.search(text) is not None and _ENDS.search(text) is None


def with_end_mark(text: str) -> str:
    """The document ``text``, so that a part of it is never taken for the whole."""
    if _SAYS_END.search(text) is None:
        text = _FIRST_KEY.sub(lambda key: f'{END_MARK}: "..."\n{key[0]}', text, count=1)
    return text if _ENDS.search(text) else f"{text.rstrip()}\n...\n"


def parse_document(text: str, source: str) -> Document:
    """The document in ``text``; messages name ``source``, with line and column."""
    return _checked(compose(text, source))


def parse_value(text: str, source: str) -> Any:
    """The value of an option: a YAML scalar or flow collection; messages name ``source`` alone."""
    if text.strip() in NULLS:
        return None
    try:
        return parse_document(text, source).data
    except InputError as error:
        raise InputError(Problem(source, "", problem.what) for problem in error.problems) from None


def compose_file(path: Path | str) -> Document:
    """Like ``read_document``, but keeps mistakes that leave the rest readable in ``problems``."""
    return compose(_text(path), str(path))


def is_parquet(path: Path | str) -> bool:
    """Whether the file at ``path`` begins as Parquet does; False where it cannot be read."""
    try:
        check_regular(path)
        with Path(path).open("rb") as file:
            return file.read(len(_PARQUET)) == _PARQUET
    except (InputError, OSError):
        return False


def compose(text: str, source: str) -> Document:
    """Like ``parse_document``, but keeps mistakes that leave the rest readable in ``problems``."""
    try:
        node: Any
        node, complaints = composed(text)
        plain = Plain(source, complaints)
        data = None if node is None else plain.value(node, ())
    except yaml.reader.ReaderError as error:
        mark = mark_at(text, error.position, source)
        what = f"the character U+{ord(text[error.position]):04X} is not allowed; remove it"
        raise InputError([mark.problem((), what)]) from None
    except yaml.MarkedYAMLError as error:
        raise InputError([_syntax_problem(error, source)]) from None
    if data is None and plain.problems:
        raise InputError(in_order(plain.problems))
    if data is None:
        what = "is empty; write at least one key, as in 'name: value'"
        raise InputError([Mark(source, 1, 1).problem((), what)])
    start = Mark(source, node.start_mark.line + 1, node.start_mark.column + 1)
    return Document(data, start, plain.values, plain.keys, tuple(plain.problems))


def _text(path: Path | str) -> str:
    name, content = str(path), read_input(path, "YAML file")
    other = next((what for start, what in _OTHERS.items() if content.startswith(start)), None)
    if other is None and Path(path).suffix == ".csv":
        other = "a table (CSV)"
    if other is not None:
        raise InputError([Problem(name, "", f"is {other}; a YAML file is expected here")])
    return decoded(content, name)


def _checked(document: Document) -> Document:
    if document.problems:
        raise InputError(in_order(document.problems))
    return document


def _syntax_problem(error: yaml.MarkedYAMLError, source: str) -> Problem:
    place = error.problem_mark or error.context_mark
    line, column = (place.line + 1, place.column + 1) if place else (1, 1)
    return Mark(source, line, column).problem((), _syntax_text(error))


def _syntax_text(error: yaml.MarkedYAMLError) -> str:
    if isinstance(error, TooDeepError):
        return f"is nested too deeply: more than {DEEPEST} lists and mappings"
    problem, context = error.problem or "", error.context or ""
    if "'\\t'" in problem:
        return "a tab cannot indent YAML; use spaces"
    if "single document" in context:
        return "a second document begins here; write it above '...', or in its own file"
    text = f"{context}: {problem}" if context else problem
    return f"this is not YAML ({' '.join(text.split())}); check indentation, quotes and brackets"
