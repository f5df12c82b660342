"""numba, with compiled code on disk that counts only as long as what it was made from is the same.

numba looks only at the file of a compiled function. The constants and functions that it takes from
other modules are compiled into it as well, so that after an update old code could count wrongly.
Here the sources of all of them are part of what numba compares: old code is written over.
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import os
import pickle
import shutil
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from functools import cache
from operator import attrgetter
from pathlib import Path
from time import perf_counter
from types import FunctionType
from typing import Any, TypeVar, cast

import numba
from numba import types
from numba.core import caching
from numba.core.compiler_lock import global_compiler_lock
from numba.core.typing.templates import infer_global
from numba.extending import overload, register_jitable
from numba.np.unsafe.ndarray import to_fixed_tuple

from moesim.config.errors import InputError
from moesim.runtime.garbage import not_collecting
from moesim.runtime.parts import LeanCompiler, PartCompiler, compare_as_set, put_off_lifetimes
from moesim.runtime.refused import REFUSALS, refused

__all__ = [
    "built_in", "code_of", "first_of", "inlined", "njit", "record", "specialised", "types",
    "whole_number", "working_s",
]  # fmt: skip

Function = TypeVar("Function", bound=Callable[..., Any])
PACKAGE = Path(__file__).parents[1]
COMPILED = {
    "trace": ("trace", "runtime"),
    "memory": ("memory", "trace", "runtime"),
    "engine": ("engine", "memory", "trace", "runtime"),
    "workload": ("workload", "runtime"),
}
"""The parts of the package that hold compiled functions, and where what is built into these, or a
constant of theirs, comes from: no part knows those that come after it.
"""


def stamp_of(folders: list[Path]) -> str:
    """What tells one state of the sources in ``folders`` from another."""
    digest = hashlib.sha256()
    for folder in folders:
        for path in sorted(folder.rglob("*.py")):
            about = path.stat()
            digest.update(f"{path} {about.st_mtime_ns} {about.st_size}\n".encode())
    return digest.hexdigest()


def sources(module: str = "") -> str:
    """The state of all sources that compiled code of ``module`` may come from."""
    part = module.removeprefix("moesim.").partition(".")[0]
    return _state_of(COMPILED.get(part) or tuple(sorted(set().union(*COMPILED.values()))))


@cache
def _state_of(parts: tuple[str, ...]) -> str:
    return stamp_of([PACKAGE / part for part in parts])


LOCAL = "<locals>"
BUILT_IN = "-with-"
"""In the name of a function: what follows tells what is built into it, all of which has names of
its own.
"""


class _ByName(caching.FunctionCache):  # type: ignore[misc,unused-ignore]
    """Compiled code of a function whose name tells what is built in. numba would go by how its
    closure is pickled, which differs from process to process, so that none found another's code.
    """

    def _index_key(self, sig: Any, codegen: Any) -> Any:
        function: Any = self._py_func
        return sig, codegen.magic_tuple(), (function.__code__.co_code, function.__qualname__)


class _Index(caching.IndexDataCacheFile):  # type: ignore[misc,unused-ignore]
    """What is on disk. numba reads the types in it before it asks of which sources it is, so that
    one of earlier sources, whose types may be gone, would end the run.
    """

    def _load_index(self) -> Any:
        try:
            return super()._load_index()  # type: ignore[no-untyped-call,unused-ignore]
        except (ImportError, AttributeError, EOFError, pickle.UnpicklingError):
            return {}


def _kept(function: Callable[..., Any]) -> Any:
    """What keeps compiled code of ``function`` on disk, for as long as all ``sources`` stay."""
    cache: Any = _ByName if BUILT_IN in function.__qualname__ else caching.FunctionCache
    kept = cache(function)
    place = kept._impl  # noqa: SLF001 (numba has no other way to say what compiled code is of)
    index: Any = _Index
    kept._cache_file = index(  # noqa: SLF001
        cache_path=kept.cache_path,
        filename_base=place.filename_base,
        source_stamp=(place.locator.get_source_stamp(), sources(function.__module__)),
    )
    return kept


def _nothing() -> None:
    """For numba to find a place for its compiled code."""


def has_place() -> bool:
    """Whether numba finds a folder for compiled code: beside its source, or the user's."""
    try:
        numba.njit(cache=True)(_nothing)
    except RuntimeError:
        return False
    return True


def make_place() -> bool:
    """A folder for the compiled code of this process and those that it starts, removed at its end;
    False where there is no place even for that.
    """
    try:
        folder = tempfile.mkdtemp(prefix="moesim-compiled-")
    except OSError:
        return False
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    config: Any = numba.config
    config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = folder
    return has_place()


KEPT = has_place() or make_place()
"""Whether compiled code is kept on disk; else every process compiles anew."""


put_off_lifetimes()
compare_as_set()
PART = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True, "pipeline_class": PartCompiler}
"""How numba compiles what only compiled code calls."""


def njit(
    *signature: Any, cache: bool = False, at_once: bool = False, vectors: bool = True,
    inner: bool = False, a_value: bool = False, **options: Any,
) -> Callable[[Function], Function]:  # fmt: skip
    """``numba.njit`` with one signature or none; ``cache``: on disk, where there is a place;
    ``vectors``: loops become vector instructions where they can. ``inner``: only compiled code
    calls it compiled; to Python it is as it was written. ``a_value``: compiled code has it in a
    record, or is given it. What takes it in from Python, or from such code, is not compiled where
    nothing asks for it: with records of a hundred arrays it takes longer than the function.

    A function with a signature is compiled, or loaded, ``at_once`` or when it is first needed: a
    run needs few of those that there are, and each takes milliseconds.
    """
    compile_it: Any = numba.njit
    ways = PART if inner else {"no_cfunc_wrapper": not a_value, "pipeline_class": LeanCompiler}
    jit = compile_it(**ways, **options)

    def compiled(function: Function) -> Function:
        made = jit(function)
        if made is function:  # where compiling is switched off
            return function
        if cache and KEPT:
            made._cache = _kept(function)  # noqa: SLF001 (what enable_caching sets)
        if signature:
            _wait(made, signature, vectors=vectors)
        if at_once:
            _compile_waiting(made)
        return _as_inner(function, made) if inner else cast("Function", made)

    return compiled


def _as_inner(function: Function, made: Any) -> Function:
    """``function``, which compiled code takes for ``made``."""
    given: Any = function
    given.made = made  # whose type does not keep it
    tell: Any = infer_global
    tell(function, types.Dispatcher(made))
    return function


WAITING = ("_compile_for_args", "get_call_template")
"""How numba asks a function for its code: to call it, and to call it from another."""


_compiling = {"depth": 0, "since": 0.0, "spent": 0.0}


def working_s() -> float:
    """Seconds on a clock that stands while functions are compiled, or loaded."""
    return perf_counter() - _compiling["spent"]


@contextlib.contextmanager
def _on_another_clock() -> Iterator[None]:
    """Count what is inside as compiling; the lock that it is under lets one thread in."""
    if not _compiling["depth"]:
        _compiling["since"] = perf_counter()
    _compiling["depth"] += 1
    try:
        yield
    finally:
        _compiling["depth"] -= 1
        if not _compiling["depth"]:
            _compiling["spent"] += perf_counter() - _compiling["since"]


asked: set[Any] = set()
"""The functions that this process has asked for: the first loads much of numba with it."""


def in_python(function: Any, *, few: bool) -> Any:
    """``function`` as it was written where it has ``few`` turns to go and nothing compiled has been
    asked for yet: to load what that needs takes a third of a second.
    """
    return function.py_func if few and not asked and hasattr(function, "py_func") else function


def _wait(made: Any, signature: tuple[Any, ...], *, vectors: bool) -> None:
    """Compile ``made`` for its ``signature``, and for no other, when it is first asked for.

    Threads may ask at the same time: one compiles, and the others find it waiting until it has.
    """
    config: Any = numba.config
    vectorizes = config.LOOP_VECTORIZE if vectors else 0
    begun = False

    def compile_now() -> None:
        nonlocal begun
        with global_compiler_lock:  # a second lock could be taken in the other order
            if not begun:  # else done, or, by a function that calls itself, under way
                begun = True
                compile_all()

    def compile_all() -> None:
        asked.add(made)
        before, config.LOOP_VECTORIZE = config.LOOP_VECTORIZE, vectorizes
        try:
            with _on_another_clock(), not_collecting():
                for one in signature:
                    made.compile(one)
        finally:
            config.LOOP_VECTORIZE = before
            for name in WAITING:
                delattr(made, name)
        made.disable_compile()

    def to_call(*_: Any, **__: Any) -> Any:
        compile_now()
        return made  # which numba calls then

    def from_another(*given: Any) -> Any:
        compile_now()
        return type(made).get_call_template(made, *given)

    for name, ask in zip(WAITING, (to_call, from_another), strict=True):
        setattr(made, name, ask)


def _compile_waiting(made: Any) -> None:
    """Compile ``made`` now, where it is to be when it is asked for."""
    if ask := vars(made).get(WAITING[0]):
        ask()


@cache
def code_of(function: Any) -> Any:
    """The code of a compiled ``function`` with one signature, for who calls it again and again and
    keeps to that. To find out the types of many arrays at each call takes longer than a short
    function itself.
    """
    if isinstance(function, FunctionType):  # where compiling is switched off
        return function
    _compile_waiting(function)
    return function.get_overload(function.signatures[0])


def record(kind: type, *members: Any) -> Any:
    """The type of the named tuple ``kind`` with members of these types.

    numba tells values of named tuples apart by the names of their classes: ``kind`` gets one of its
    own, or a call with one of two like-named classes would find no code.
    """
    kind.__name__ = f"{kind.__qualname__}-{zlib.crc32(kind.__module__.encode()):08x}"
    uniform: Any = types.NamedUniTuple
    mixed: Any = types.NamedTuple
    if len(set(members)) == 1:
        return uniform(members[0], len(members), kind)
    return mixed(members, kind)


@cache
def inlined(function: Function) -> Function:
    """``function`` as it is; compiled code that calls it, or is given it, has it built in."""
    made: Function = register_jitable(**PART)(function)
    return made


@cache
def built_in(function: Function) -> Function:
    """As ``inlined``, wherever it is called from: to be handed a dozen arrays takes longer than
    most of what is done with them.
    """
    made: Function = register_jitable(**PART, forceinline=True)(function)
    return made


def whole_number(value: Any) -> int:
    """``value``; compiled code takes none but a whole number, which others would be cut to."""
    return int(value)


@overload(whole_number)  # type: ignore[misc,unused-ignore]
def _whole_number(value: Any) -> Any:
    def as_it_is(value: Any) -> Any:
        return int(value)

    return as_it_is if isinstance(value, types.Integer | types.Boolean) else None


def first_of(numbers: Any, number: int) -> tuple[int, ...]:
    """The first of an array's numbers, so many, as a tuple; in compiled code ``number`` is a
    constant.
    """
    return tuple(numbers[:number].tolist())


@overload(first_of, prefer_literal=True)  # type: ignore[misc,unused-ignore]
def _first_of(numbers: Any, number: Any) -> Any:  # noqa: ARG001 (numba goes by their names)
    known = number.literal_value if isinstance(number, types.IntegerLiteral) else 0
    take: Any = to_fixed_tuple

    def as_tuple(numbers: Any, number: Any) -> Any:  # noqa: ARG001
        return take(numbers, known)

    return as_tuple if known else None


def specialised(
    make: Callable[..., Callable[..., Any]],
    signature: Any,
    *functions: Callable[..., Any],
    constants: tuple[Any, ...] = (),
    allocates: bool = True,
) -> Any:
    """What ``make(*functions, *constants)`` returns, compiled with these built in.

    It is kept on disk where all functions can be found again by their names, each under a name of
    its own: numba goes by the name, and two processes may write at once. ``constants`` are told
    apart by how they are written. ``allocates``: it may make arrays; else references to those that
    it is given need no count. Raises InputError where numba cannot compile one of them.
    """
    function: Any = make(*map(built_in, functions), *constants)
    digest = _digest_of(functions, constants)
    function.__qualname__ = f"{make.__qualname__}{BUILT_IN}{digest}"
    _tell_apart(function, digest, functions)
    try:
        options = {} if allocates else {"_nrt": False}
        kept = all(map(_has_name, functions))
        return njit(signature, cache=kept, at_once=True, a_value=True, **options)(function)
    except REFUSALS as error:
        raise InputError([refused(error, functions)]) from None


def _tell_apart(function: Any, digest: str, given: tuple[Callable[..., Any], ...]) -> None:
    """Name what is built into ``function`` and was made for it, not ``given``: code from several
    processes, loaded into one, is linked by name, and would else be that of other functions.
    """
    for cell in function.__closure__ or ():
        one = cell.cell_contents
        if isinstance(one, FunctionType) and LOCAL in one.__qualname__ and one not in given:
            one.__qualname__ = f"{one.__qualname__.partition(BUILT_IN)[0]}{BUILT_IN}{digest}"
            _tell_apart(one, digest, given)


def _digest_of(functions: tuple[Callable[..., Any], ...], constants: tuple[Any, ...]) -> str:
    """What tells the ``functions``, the files that they are in and ``constants`` from others."""
    digest = hashlib.sha256(repr(constants).encode())
    for function in functions:
        digest.update(f"{function.__module__} {function.__qualname__} ".encode())
        with contextlib.suppress(OSError):
            digest.update(Path(function.__code__.co_filename).read_bytes())
    return digest.hexdigest()[:16]


def _has_name(function: Callable[..., Any]) -> bool:
    """Whether another process finds ``function`` where this one did."""
    module = sys.modules.get(function.__module__)
    try:
        found = attrgetter(function.__qualname__)(module)
    except AttributeError:
        return False
    return found is function and function.__module__ != "__main__"
