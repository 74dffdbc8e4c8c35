"""Register tiles: the few primitives that every kernel is written in.

A *tile* is ROWS x VECTORS SIMD vectors that LLVM keeps in registers from load to store. A *panel* is a
matrix whose rows are exactly one tile wide (`panel_width` numbers, contiguous, 64-byte aligned), so that
a kernel has no edge cases and reads as: load, accumulate, store.

Numba's own vectoriser stays at 256 bits and reloads its accumulators from memory: plainly written loops
reached a third of the speed of these (``bench/test_kernels.py`` measures the share of the peak).

An *intrinsic* of Numba is called like a function, `rank1(t, x, i, k, w, j)`, and its docstring tells what that call
does. Its own body runs at compile time: it takes the types of the arguments (and `typingctx`), and returns the
signature with `codegen`, which writes the LLVM instructions. What is a vector already, LLVM does not vectorise anew:
sums of tiles stay in the order they are written in.
"""

from llvmlite import ir
from numba.core import cgutils, types
from numba.core.errors import TypingError
from numba.extending import intrinsic, models, register_model

from fastnn.kernels.host import SHAPE

BLOCK = 4  # neighbouring features that sparse input keeps or drops together


class Tile(types.Type):
    """A block of registers: `rows` x `vectors` vectors of `lanes` floats of type `dtype`."""

    def __init__(self, dtype, rows=SHAPE.rows):
        self.dtype, self.rows = dtype, rows
        self.lanes = SHAPE.lanes(dtype.bitwidth // 8)
        super().__init__(name=f"Tile({dtype}, {rows}x{SHAPE.vectors}x{self.lanes})")


@register_model(Tile)
class _TileModel(models.PrimitiveModel):
    def __init__(self, dmm, tile):
        vector = ir.VectorType(_llvm_float(tile.dtype), tile.lanes)
        super().__init__(dmm, tile, ir.ArrayType(vector, tile.rows * SHAPE.vectors))


def _llvm_float(dtype):
    return ir.FloatType() if dtype == types.float32 else ir.DoubleType()


def _check_panel(*arrays, tile=None):
    for array in arrays:
        if not (isinstance(array, types.Array) and array.ndim == 2 and array.layout == "C"):
            raise TypingError(f"a panel is a C-contiguous 2-D array, not {array}")
        if tile is not None and array.dtype != tile.dtype:
            raise TypingError(f"a panel of {array.dtype} beside a tile of {tile.dtype}")


class _Emitter:
    """The LLVM instructions of one intrinsic, over panels of the tile's width."""

    def __init__(self, context, builder, tile):
        self.context, self.builder, self.tile = context, builder, tile
        self.scalar = _llvm_float(tile.dtype)
        self.vector = ir.VectorType(self.scalar, tile.lanes)
        self.width = SHAPE.vectors * tile.lanes

    def pointer(self, array_type, array, row, column):
        """Address of array[row, column]; the row length is the panel width, a constant."""
        data = self.context.make_array(array_type)(self.context, self.builder, array).data
        offset = self.builder.add(self.builder.mul(row, row.type(self.width)), column)
        return self.builder.gep(data, [offset])

    def row_pointer(self, array_type, array, row):
        """Address of array[row, 0], whatever the row length."""
        held = self.context.make_array(array_type)(self.context, self.builder, array)
        stride = self.builder.extract_value(held.strides, 0)
        step = self.builder.sdiv(stride, stride.type(array_type.dtype.bitwidth // 8))
        return self.builder.gep(held.data, [self.builder.mul(row, step)])

    def load_vector(self, base, offset, aligned=True):
        pointer = self.builder.gep(base, [ir.Constant(ir.IntType(64), offset)])
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        align = SHAPE.vector_bytes if aligned else self.tile.dtype.bitwidth // 8
        return self.builder.load(pointer, align=align)

    def store_vector(self, base, offset, value):
        pointer = self.builder.gep(base, [ir.Constant(ir.IntType(64), offset)])
        pointer = self.builder.bitcast(pointer, self.vector.as_pointer())
        self.builder.store(value, pointer, align=SHAPE.vector_bytes)

    def broadcast_from(self, base, offset):
        """A vector full of base[offset]."""
        value = self.builder.load(self.builder.gep(base, [ir.Constant(ir.IntType(64), offset)]))
        undefined = ir.Constant(self.vector, ir.Undefined)
        zero = ir.Constant(ir.IntType(32), 0)
        mask = ir.Constant(ir.VectorType(ir.IntType(32), self.tile.lanes), [0] * self.tile.lanes)
        return self.builder.shuffle_vector(self.builder.insert_element(undefined, value, zero), undefined, mask)

    def spread(self, scalar, lanes):
        """A vector of `lanes` times the same number."""
        kind = ir.VectorType(scalar.type, lanes)
        first = self.builder.insert_element(ir.Constant(kind, ir.Undefined), scalar, ir.IntType(32)(0))
        mask = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
        return self.builder.shuffle_vector(first, ir.Constant(kind, ir.Undefined), mask)

    def to_floats(self, values, dtype):
        """A vector of uint8, float32 or float64 as one of the tile's type."""
        floats = ir.VectorType(self.scalar, values.type.count)
        if isinstance(dtype, types.Integer):
            return self.builder.uitofp(values, floats)
        if dtype == self.tile.dtype:
            return values
        return self.builder.fptrunc(values, floats) if dtype == types.float64 else self.builder.fpext(values, floats)

    def fma(self, a, b, c):
        name = f"llvm.fmuladd.v{self.tile.lanes}f{self.tile.dtype.bitwidth}"
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [a, b, c])

    def fence(self, vector):
        """The same vector, computed as it is written: nothing is reassociated across."""
        kind = ir.FunctionType(vector.type, [vector.type])
        name = f"llvm.arithmetic.fence.v{vector.type.count}f{self.tile.dtype.bitwidth}"
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), [vector])

    def pack(self, vectors):
        value = ir.Constant(ir.ArrayType(self.vector, len(vectors)), ir.Undefined)
        for index, vector in enumerate(vectors):
            value = self.builder.insert_value(value, vector, index)
        return value

    def unpack(self, value):
        return [self.builder.extract_value(value, i) for i in range(self.tile.rows * SHAPE.vectors)]

    def row_vectors(self, base, row_offset=0):
        return [self.load_vector(base, row_offset + v * self.tile.lanes) for v in range(SHAPE.vectors)]


def _accumulate(emit, tile, x_base, x_step, w_vectors):
    """t[r, :] += x_base[r · x_step] · w, one broadcast a row, one fused multiply-add a vector."""
    total = emit.unpack(tile)
    for r in range(emit.tile.rows):
        spread = emit.broadcast_from(x_base, r * x_step)
        for v in range(SHAPE.vectors):
            at = r * SHAPE.vectors + v
            total[at] = emit.fma(spread, w_vectors[v], total[at])
    return emit.pack(total)


def _rank1(tile, x, w, row_step):
    """Signature and code of a rank-1 update, whose elements of x lie `row_step(emit)` numbers apart."""
    _check_panel(x, w, tile=tile)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.args[0])
        tile, x, i, k, w, j = args
        base, row = emit.pointer(signature.args[1], x, i, k), emit.pointer(signature.args[4], w, j, j.type(0))
        return _accumulate(emit, tile, base, row_step(emit), emit.row_vectors(row))

    return tile(tile, x, types.intp, types.intp, w, types.intp), codegen


@intrinsic
def rank1(typingctx, tile, x, i, k, w, j):
    """t[r, :] += x[i + r, k] · w[j, :]      for every row r of the tile."""
    return _rank1(tile, x, w, lambda emit: emit.width)


@intrinsic
def rank1_transposed(typingctx, tile, x, i, k, w, j):
    """t[r, :] += x[i, k + r] · w[j, :]      for every row r of the tile."""
    return _rank1(tile, x, w, lambda emit: 1)


@intrinsic
def zeros(typingctx, like):
    """t[r, :] = 0, of the number type of the panel `like`."""
    tile = Tile(like.dtype)

    def codegen(context, builder, signature, args):
        return context.get_constant_null(signature.return_type)

    return tile(like), codegen


@intrinsic
def load(typingctx, z, i):
    """t[r, :] = z[i + r, :]."""
    _check_panel(z)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        base = emit.pointer(signature.args[0], args[0], args[1], args[1].type(0))
        return emit.pack([v for r in range(SHAPE.rows) for v in emit.row_vectors(base, r * emit.width)])

    return Tile(z.dtype)(z, types.intp), codegen


@intrinsic
def load_row(typingctx, b, i):
    """t[r, :] = b[i, :], the same row in every row of the tile."""
    _check_panel(b)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        row = emit.row_vectors(emit.pointer(signature.args[0], args[0], args[1], args[1].type(0)))
        return emit.pack(row * SHAPE.rows)

    return Tile(b.dtype)(b, types.intp), codegen


@intrinsic
def store(typingctx, tile, z, i):
    """z[i + r, :] = t[r, :]."""
    _check_panel(z)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.args[0])
        base = emit.pointer(signature.args[1], args[1], args[2], args[2].type(0))
        for at, vector in enumerate(emit.unpack(args[0])):
            emit.store_vector(base, at * emit.tile.lanes, vector)
        return context.get_dummy_value()

    return types.void(tile, z, types.intp), codegen


@intrinsic
def add(typingctx, t, u):
    """t[r, :] + u[r, :]."""

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        pairs = zip(emit.unpack(args[0]), emit.unpack(args[1]), strict=True)
        return emit.pack([builder.fadd(a, b) for a, b in pairs])

    return t(t, t), codegen


@intrinsic
def multiply(typingctx, t, u):
    """t[r, :] · u[r, :]."""

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        pairs = zip(emit.unpack(args[0]), emit.unpack(args[1]), strict=True)
        return emit.pack([builder.fmul(a, b) for a, b in pairs])

    return t(t, t), codegen


@intrinsic
def relu(typingctx, t):
    """t[r, :] where it is positive or not a number, else 0: divergence must stay visible."""

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        zero = ir.Constant(emit.vector, None)
        rows = emit.unpack(args[0])
        return emit.pack([builder.select(builder.fcmp_ordered("<=", v, zero), zero, v) for v in rows])

    return t(t), codegen


@intrinsic
def where_positive(typingctx, t, a):
    """t[r, :] where a[r, :] > 0, else 0: the derivative of ReLU applied to a gradient."""

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        zero = ir.Constant(emit.vector, None)
        pairs = zip(emit.unpack(args[0]), emit.unpack(args[1]), strict=True)
        return emit.pack([builder.select(builder.fcmp_ordered(">", a, zero), v, zero) for v, a in pairs])

    return t(t, t), codegen


@intrinsic
def transpose_square(typingctx, source, i, r, c, target):
    """target[c + n, r + m] = source[i + r + m, c + n]      for m, n below the number of lanes.

    log2(lanes) rounds, each of which exchanges the off-diagonal halves of 2x2 blocks, in registers.
    """
    _check_panel(source, target)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, Tile(signature.args[0].dtype))
        lanes = emit.tile.lanes
        source, i, r, c, target = args
        base = emit.pointer(signature.args[0], source, builder.add(i, r), c)
        rows = [emit.load_vector(base, m * emit.width) for m in range(lanes)]

        def exchange(distance):
            low = [lane if not lane & distance else lanes + lane - distance for lane in range(lanes)]
            high = [lane + distance if not lane & distance else lanes + lane for lane in range(lanes)]
            kind = ir.VectorType(ir.IntType(32), lanes)
            for m in range(lanes):
                if not m & distance:
                    a, b = rows[m], rows[m + distance]
                    rows[m] = builder.shuffle_vector(a, b, ir.Constant(kind, low))
                    rows[m + distance] = builder.shuffle_vector(a, b, ir.Constant(kind, high))

        distance = 1
        while distance < lanes:
            exchange(distance)
            distance *= 2
        base = emit.pointer(signature.args[4], target, c, r)
        for n in range(lanes):
            emit.store_vector(base, n * emit.width, rows[n])
        return context.get_dummy_value()

    return types.void(source, types.intp, types.intp, types.intp, target), codegen


@intrinsic
def add_row_sums(typingctx, tile, b, i):
    """b[i, :] += Σ_r t[r, :]."""
    _check_panel(b)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.args[0])
        base = emit.pointer(signature.args[1], args[1], args[2], args[2].type(0))
        row = emit.row_vectors(base)
        for at, vector in enumerate(emit.unpack(args[0])):
            row[at % SHAPE.vectors] = builder.fadd(row[at % SHAPE.vectors], vector)
        for v, vector in enumerate(row):
            emit.store_vector(base, v * emit.tile.lanes, vector)
        return context.get_dummy_value()

    return types.void(tile, b, types.intp), codegen


@intrinsic
def sum_of_row(typingctx, start, z, i):
    """start + Σ_j z[i, j], always in the same order: as many sums side by side as numbers are in 32 bytes.

    How LLVM splits up the sum of a plain loop depends on what it is inlined into, and with it the last bits.
    """
    _check_panel(z)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, Tile(z.dtype))
        start, array, row = args
        lanes = 32 // (z.dtype.bitwidth // 8)
        kind, base = ir.VectorType(emit.scalar, lanes), emit.pointer(signature.args[1], array, row, row.type(0))
        total = emit.fence(builder.insert_element(ir.Constant(kind, None), start, ir.IntType(32)(0)))
        for j in range(0, emit.width, lanes):
            at = builder.bitcast(builder.gep(base, [ir.IntType(64)(j)]), kind.as_pointer())
            total = emit.fence(builder.fadd(total, builder.load(at, align=z.dtype.bitwidth // 8)))
        while lanes > 1:
            lanes //= 2
            undefined = ir.Constant(total.type, ir.Undefined)
            low, high = (
                builder.shuffle_vector(total, undefined, ir.Constant(ir.VectorType(ir.IntType(32), lanes), part))
                for part in (list(range(lanes)), list(range(lanes, 2 * lanes)))
            )
            total = emit.fence(builder.fadd(low, high))
        return builder.extract_element(total, ir.IntType(32)(0))

    return z.dtype(z.dtype, z, types.intp), codegen


@intrinsic
def block_zeros(typingctx, like):
    """A tile of BLOCK rows, zero, of the number type of the panel `like`."""

    def codegen(context, builder, signature, args):
        return context.get_constant_null(signature.return_type)

    return Tile(like.dtype, BLOCK)(like), codegen


@intrinsic
def block_load(typingctx, w, k):
    """t[r, :] = w[k + r, :] for the BLOCK rows of a tile."""
    _check_panel(w)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.return_type)
        base = emit.pointer(signature.args[0], args[0], args[1], args[1].type(0))
        return emit.pack([v for r in range(BLOCK) for v in emit.row_vectors(base, r * emit.width)])

    return Tile(w.dtype, BLOCK)(w, types.intp), codegen


@intrinsic
def block_rank1(typingctx, tile, x, e, dz, i):
    """t[r, :] += x[e, r] · dz[i, :]      for the BLOCK values of entry e.    x (E, BLOCK)"""
    _check_panel(x, dz)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.args[0])
        tile, x, e, dz, i = args
        row = emit.row_vectors(emit.pointer(signature.args[3], dz, i, i.type(0)))
        return _accumulate(emit, tile, emit.row_pointer(signature.args[1], x, e), 1, row)

    return tile(tile, x, types.intp, dz, types.intp), codegen


@intrinsic
def block_add_product(typingctx, tile, x, e, z, i):
    """z[i, :] += Σ_r x[e, r] · t[r, :]      for the BLOCK values of entry e.    x (E, BLOCK)"""
    _check_panel(x, z)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.args[0])
        tile, x, e, z, i = args
        base = emit.pointer(signature.args[3], z, i, i.type(0))
        row, x_base = emit.row_vectors(base), emit.row_pointer(signature.args[1], x, e)
        weights = emit.unpack(tile)
        for r in range(BLOCK):
            spread = emit.broadcast_from(x_base, r)
            row = [emit.fma(spread, weights[r * SHAPE.vectors + v], row[v]) for v in range(SHAPE.vectors)]
        for v, vector in enumerate(row):
            emit.store_vector(base, v * emit.tile.lanes, vector)
        return context.get_dummy_value()

    return types.void(tile, x, types.intp, z, types.intp), codegen


@intrinsic
def block_add_to(typingctx, tile, w, k):
    """w[k + r, :] += t[r, :] for the BLOCK rows of a tile."""
    _check_panel(w)

    def codegen(context, builder, signature, args):
        emit = _Emitter(context, builder, signature.args[0])
        base = emit.pointer(signature.args[1], args[1], args[2], args[2].type(0))
        for at, vector in enumerate(emit.unpack(args[0])):
            held = emit.load_vector(base, at * emit.tile.lanes)
            emit.store_vector(base, at * emit.tile.lanes, builder.fadd(held, vector))
        return context.get_dummy_value()

    return types.void(tile, w, types.intp), codegen


@intrinsic
def convert_block(typingctx, source, i, scale, target, m):
    """target[m, :] = scale · source[i, :], BLOCK numbers; uint8 or float becomes the target's type."""
    _check_panel(source, target)

    def codegen(context, builder, signature, args):
        source_type, _, _, target_type, _ = signature.args
        source, i, scale, target, m = args
        emit = _Emitter(context, builder, Tile(target_type.dtype))
        held = ir.VectorType(context.get_value_type(source_type.dtype), BLOCK)
        address = builder.bitcast(emit.row_pointer(source_type, source, i), held.as_pointer())
        values = emit.to_floats(builder.load(address, align=source_type.dtype.bitwidth // 8), source_type.dtype)
        values = builder.fmul(values, emit.spread(scale, BLOCK))
        address = builder.bitcast(emit.row_pointer(target_type, target, m), values.type.as_pointer())
        builder.store(values, address, align=target_type.dtype.bitwidth // 8)
        return context.get_dummy_value()

    return types.void(source, types.intp, target.dtype, target, types.intp), codegen
