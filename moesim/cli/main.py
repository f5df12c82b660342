"""The command ``moesim``: its commands are the modules beside this one."""

from __future__ import annotations

import importlib
import pkgutil
import re
import shlex
import sys
import warnings
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from typing import Any

import typer

import moesim.cli
from moesim.cli.app import app
from moesim.config.errors import InputError
from moesim.config.registry import PluginWarning
from moesim.runtime.garbage import collect_seldom

_show = warnings.showwarning
_INTERRUPTED = 130
_BAD_INPUT = 2
_SETTING = re.compile(r"[a-z_]+(\.\w+)*=")


@cache
def load_commands() -> None:
    """Import every command module, so that its commands are in ``app``."""
    for module in pkgutil.walk_packages(moesim.cli.__path__, "moesim.cli."):
        importlib.import_module(module.name)


@cache
def _whole() -> Any:
    """The command with all others below it, which takes typer a tenth of a second to make."""
    load_commands()
    return typer.main.get_command(app)


def commands() -> Iterator[tuple[str, Any]]:
    """Every command by its name, as in 'moesim trace import', in alphabetical order."""
    yield from _commands("moesim", _whole())


def _commands(name: str, command: Any) -> Iterator[tuple[str, Any]]:
    parts: dict[str, Any] = getattr(command, "commands", {})
    if not parts:
        yield name, command
    for part in sorted(parts):
        yield from _commands(f"{name} {part}", parts[part])


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command with ``arguments`` (default: the process's) and return its exit code.

    0: done; 1: the command says that something failed; 2: bad input, told in one line for each
    mistake on stderr; 130: interrupted.
    """
    collect_seldom()
    command = _whole()
    warnings.showwarning = _warned
    try:
        command(args=None if arguments is None else list(arguments), prog_name="moesim")
    except InputError as error:
        for problem in error.problems:
            print(problem, file=sys.stderr)  # noqa: T201 (the command line's own output)
        return _BAD_INPUT
    except MemoryError as error:
        remedy = "take a trace with fewer experts or tokens, or smaller settings"
        print(f"not enough memory on this machine ({error}); {remedy}", file=sys.stderr)  # noqa: T201
        return _BAD_INPUT
    except OSError as error:  # a full disk, a folder that has gone
        named = f"'{error.filename}': " if error.filename else ""
        print(f"{named}{error.strerror or error}", file=sys.stderr)  # noqa: T201
        return _BAD_INPUT
    except KeyboardInterrupt:
        return _INTERRUPTED
    except SystemExit as leave:
        if leave.code == _BAD_INPUT:
            _tell_of_set(sys.argv[1:] if arguments is None else arguments)
        return _code(leave.code)
    return 0


def _tell_of_set(arguments: Sequence[str]) -> None:
    """What to write in place of a setting that stands by itself, as other tools have it."""
    for before, one in pairwise(["", *arguments]):
        if _SETTING.match(one) and not before.startswith("-"):
            print(f"A setting stands behind --set: --set {shlex.quote(one)}", file=sys.stderr)  # noqa: T201


def _warned(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """Show a warning about a plug-in as one line, others as Python does."""
    if issubclass(category, PluginWarning):
        print(message, file=sys.stderr)  # noqa: T201 (the command line's own output)
    else:
        _show(message, category, *where, **more)


def _code(code: str | int | None) -> int:
    return code if isinstance(code, int) else int(code is not None)


if __name__ == "__main__":
    sys.exit(main())
