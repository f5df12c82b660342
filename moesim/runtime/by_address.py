"""Records that compiled code is given by their address.

numba hands a named tuple over as all that its arrays consist of, a thousand numbers where there are
a hundred of these: a call takes longer than most functions, and so does compiling each of them.
Here a record is one number, where it lies, and code reads of it what it needs. In Python, and where
nothing is compiled, it is the named tuple itself.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numba
import numpy as np
from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import types
from numba.core import cgutils as untyped
from numba.core.typing.templates import AttributeTemplate
from numba.extending import (
    NativeValue,
    infer_getattr,
    lower_getattr_generic,
    models,
    register_model,
    unbox,
)

from moesim.runtime.bare import Bare, array_of

cgutils: Any = untyped

__all__ = ["ByAddress", "Placed", "placed"]

WORD = 8


class ByAddress(types.Type):  # type: ignore[misc,unused-ignore]
    """The type of records of a named tuple ``kind`` with ``members`` of these types: numbers,
    arrays without gaps (which are ``Bare``), functions, and other such records.
    """

    def __init__(self, kind: type[NamedTuple], *members: Any) -> None:
        assert len(kind._fields) == len(members), kind
        self.kind, self.members = kind, members
        self.places = np.cumsum([0, *map(_words_of, members)]).tolist()
        inside = ", ".join(map(str, members))
        super().__init__(name=f"ByAddress({kind.__module__}.{kind.__qualname__}: {inside})")

    @property
    def mangling_args(self) -> Any:
        """What stands for it in the names of compiled functions."""
        return self.kind.__qualname__, ()

    def member(self, name: str) -> Any:
        """The type of a member."""
        found = self.members[self.kind._fields.index(name)]
        return Bare(found.dtype, found.ndim) if isinstance(found, types.Array) else found

    def place(self, name: str) -> int:
        """Where a member begins, in words."""
        return int(self.places[self.kind._fields.index(name)])


def _words_of(member: Any) -> int:
    """How many words a member takes: of an array its address and shape."""
    if isinstance(member, ByAddress):
        return int(member.places[-1])
    return 1 + member.ndim if isinstance(member, types.Array) else 1


class Placed:
    """A record where compiled code finds it, for as long as this is kept."""

    def __init__(self, record: Any, kind: ByAddress) -> None:
        self._kept, self._words = record, np.empty(kind.places[-1], np.int64)
        _fill(self._words, record, kind)
        self.address = int(self._words.ctypes.data)


def placed(record: Any, kind: ByAddress) -> Any:
    """``record`` as compiled code takes it; as it is where nothing is compiled."""
    config: Any = numba.config
    return record if config.DISABLE_JIT else Placed(record, kind)


def _fill(words: Any, record: Any, kind: ByAddress) -> None:
    for value, member, place in zip(record, kind.members, kind.places, strict=False):
        if isinstance(member, ByAddress):
            _fill(words[place:], value, member)
        elif isinstance(member, types.Array):
            dtype = np.dtype(str(member.dtype).replace("boolean", "bool"))
            fits = value.dtype == dtype and value.ndim == member.ndim and value.flags.c_contiguous
            assert fits, (kind, member, value.dtype, value.shape)
            words[place] = value.ctypes.data
            words[place + 1 : place + 1 + member.ndim] = value.shape
        elif isinstance(member, types.FunctionType):
            words[place] = value.__wrapper_address__()
        elif member == types.float64:
            words[place : place + 1].view(np.float64)[0] = value
        else:
            words[place] = value


@register_model(ByAddress)
class _Model(models.OpaqueModel):  # type: ignore[misc,unused-ignore]
    """An address."""


@unbox(ByAddress)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _address_of(_kind: Any, given: Any, c: Any) -> Any:
    address = c.pyapi.object_getattr_string(given, "address")
    found = c.pyapi.long_as_voidptr(address)
    c.pyapi.decref(address)
    return NativeValue(found)  # type: ignore[no-untyped-call,unused-ignore]


@infer_getattr
class _Members(AttributeTemplate):  # type: ignore[misc,unused-ignore]
    key = ByAddress

    def generic_resolve(self, kind: Any, name: str) -> Any:  # type: ignore[override,unused-ignore]
        return kind.member(name) if name in kind.kind._fields else None


@lower_getattr_generic(ByAddress)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _read(context: Any, builder: Any, kind: Any, address: Any, name: str) -> Any:
    member = kind.member(name)
    start = cgutils.pointer_add(builder, address, kind.place(name) * WORD, cgutils.voidptr_t)
    if isinstance(member, ByAddress):
        return start
    if isinstance(member, Bare):
        return _array(context, builder, member, start)
    if isinstance(member, types.FunctionType):
        return _function(context, builder, member, start)
    return _load(builder, start, 0, context.get_value_type(member))


def _load(builder: Any, start: Any, word: int, kind: Any) -> Any:
    """What stands in a word, which is never written while compiled code runs."""
    if kind == cgutils.bool_t:
        return builder.icmp_signed("!=", _load(builder, start, word, cgutils.intp_t), _whole(0))
    found = builder.load(cgutils.pointer_add(builder, start, word * WORD, kind.as_pointer()))
    found.set_metadata("invariant.load", builder.module.add_metadata([]))
    return found


def _whole(value: int) -> Any:
    return ir.Constant(cgutils.intp_t, value)


def _array(context: Any, builder: Any, member: Any, start: Any) -> Any:
    made = context.get_value_type(member)
    shape = [_load(builder, start, 1 + i, cgutils.intp_t) for i in range(member.ndim)]
    return array_of(builder, made, _load(builder, start, 0, made.elements[0]), shape)


def _function(context: Any, builder: Any, member: Any, start: Any) -> Any:
    """A function that is called as C would."""
    made = context.get_value_type(member)
    found = ir.Constant(made, None)
    return builder.insert_value(found, _load(builder, start, 0, made.elements[0]), 0)
