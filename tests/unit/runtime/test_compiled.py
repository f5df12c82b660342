"""Compiled code does not outlive its sources."""

from __future__ import annotations

import os
import pickle
import shutil
from collections import namedtuple
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any
from unittest.mock import Mock

import numba
import pytest
from numba.core import caching

from moesim.runtime import compiled
from moesim.runtime.compiled import has_place, make_place, specialised, types


@pytest.fixture
def nothing_writable(monkeypatch):
    """Neither the package's folder nor the user's: only a folder that is named."""
    named = [caching.UserProvidedCacheLocator]
    monkeypatch.setattr(caching.CacheImpl, "_locator_classes", named)
    monkeypatch.setattr(numba.config, "CACHE_DIR", "")
    monkeypatch.setenv("NUMBA_CACHE_DIR", "")


def test_compiled_code_goes_to_a_temporary_folder_where_nothing_else_can_be_written(
    nothing_writable,
):
    assert not has_place()
    assert make_place()
    assert has_place()
    config: Any = numba.config
    assert os.environ["NUMBA_CACHE_DIR"] == config.CACHE_DIR
    shutil.rmtree(config.CACHE_DIR)


def test_nothing_is_kept_where_there_is_no_temporary_folder_either(nothing_writable, monkeypatch):
    monkeypatch.setattr("tempfile.mkdtemp", Mock(side_effect=FileNotFoundError))
    assert not make_place()
    monkeypatch.setattr(compiled, "KEPT", False)

    @compiled.njit(cache=True)
    def double(x):
        return 2 * x

    assert double(3) == 6


@pytest.mark.parametrize("told", [b"cmoesim.engine.gone\nShapes\n.", b"\x80\x04", b""])
def test_what_earlier_sources_left_on_disk_is_compiled_anew(tmp_path, told):
    """Types of theirs that are gone, and files that are cut off."""
    index: Any = compiled._Index(str(tmp_path), "some", "now")
    index.save("key", 1)
    assert index.load("key") == 1
    (tmp_path / "some.nbi").write_bytes(pickle.dumps(numba.__version__) + told)
    assert index.load("key") is None
    index.save("key", 2)
    assert index.load("key") == 2


def twice(x):
    return 2 * x


def thrice(x):
    return 3 * x


def then_one_more(function):
    def result(x):
        return function(x) + 1

    return result


@pytest.fixture
def kept_in(tmp_path, monkeypatch):
    """Where compiled code is kept."""
    monkeypatch.setattr(compiled, "KEPT", True)
    monkeypatch.setattr(numba.config, "CACHE_DIR", str(tmp_path))
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))  # numba reads it again at some calls
    return tmp_path


def test_each_function_that_is_built_in_has_compiled_code_of_its_own(kept_in):
    signature = types.int64(types.int64)
    assert specialised(then_one_more, signature, twice)(5) == 11
    assert specialised(then_one_more, signature, thrice)(5) == 16
    assert len(list(kept_in.rglob("*.nbi"))) == 2
    again = specialised(then_one_more, signature, twice)
    assert again(5) == 11
    assert sum(again.stats.cache_hits.values()) == 1


def then_two_more(function):
    one_more = compiled.inlined(then_one_more(function))

    def result(x):
        return one_more(x) + 1

    return result


@pytest.mark.parametrize("make", [then_one_more, then_two_more])
def test_another_process_finds_code_whose_name_tells_what_is_built_in(kept_in, monkeypatch, make):
    """Whatever its closure is pickled as."""
    signature = types.int64(types.int64)
    first = [specialised(make, signature, one)(5) for one in (twice, thrice)]
    monkeypatch.setattr(caching, "dumps", lambda closure: os.urandom(8))
    again = [specialised(make, signature, one) for one in (twice, thrice)]
    assert [one(5) for one in again] == first
    assert first[1] == first[0] + 5
    assert [hits(one) for one in again] == [1, 1]


def test_what_is_made_to_be_built_in_has_a_name_of_its_own(kept_in):
    """Code from several processes, loaded into one, is linked by name."""
    names = set()
    for one in (twice, thrice):
        made = specialised(then_two_more, types.int64(types.int64), one)
        (cell,) = made.py_func.__closure__
        names.add(cell.cell_contents.__qualname__)
    assert len(names) == 2
    assert twice.__qualname__ == "twice"


def test_named_tuples_of_one_name_have_code_of_their_own():
    for module in ("here", "there"):
        Knobs = namedtuple("Knobs", "a b", module=module)  # noqa: PYI024
        given = compiled.record(Knobs, types.int64, types.int64)
        assert compiled.njit(types.int64(given))(sum_of)(Knobs(2, 3)) == 5


def sum_of(knobs):
    return knobs.a + knobs.b


def plus_three(x):
    return x + 3


def hits(function):
    return sum(function.stats.cache_hits.values())


def test_compiled_code_holds_only_while_all_sources_are_the_same(kept_in, monkeypatch):
    signature = types.int64(types.int64)

    def compiled_again():
        return compiled.njit(signature, cache=True, at_once=True)(plus_three)

    assert hits(compiled_again()) == 0
    kept = {path: path.stat().st_mtime_ns for path in kept_in.rglob("*.nb?")}
    assert len(kept) == 2
    assert hits(compiled_again()) == 1
    monkeypatch.setattr(compiled, "sources", lambda _: "another constant elsewhere")
    assert hits(compiled_again()) == 0
    assert compiled_again()(4) == 7
    assert hits(compiled_again()) == 1
    again = {path: path.stat().st_mtime_ns for path in kept_in.rglob("*.nb?")}
    assert again.keys() == kept.keys()
    assert all(again[path] > before for path, before in kept.items())


def test_a_function_is_compiled_when_it_is_needed_and_for_its_signature_alone():
    made: Any = compiled.njit(types.int64(types.int64))(plus_three)
    assert not made.signatures
    assert made(4) == 7
    assert len(made.signatures) == 1
    with pytest.raises(TypeError, match="No matching definition"):
        made("four")
    assert compiled.code_of(made)(4) == 7


def test_one_that_another_calls_is_compiled_with_it_for_its_signature():
    inner: Any = compiled.njit(types.int64(types.int64))(plus_three)

    def one_more(x):
        return inner(x) + 1

    outer = compiled.njit(types.int64(types.int32))(one_more)
    assert outer(4) == 8
    assert [str(one) for (one,) in inner.signatures] == ["int64"]
    assert compiled.code_of(compiled.njit(types.int64(types.int64))(plus_three))(5) == 8


def test_a_clock_stands_while_a_function_and_what_it_calls_are_compiled(monkeypatch):
    """Of the first report of a run, 22 s in place of 0.2 were said to be the engine's."""
    now = [0.0]
    monkeypatch.setattr(compiled, "perf_counter", lambda: now[0])
    inner: Any = compiled.njit(types.int64(types.int64))(plus_three)

    def one_more(x):
        return inner(x) + 1

    outer: Any = compiled.njit(types.int64(types.int64))(one_more)
    for one in (inner, outer):
        compile_it = one.compile

        def slowly(signature, compile_it=compile_it):
            now[0] += 5
            return compile_it(signature)

        one.compile = slowly
    begun = compiled.working_s()
    assert outer(4) == 8
    assert now[0] == 10
    now[0] += 2
    assert compiled.working_s() - begun == 2


def test_threads_that_ask_at_once_have_one_compiled_function():
    threads = 6
    together = Barrier(threads)
    inner: Any = compiled.njit(types.int64(types.int64))(plus_three)

    def squares(x):
        total = 0
        for number in range(x):
            total += inner(number) ** 2
        return total

    made: Any = compiled.njit(types.int64(types.int64))(squares)

    def ask(number):
        together.wait()
        return (made, inner)[number % 2](number)

    with ThreadPoolExecutor(threads) as pool:
        found = list(pool.map(ask, range(threads)))
    assert found == [(squares, plus_three)[n % 2](n) for n in range(threads)]
    assert [len(one.signatures) for one in (made, inner)] == [1, 1]


def test_a_change_of_any_source_is_another_state(tmp_path):
    constants = tmp_path / "policies" / "policy.py"
    constants.parent.mkdir()
    constants.write_text("ROWS = 6\n", encoding="utf-8")
    before = compiled.stamp_of([tmp_path])
    assert compiled.stamp_of([tmp_path]) == before
    constants.write_text("ROWS = 8\n", encoding="utf-8")
    os.utime(constants, (1, 1))
    assert compiled.stamp_of([tmp_path]) != before


def test_compiling_can_be_switched_off(monkeypatch):
    monkeypatch.setattr(numba.config, "DISABLE_JIT", 1)
    assert compiled.njit(types.int64(types.int64), cache=True)(plus_three) is plus_three


def test_what_no_other_process_finds_by_its_name_is_not_kept(kept_in):
    for factor in (4, 5):  # of one name, in one file

        def times(x, factor=factor):
            return factor * x

        made = specialised(then_one_more, types.int64(types.int64), times)
        assert made(5) == 5 * factor + 1
    assert not list(kept_in.rglob("*.nbi"))


def test_what_only_compiled_code_calls_is_to_python_as_it_was_written():
    signature = types.int64(types.int64)

    half: Any = compiled.njit(signature, inner=True)(lambda x: x // 2)
    assert half(5.0) == 2.0  # as Python has it, whatever the signature
    one_more = compiled.njit(signature)(lambda x: half(x) + 1)
    assert one_more(5) == 3
    assert half.made.signatures == [signature.args]


def test_a_value_for_compiled_code_is_named_as_one(kept_in):
    called = types.int64(types.FunctionType(types.int64(types.int64)), types.int64)
    through = compiled.njit(called)(lambda function, x: function(x))
    signature = types.int64(types.int64)
    assert through(compiled.njit(signature, a_value=True, at_once=True)(thrice), 5) == 15


def test_a_part_is_compiled_anew_for_its_own_sources_and_for_those_before_it(monkeypatch):
    monkeypatch.setattr(compiled, "_state_of", " ".join)
    modules = ("moesim.memory.slots.decisions", "moesim.engine.layout", "elsewhere.policies")
    of_memory, of_engine, of_others = (set(compiled.sources(one).split()) for one in modules)
    assert "engine" not in of_memory
    assert of_memory < of_engine < of_others
    assert of_others == set(compiled.COMPILED) | {"runtime"}
