"""Arrays as compiled code has them of a record: an address and a shape.

numba's arrays count references, may have gaps, and take an index below 0 from the end, which is
tested at each use. These do none of that: what is done with them is what is done with memory.
"""

from __future__ import annotations

import operator
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped,unused-ignore]
from numba import types
from numba.core import cgutils as untyped
from numba.core.typing.templates import (
    AbstractTemplate,
    AttributeTemplate,
    infer_global,
    signature,
)
from numba.extending import (
    infer_getattr,
    lower_builtin,
    lower_getattr,
    models,
    register_model,
)

cgutils: Any = untyped

__all__ = ["Bare", "array_of", "whole"]


class Bare(types.Type):  # type: ignore[misc,unused-ignore]
    """The type of an array of ``dtype`` without gaps, whose indices are never below 0."""

    def __init__(self, dtype: Any, ndim: int) -> None:
        self.dtype, self.ndim = dtype, ndim
        super().__init__(name=f"Bare({dtype}, {ndim})")

    def at(self, index: Any) -> Any:
        """The type of what is at an ``index``: a part, or an element; None where it is none.
        Elements are as wide as whole numbers are elsewhere.
        """
        several = isinstance(index, types.BaseTuple)
        numbers = list(index) if several else [index]
        if len(numbers) > self.ndim or not all(isinstance(one, types.Integer) for one in numbers):
            return None
        if len(numbers) < self.ndim:
            return Bare(self.dtype, self.ndim - len(numbers))
        return types.int64 if isinstance(self.dtype, types.Integer) else self.dtype


@register_model(Bare)
class _Model(models.StructModel):  # type: ignore[misc,unused-ignore]
    def __init__(self, manager: Any, kind: Any) -> None:
        shape = types.UniTuple(types.intp, kind.ndim)  # type: ignore[no-untyped-call,unused-ignore]
        members = [("data", types.CPointer(kind.dtype)), ("shape", shape)]  # type: ignore[no-untyped-call,unused-ignore]
        super().__init__(manager, kind, members)  # type: ignore[no-untyped-call,unused-ignore]


def array_of(builder: Any, made: Any, data: Any, shape: list[Any]) -> Any:
    """An array of the LLVM type ``made``."""
    found = builder.insert_value(ir.Constant(made, ir.Undefined), data, 0)
    return builder.insert_value(found, cgutils.pack_array(builder, shape), 1)


class _Typed(AbstractTemplate):  # type: ignore[misc,unused-ignore]
    """What a function of an array returns."""


@infer_global(operator.getitem)  # type: ignore[no-untyped-call,unused-ignore]
class _Item(_Typed):
    def generic(self, args: Any, _named: Any) -> Any:
        found = args[0].at(args[1]) if isinstance(args[0], Bare) else None
        return None if found is None else signature(found, *args)  # type: ignore[no-untyped-call,unused-ignore]


@infer_global(operator.setitem)  # type: ignore[no-untyped-call,unused-ignore]
class _SetItem(_Typed):
    def generic(self, args: Any, _named: Any) -> Any:
        found = args[0].at(args[1]) if isinstance(args[0], Bare) else None
        if found is None or isinstance(found, Bare):
            return None
        return signature(types.none, *args)  # type: ignore[no-untyped-call,unused-ignore]


@infer_global(len)  # type: ignore[no-untyped-call,unused-ignore]
class _Length(_Typed):
    def generic(self, args: Any, _named: Any) -> Any:
        known = len(args) == 1 and isinstance(args[0], Bare)
        return signature(types.intp, *args) if known else None  # type: ignore[no-untyped-call,unused-ignore]


@infer_getattr
class _Shape(AttributeTemplate):  # type: ignore[misc,unused-ignore]
    key = Bare

    def resolve_shape(self, kind: Any) -> Any:
        return types.UniTuple(types.intp, kind.ndim)  # type: ignore[no-untyped-call,unused-ignore]


@lower_getattr(Bare, "shape")  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _shape(_context: Any, builder: Any, _kind: Any, array: Any) -> Any:
    return builder.extract_value(array, 1)


@lower_builtin(len, Bare)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _length(_context: Any, builder: Any, _signed: Any, given: Any) -> Any:
    return builder.extract_value(given[0], [1, 0])


def _found(context: Any, builder: Any, signed: Any, given: Any) -> tuple[Any, list[Any]]:
    """The address at an index, and the shape of what is there."""
    kind, index = signed.args[:2]
    several = isinstance(index, types.BaseTuple)
    kinds = list(index) if several else [index]
    values = cgutils.unpack_tuple(builder, given[1], len(kinds)) if several else [given[1]]
    shape = cgutils.unpack_tuple(builder, builder.extract_value(given[0], 1), kind.ndim)
    place = ir.Constant(cgutils.intp_t, 0)
    for axis, extent in enumerate(shape):
        place = builder.mul(place, extent) if axis else place
        if axis < len(values):
            number = context.cast(builder, values[axis], kinds[axis], types.intp)
            place = builder.add(place, number, flags=("nsw",))
    return builder.gep(builder.extract_value(given[0], 0), [place], inbounds=True), shape[
        len(values) :
    ]


@lower_builtin(operator.getitem, Bare, types.Any)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _get(context: Any, builder: Any, signed: Any, given: Any) -> Any:
    address, shape = _found(context, builder, signed, given)
    if shape:
        return array_of(builder, context.get_value_type(signed.return_type), address, shape)
    dtype = signed.args[0].dtype
    value = context.unpack_value(builder, dtype, address)
    return context.cast(builder, value, dtype, signed.return_type)


@lower_builtin(operator.setitem, Bare, types.Any, types.Any)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _set(context: Any, builder: Any, signed: Any, given: Any) -> Any:
    address, _ = _found(context, builder, signed, given)
    dtype = signed.args[0].dtype
    value = context.cast(builder, given[2], signed.args[2], dtype)
    context.pack_value(builder, dtype, value, address)
    return context.get_dummy_value()


def whole(array: Any) -> Any:
    """``array`` with all that numpy's arrays can; nobody counts references to it."""
    return array


_FIELDS = ("meminfo", "parent", "nitems", "itemsize", "data", "shape", "strides")
"""What numba has of an array, in this order."""


@infer_global(whole)  # type: ignore[no-untyped-call,unused-ignore]
class _Whole(_Typed):
    def generic(self, args: Any, _named: Any) -> Any:
        (kind,) = args
        found = types.Array(kind.dtype, kind.ndim, "C")  # type: ignore[no-untyped-call,unused-ignore]
        return signature(found, kind)  # type: ignore[no-untyped-call,unused-ignore]


@lower_builtin(whole, Bare)  # type: ignore[misc,no-untyped-call,untyped-decorator,unused-ignore]
def _as_array(context: Any, builder: Any, signed: Any, given: Any) -> Any:
    made = context.get_value_type(signed.return_type)
    data = builder.extract_value(given[0], 0)
    shape = cgutils.unpack_tuple(
        builder, builder.extract_value(given[0], 1), signed.return_type.ndim
    )
    size = ir.Constant(cgutils.intp_t, context.get_abi_sizeof(data.type.pointee))
    strides, items = [size], shape[0]
    for extent in shape[:0:-1]:
        strides.insert(0, builder.mul(strides[0], extent))
    for extent in shape[1:]:
        items = builder.mul(items, extent)
    parts = {
        "meminfo": ir.Constant(made.elements[0], None), "itemsize": size, "data": data,
        "parent": ir.Constant(made.elements[1], None), "nitems": items,
        "shape": cgutils.pack_array(builder, shape),
        "strides": cgutils.pack_array(builder, strides),
    }  # fmt: skip
    array = ir.Constant(made, ir.Undefined)
    for place, name in enumerate(_FIELDS):
        array = builder.insert_value(array, parts[name], place)
    return array
