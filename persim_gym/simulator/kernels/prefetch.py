"""Fetches memory into a core's caches before it is needed, so that random reads cost no waiting."""

from collections.abc import Sequence
from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

CACHE_LINE_FLOATS = 16  # float32 numbers that a cache fetches at once, 64 bytes
_BYTE, _WORD = ir.IntType(8), ir.IntType(32)


@intrinsic
def prefetch(typingctx, array, position):  # type: ignore
    """Begins to fetch the cache line of the element at a flat position of a C-contiguous array, and goes on at once."""
    signature = types.void(array, position)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, values: Sequence[Any]) -> Any:
        data = context.make_array(signature.args[0])(context, builder, values[0]).data
        index = context.cast(builder, values[1], signature.args[1], types.int64)
        place = builder.bitcast(builder.gep(data, [index]), _BYTE.as_pointer())
        kind = ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _WORD, _WORD, _WORD])
        function = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        builder.call(function, [place, _WORD(0), _WORD(3), _WORD(1)])  # to read, to keep, data
        return context.get_dummy_value()

    return signature, emit
