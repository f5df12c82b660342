import gc

import pytest

from moesim.runtime.compiled import njit, types
from moesim.runtime.garbage import not_collecting


def fails_without_collecting():
    with not_collecting():
        assert not gc.isenabled()
        return 1 // len("")


@pytest.mark.parametrize("collects", [True, False])
def test_it_is_as_before_afterwards_whatever_happens(collects):
    (gc.enable if collects else gc.disable)()
    try:
        with pytest.raises(ZeroDivisionError):
            fails_without_collecting()
        assert gc.isenabled() == collects
    finally:
        gc.enable()


def test_compiling_leaves_it_as_it_was():
    made = njit(types.int64(types.int64))(lambda x: x + 1)
    assert made(4) == 5
    assert gc.isenabled()
