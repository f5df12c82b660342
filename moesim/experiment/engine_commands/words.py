"""A command line as words, and its options by a table of what is known of them."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import groupby, pairwise
from textwrap import dedent
from typing import Any

from moesim.config.errors import InputError, Problem

_CONTINUED = re.compile(r"[\\`^][ \t]*\r?\n")
"""The end of a line that goes on, in a POSIX shell, PowerShell and cmd."""
_WINDOWS = re.compile(r"(?:^|[\s\"'=])[A-Za-z]:\\")
"""A path in which a backslash stands for itself."""
_ENDS = {"|", "||", "&&", "&", ">", ">>", "<", "<<", "2>&1", "2>", "&>"}
"""Words behind which another command begins, or none."""
_SEPARATES = ";\n"
"""What ends a command without blanks."""
_FOLDED = re.compile(r"\n(?=[ \t]|-)")
"""The end of a line whose next one is indented, or has options: the command goes on."""
_DASH = re.compile(r"(?<=\s)[\u2013\u2014](?=[A-Za-z])")
"""What word processors make of two hyphens."""
_SHELL = re.compile(r"-l?e?c")
"""The option of a shell behind which a line stands as one word."""
_SETS = re.compile(r"(\$env:)?(?P<set>[A-Za-z_]\w*=.*)", re.DOTALL)
_EXPORTS = ("export", "set")
_NUMBER = re.compile(r"-?\d+(\.\d+)?")
_SUFFIXES = {"k": 10**3, "K": 1 << 10, "m": 10**6, "M": 1 << 20}


class Takes(Enum):
    """What follows an option."""

    VALUE = "one value"
    NOTHING = "nothing"
    SWITCH = "on, off or auto, or nothing in older releases"
    MANY = "values up to the next option"


class Effect(Enum):
    """What an option does to an experiment."""

    READ = "it is a key, or part of one"
    NOT_MODELLED = "it changes time or memory, and there is no key for it"
    NONE = "it changes neither time nor memory, or nothing that moesim looks at"


DRAFTS = (
    "speculative decoding, of which no line says how many drafts are right; each pass is of one"
    " token a request"
)
INSTANCES = (
    "prompts and answers on instances of their own, of which this is one; both are computed here"
)
NO_FILE = (
    "a file of further options, which is not here; paste what writes it before the line"
    " (cat > NAME <<EOF), or name its path"
)
IF_SERVED = "it is read where requests are served (--served)"
SWITCHED = frozenset(("on", "off", "auto", "1", "0", "true", "false", "enabled", "disabled"))
OFF = ("off", "0", "false", "disabled")


@dataclass(frozen=True)
class Option:
    """A row of an engine's table.

    ``names`` with spaces between, the one that code and messages use first; ``why``: what it does
    that is not modelled; with a value among ``harmless`` it does nothing.
    """

    names: str
    effect: Effect = Effect.NONE
    takes: Takes = Takes.VALUE
    why: str = ""
    harmless: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that code uses."""
        return self.names.split()[0]


@dataclass(frozen=True)
class Given:
    """An option as it stands in a line."""

    option: Option
    word: str
    value: str

    def __str__(self) -> str:
        return f"{self.word} {self.value}".strip()


@dataclass
class Line:
    """The options of a line in their order, and what is none.

    ``positional`` words belong to no option, ``strange`` ones begin with an option that no row has;
    ``suffixes``: whether numbers may be written as ``16k``.
    """

    given: list[Given] = field(default_factory=list)
    positional: list[str] = field(default_factory=list)
    strange: list[str] = field(default_factory=list)
    suffixes: bool = False
    problems: list[Problem] = field(default_factory=list)

    def all(self, *names: str) -> list[Given]:
        """Every time that an option of ``names`` (first names of rows) is given."""
        return [one for one in self.given if one.option.name in names]

    def last(self, name: str) -> Given | None:
        """The option where it stands last, which is what counts."""
        return next(reversed(self.all(name)), None)

    def has(self, name: str) -> bool:
        """Whether the option stands in the line."""
        return self.last(name) is not None

    def on(self, name: str) -> bool:
        """Whether a switch stands in the line, and is not off."""
        return (found := self.last(name)) is not None and found.value.lower() not in OFF

    def text(self, name: str) -> str | None:
        """The value of an option; None where it is not given."""
        return found.value if (found := self.last(name)) else None

    def whole(self, name: str, least: int = 0) -> int | None:
        """The number that an option is given; None where it is not given, or no such number, which
        is then among the ``problems``.
        """
        if (found := self.last(name)) is None or self._is_wrong(found):
            return None
        number = _whole(found.value, suffixes=self.suffixes)
        what = ""
        if number is None and re.fullmatch(r"[0-9]{13,}", found.value):
            what = f"a number of {len(found.value)} digits is too large; write a smaller one"
        elif re.fullmatch(r"-?[0-9]+(,-?[0-9]+)+", found.value):
            what = f"'{found.value}' is a list; write one number of it"
        elif number is None or number < least:
            what = f"'{found.value}' is no whole number from {least} on; write one"
        if what:
            self.problems.append(Problem(found.word, "", what))
            return None
        return number

    def before(self, line: Line) -> Line:
        """All of this line, and all of another one behind it."""
        return Line(
            self.given + line.given,
            self.positional + line.positional,
            self.strange + line.strange,
            line.suffixes,
            self.problems + line.problems,
        )

    def _is_wrong(self, given: Given) -> bool:
        return any(problem.where == given.word for problem in self.problems)

    def check(self) -> None:
        """Raise an InputError where something is broken."""
        if self.problems:
            lines = [Problem(one_line(one.where), "", one_line(one.what)) for one in self.problems]
            raise InputError(dict.fromkeys(lines))


def one_line(text: str) -> str:
    """``text``, in which a value may have ends of lines, as one."""
    return " ".join(text.split())


def _whole(text: str, *, suffixes: bool) -> int | None:
    if re.fullmatch(r"-?[0-9]{1,12}", text):
        return int(text)
    found = re.fullmatch(r"([0-9]{1,9}(?:\.[0-9]+)?)([kKmM])", text)
    return int(float(found[1]) * _SUFFIXES[found[2]]) if found and suffixes else None


def split_line(text: str) -> list[list[str]]:
    """The words of each command of a line, with the variables that those before it leave set in
    front. A command may go over several lines and have a prompt in front, and may stand as one word
    behind a shell's ``-c``. InputError where a quote is not closed.
    """
    commands, variables = [], list[str]()
    for command in _commands(text):
        found = _exported(command)
        variables += found
        commands += [] if found else [[*variables, *words] for words in _of_shell(command)]
    return commands


def _exported(command: Sequence[str]) -> list[str]:
    """The variables that a command which only sets some leaves set."""
    words = command[1:] if command[0] in _EXPORTS else command
    found = [match["set"] for word in words if (match := _SETS.fullmatch(word))]
    return found if len(found) == len(words) else []


def _of_shell(command: list[str]) -> list[list[str]]:
    """The commands of the line that ``command`` has as one word for a shell, each behind what
    starts it; without such a word ``command`` itself.
    """
    for place, (option, line) in enumerate(pairwise(command)):
        if _SHELL.fullmatch(option) and len(line.split()) > 1:
            return [[*command[:place], *words] for words in split_line(line)]
    return [command]


def _commands(text: str) -> list[list[str]]:
    """The words of each command as they stand."""
    lexer = shlex.shlex(_plain(text), posix=True, punctuation_chars=_SEPARATES)
    lexer.whitespace_split, lexer.commenters, lexer.whitespace = True, "", " \t\r"
    if _WINDOWS.search(text):
        lexer.escape = ""
    try:
        words = list(lexer)
    except ValueError as error:
        what = "a quote is not closed; close it"
        what = what if "quotation" in str(error) else "ends with a backslash; leave it out"
        raise InputError([Problem("the command line", "", what)]) from None
    return [list(group) for ends, group in groupby(words, _ends) if not ends]


def _ends(word: str) -> bool:
    return word in _ENDS or bool(word and not word.strip(_SEPARATES))


def _plain(text: str) -> str:
    """``text`` without comments, prompts and what word processors make of it, a line a command."""
    lines = dedent(text).strip().splitlines()
    lines = [line.removeprefix("$ ") for line in lines if not line.lstrip().startswith("#")]
    text = _FOLDED.sub(" ", _CONTINUED.sub(" ", "\n".join(lines)))
    text = text if '"' in text else text.translate({0x201C: '"', 0x201D: '"'})
    return _DASH.sub("--", text)


def read_options(words: Sequence[str], table: Sequence[Option], *, flexible: bool = False) -> Line:
    """The options of ``words`` by the rows of ``table``; ``flexible``: names may have ``_`` for
    ``-``, and numbers suffixes. Values that are missing are among the ``problems``.
    """
    rows = {name: row for row in table for name in row.names.split()}
    line, rest = Line(suffixes=flexible), list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word in ("-", "--") or _NUMBER.fullmatch(word):
            line.positional.append(word)
            continue
        name, equals, value = _parted(word, rows)
        if flexible and (name.startswith("--") or _is_read(name.partition(".")[0], rows)):
            name, dot, key = name.partition(".")
            name = name.replace("_", "-")
            if dot and name in rows:  # a key of an option in JSON
                text = value if equals else _value(rows[name], word, rest, rows, line)
                line.given.append(Given(rows[name], name, _with_key(line, name, key, text)))
                continue
            name += dot + key
        if name not in rows and name.startswith("--"):  # as llama.cpp's common/arg.cpp
            name = name.replace("_", "-")
        if (row := rows.get(name)) is None:
            line.strange.append(" ".join([word, *_value_of_strange(rest, equals)]))
            continue
        line.given.append(
            Given(row, name, value if equals else _value(row, name, rest, rows, line))
        )
    return line


def words_of(keys: Mapping[str, Any], table: Sequence[Option]) -> list[str]:
    """The words of options that a YAML file has as ``keys``, as vLLM and SGLang read theirs: true
    is an option alone, false its opposite where ``table`` has one, a list several words, what is
    below a key JSON (``FlexibleArgumentParser.load_config_file``, from memory).
    """
    names = {name for row in table for name in row.names.split()}
    words = list[str]()
    for key, value in keys.items():
        name = f"--{key}".replace("_", "-")
        if value is True or value is None:
            words += [name] if value else []
        elif value is False:
            words += [opposite(name)] if opposite(name) in names else []
        elif isinstance(value, list):
            words += [name, *map(str, value)]
        else:
            words.append(f"{name}={json.dumps(value) if isinstance(value, Mapping) else value}")
    return words


def opposite(name: str) -> str:
    """The option that switches off what ``name`` switches on, or the other way round."""
    return f"--{name[5:]}" if name.startswith("--no-") else f"--no-{name[2:]}"


def _with_key(line: Line, name: str, key: str, text: str) -> str:
    """JSON of what ``name`` has so far, and of ``key``."""
    found: dict[str, Any] = {}
    with suppress(ValueError):
        before = json.loads(next((one.value for one in line.given[::-1] if one.word == name), "{}"))
        found = before if isinstance(before, dict) else {}
    value: Any = text
    with suppress(ValueError):
        value = json.loads(text)
    return json.dumps({**found, key: value})


def _parted(word: str, rows: dict[str, Option]) -> tuple[str, str, str]:
    """``--opt=value`` in its parts."""
    name, equals, value = word.partition("=")
    whole = word.startswith("--") or name in rows or _is_read(name.partition(".")[0], rows)
    return (name, equals, value) if whole else (word, "", "")


def _is_read(name: str, rows: dict[str, Option]) -> bool:
    """Whether an option of that name is a key, or part of one."""
    return name in rows and rows[name].effect is Effect.READ


def _value_of_strange(rest: list[str], equals: str) -> Iterator[str]:
    if not equals and rest and (not rest[0].startswith("-") or _NUMBER.fullmatch(rest[0])):
        yield rest.pop(0)


def _value(row: Option, word: str, rest: list[str], rows: dict[str, Option], line: Line) -> str:
    """What follows ``word``, taken from ``rest``."""
    match row.takes:
        case Takes.NOTHING:
            return ""
        case Takes.SWITCH:
            return rest.pop(0) if rest and set(rest[0].lower().split(",")) <= SWITCHED else ""
        case Takes.MANY:
            count = next((n for n, one in enumerate(rest) if one.startswith("-")), len(rest))
            values, rest[:] = rest[:count], rest[count:]
            return " ".join(values)
    if not rest or rest[0].partition("=")[0] in rows:
        line.problems.append(Problem(word, "", "has no value; write it behind the option"))
        return ""
    return rest.pop(0)
