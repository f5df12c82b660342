"""Compiled code does not outlive its sources."""

from __future__ import annotations

import os
import shutil
from unittest.mock import Mock

import numba
import pytest
from numba.core import caching

from moesim.config import compiled
from moesim.config.compiled import forget_stale, has_place, make_place, specialised, types


def test_compiled_code_goes_when_another_source_changes(tmp_path):
    part = tmp_path / "memory"
    kept = part / "policies" / "__pycache__" / "lru.key.1.nbc"
    kept.parent.mkdir(parents=True)
    constants = part / "policy.py"
    constants.write_text("ROWS = 6\n", encoding="utf-8")
    assert forget_stale(tmp_path, ("memory",))
    kept.touch()
    assert not forget_stale(tmp_path, ("memory",))
    assert kept.exists()
    constants.write_text("ROWS = 8\n", encoding="utf-8")
    os.utime(constants, (1, 1))
    assert forget_stale(tmp_path, ("memory",))
    assert not kept.exists()


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
    assert os.environ["NUMBA_CACHE_DIR"] == numba.config.CACHE_DIR
    shutil.rmtree(numba.config.CACHE_DIR)


def test_nothing_is_kept_where_there_is_no_temporary_folder_either(nothing_writable, monkeypatch):
    monkeypatch.setattr("tempfile.mkdtemp", Mock(side_effect=FileNotFoundError))
    assert not make_place()
    monkeypatch.setattr(compiled, "KEPT", False)

    @compiled.njit(cache=True)
    def double(x):
        return 2 * x

    assert double(3) == 6


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


def test_what_no_other_process_finds_by_its_name_is_not_kept(kept_in):
    for factor in (4, 5):  # of one name, in one file

        def times(x, factor=factor):
            return factor * x

        made = specialised(then_one_more, types.int64(types.int64), times)
        assert made(5) == 5 * factor + 1
    assert not list(kept_in.rglob("*.nbi"))
