"""Python functions that compiled code calls."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cached_property
from typing import Any

from moesim.runtime.compiled import types

ASK, DRAW = types.int64(types.int64), types.float64(types.int64)
"""What a callback takes and returns."""
_CTYPES: dict[Any, Any] = {ASK: ctypes.c_int64, DRAW: ctypes.c_double}


class Callback(types.WrapperAddressProtocol):
    """``function`` of one whole number, for compiled code; ``signature`` is ASK or DRAW.

    Compiled code goes on where the function raises: ``check`` raises it afterwards.
    """

    def __init__(self, function: Callable[[int], float], signature: Any) -> None:
        self._called, self._signature = function, signature
        self._raised: BaseException | None = None
        self._function = ctypes.CFUNCTYPE(_CTYPES[signature], ctypes.c_int64)(self._guarded)

    def _guarded(self, argument: int) -> float:
        try:
            return self._called(argument)
        except BaseException as error:  # noqa: BLE001 (compiled code cannot pass it on)
            self._raised = self._raised or error
            return 0

    def __call__(self, argument: int) -> float:
        """As compiled code calls it, where nothing is compiled."""
        return self._guarded(argument)

    def check(self) -> None:
        """Raise what the function raised first."""
        if self._raised is not None:
            raise self._raised

    def __wrapper_address__(self) -> int:
        """Where compiled code finds the function."""
        return ctypes.cast(self._function, ctypes.c_void_p).value or 0

    def signature(self) -> Any:
        """What it takes and returns."""
        return self._signature


class FirstClass(types.WrapperAddressProtocol):
    """A ``compiled`` function of one ``signature`` as a value, which records can have."""

    def __init__(self, compiled: Any, signature: Any) -> None:
        self._compiled, self._signature = compiled, signature

    def __call__(self, *given: Any) -> Any:
        """As compiled code calls it, where nothing is compiled."""
        return self._compiled(*given)

    @cached_property
    def _address(self) -> int:
        found = self._compiled.get_compile_result(self._signature)
        name = found.fndesc.llvm_cfunc_wrapper_name
        return int(found.library.get_pointer_to_function(name))

    def __wrapper_address__(self) -> int:
        """Where compiled code finds the function."""
        return self._address

    def signature(self) -> Any:
        """What it takes and returns."""
        return self._signature
