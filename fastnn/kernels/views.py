"""Parts of buffers as arrays, without counting references, and asking for memory ahead.

A slice would count references with atomic operations on one cache line that all threads share. `tiles` says what an
intrinsic is.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic
from numba.np.arrayobj import populate_array

from fastnn.kernels.host import SHAPE
from fastnn.kernels.tiles import _check_panel


@intrinsic
def prefetch(typingctx, data, first, last):
    """Ask for the elements `first` to `last` of the C-contiguous array `data`, as if flat, to be brought near."""

    def codegen(context, builder, signature, args):
        array, first, last = args
        size = signature.args[0].dtype.bitwidth // 8
        byte_pointer = ir.IntType(8).as_pointer()
        data = context.make_array(signature.args[0])(context, builder, array).data
        base = builder.bitcast(builder.gep(data, [first]), byte_pointer)
        kind = ir.FunctionType(ir.VoidType(), [byte_pointer] + [ir.IntType(32)] * 3)
        call = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0")
        reach = builder.mul(builder.sub(last, first), first.type(size))
        with cgutils.for_range_slice(builder, reach.type(0), reach, reach.type(64)) as (offset, _):
            read, locality, into_data_cache = (ir.IntType(32)(n) for n in (0, 2, 1))
            builder.call(call, [builder.gep(base, [offset]), read, locality, into_data_cache])
        return context.get_dummy_value()

    return types.void(data, types.intp, types.intp), codegen


@intrinsic
def part(typingctx, buffer, offset, count):
    """buffer[offset : offset + count], flat."""
    view = types.Array(buffer.dtype, 1, "C")

    def codegen(context, builder, signature, args):
        buffer, offset, count = args
        intp = context.get_value_type(types.intp)
        size = intp(signature.args[0].dtype.bitwidth // 8)
        array = context.make_array(view)(context, builder)
        data = context.make_array(signature.args[0])(context, builder, buffer).data
        shape, strides = cgutils.pack_array(builder, [count]), cgutils.pack_array(builder, [size])
        populate_array(array, builder.gep(data, [offset]), shape, strides, size, None)
        return array._getvalue()

    return view(buffer, types.intp, types.intp), codegen


@intrinsic
def rows_of(typingctx, array, first, count):
    """array[first : first + count] of a C-contiguous array (N, M)."""
    _check_panel(array)
    view = types.Array(array.dtype, 2, "C")

    def codegen(context, builder, signature, args):
        array, first, count = args
        held = context.make_array(signature.args[0])(context, builder, array)
        columns = builder.extract_value(held.shape, 1)
        rows = context.make_array(view)(context, builder)
        shape = cgutils.pack_array(builder, [count, columns])
        data = builder.gep(held.data, [builder.mul(first, columns)])
        populate_array(rows, data, shape, held.strides, held.itemsize, None)
        return rows._getvalue()

    return view(array, types.intp, types.intp), codegen


@intrinsic
def panels(typingctx, buffer, offset, count, rows):
    """The panels buffer[offset:] as an array (count, rows, panel_width)."""
    view = types.Array(buffer.dtype, 3, "C")

    def codegen(context, builder, signature, args):
        buffer, offset, count, rows = args
        size = signature.args[0].dtype.bitwidth // 8
        width = SHAPE.panel_width(size)
        intp = context.get_value_type(types.intp)
        data = context.make_array(signature.args[0])(context, builder, buffer).data
        array = context.make_array(view)(context, builder)
        steps = [builder.mul(rows, intp(width * size)), intp(width * size), intp(size)]
        populate_array(
            array,
            data=builder.gep(data, [offset]),
            shape=cgutils.pack_array(builder, [count, rows, intp(width)]),
            strides=cgutils.pack_array(builder, steps),
            itemsize=intp(size),
            meminfo=None,
        )
        return array._getvalue()

    return view(buffer, types.intp, types.intp, types.intp), codegen
