"""Fail where a function is over 60 lines or takes over 8 parameters, 12 where it is compiled, and
where a folder of the package has 30 files or more.

Neither ``self`` nor ``cls`` counts. A command takes its options as parameters, because the
framework wants them so: of a command only the body counts. A function inside another one counts for
itself. ``make check`` runs this.
"""

from __future__ import annotations

import ast
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("moesim", "verification", "benchmarks", "scripts")
MOST_LINES, MOST_PARAMETERS, MOST_COMPILED = 60, 8, 12
MOST_FILES = 29
COMPILERS = ("njit", "inlined", "built_in", "in_place", "compiled_clock")
COMMAND = "command"


class Size(NamedTuple):
    """Lines and parameters of a function."""

    lines: int
    parameters: int


EXCEPTIONS = {
    # what Python users call: the options of a command, by their names
    "moesim/api/traces.py:import_trace": Size(60, 9),
    "moesim/api/studies.py:advise": Size(60, 9),
    "moesim/sweep/swept.py:sweep": Size(60, 11),
    "moesim/experiment/running/run.py:run": Size(60, 9),
}
"""What is larger today, and how large it may be: these numbers only fall."""

Function = ast.FunctionDef | ast.AsyncFunctionDef


def functions(node: ast.AST, prefix: str = "") -> Iterator[tuple[str, Function, bool]]:
    """Every function below ``node``: its name with what it stands in, and whether in a class.
    No expression holds one.
    """
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.expr):
            continue
        inner = prefix
        if isinstance(child, Function | ast.ClassDef):
            inner = f"{prefix}{child.name}."
        if isinstance(child, Function):
            yield f"{prefix}{child.name}", child, isinstance(node, ast.ClassDef)
        yield from functions(child, inner)


def decorators(function: Function) -> set[str]:
    """The last words of the decorators' names: ``command`` of ``@app.command(...)``."""
    calls = (one.func if isinstance(one, ast.Call) else one for one in function.decorator_list)
    return {ast.unparse(call).rpartition(".")[2] for call in calls}


def lines_of(function: Function) -> int:
    """Lines of ``function``, of a command those of its body, without functions inside it."""
    first = function.body[0] if COMMAND in decorators(function) else function
    inside = sum(lines_of(one) for _, one, _ in functions(function))
    return (function.end_lineno or 0) - first.lineno + 1 - inside


def parameters_of(function: Function, *, method: bool) -> int:
    """Parameters of ``function``, of a command none."""
    marks, given = decorators(function), function.args
    if COMMAND in marks:
        return 0
    named = len(given.posonlyargs) + len(given.args) + len(given.kwonlyargs)
    more = sum(one is not None for one in (given.vararg, given.kwarg))
    return named + more - (method and "staticmethod" not in marks)


def offences(source: str, path: str) -> Iterator[str]:
    """A line for every function of ``path`` that is larger than it may be."""
    for name, function, method in functions(ast.parse(source)):
        size = Size(lines_of(function), parameters_of(function, method=method))
        compiled = bool(decorators(function) & set(COMPILERS))
        rule = Size(MOST_LINES, MOST_COMPILED if compiled else MOST_PARAMETERS)
        most = EXCEPTIONS.get(f"{path}:{name}", rule)
        if size.lines > most.lines or size.parameters > most.parameters:
            what = f"{size.lines} lines and {size.parameters} parameters"
            allowed = f"at most {most.lines} and {most.parameters}; divide it, or give it a record"
            yield f"{path}:{function.lineno}: '{name}' has {what}: {allowed}"


def crowded(paths: Iterable[Path]) -> Iterator[str]:
    """A line for every folder that has more of the ``paths`` than it may have."""
    for folder, files in sorted(Counter(path.parent for path in paths).items()):
        if files > MOST_FILES:
            yield f"{folder}: {files} files side by side: at most {MOST_FILES}; give it folders"


def main() -> int:
    """Print every offence; 1 if there is any."""
    package = (path.relative_to(ROOT) for path in (ROOT / "moesim").rglob("*.py"))
    paths = (path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py")))
    found = [
        line
        for path in paths
        for line in offences(path.read_text("utf-8"), path.relative_to(ROOT).as_posix())
    ]
    found += crowded(package)
    print(*found, sep="\n", end="\n" if found else "")
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main())
