"""Numbers in the type of others, and their bits: what formulas of kernels are written with."""

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic


@intrinsic
def number(typingctx, value, like):
    """`value` as a number of the type of `like`, so that no constant widens float32 arithmetic."""
    dtype = like.dtype if isinstance(like, types.Array) else like

    def codegen(context, builder, signature, args):
        return context.cast(builder, args[0], signature.args[0], signature.return_type)

    return dtype(value, like), codegen


@intrinsic
def nearest(typingctx, x):
    """The whole number nearest to `x`, as a float."""

    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(args[0].type, [args[0].type])
        name = f"llvm.rint.f{signature.args[0].bitwidth}"
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [args[0]])

    return x(x), codegen


@intrinsic
def exponent(typingctx, x):
    """The whole n, as a float, with 2^n ≤ x < 2^(n + 1), for a positive normal x; read from its bits."""
    bits, mantissa, bias = (32, 23, 127) if x == types.float32 else (64, 52, 1023)

    def codegen(context, builder, signature, args):
        integer = ir.IntType(bits)
        biased = builder.lshr(builder.bitcast(args[0], integer), integer(mantissa))
        return builder.sitofp(builder.sub(biased, integer(bias)), args[0].type)

    return x(x), codegen


@intrinsic
def power_of_two(typingctx, exponent):
    """2 to a whole `exponent` (-126 to 127 in float32, -1022 to 1023 in float64), written as bits."""
    bits, mantissa, bias = (32, 23, 127) if exponent == types.float32 else (64, 52, 1023)

    def codegen(context, builder, signature, args):
        integer = ir.IntType(bits)
        biased = builder.add(builder.fptosi(args[0], integer), integer(bias))
        return builder.bitcast(builder.shl(biased, integer(mantissa)), args[0].type)

    return exponent(exponent), codegen
