"""Where the time of a step goes: a counter of the processor, read between its phases when a run asks for it."""

import llvmlite.binding as llvm
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastnn.kernels.jit import jit

PHASES = (
    "input",
    "first layer",
    "hidden layers",
    "output layer",
    "softmax",
    "output gradients",
    "hidden gradients",
    "first gradient",
    "waiting",
)
INPUT, FIRST, HIDDEN, OUTPUT, SOFTMAX, OUTPUT_BACK, HIDDEN_BACK, FIRST_BACK, WAITING = range(len(PHASES))
_COUNTERS = {"x86_64": "llvm.readcyclecounter", "aarch64": "llvm.readsteadycounter", "arm64": "llvm.readsteadycounter"}


@intrinsic
def ticks(typingctx):
    """A counter that rises at a constant rate; 0 where we know of none that a process may read."""

    def codegen(context, builder, signature, args):
        name = _COUNTERS.get(llvm.get_process_triple().partition("-")[0])
        if name is None:
            return ir.Constant(ir.IntType(64), 0)
        kind = ir.FunctionType(ir.IntType(64), [])
        return builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [])

    return types.int64(), codegen


@jit
def mark(clock, thread, phase):
    """The time since the last mark was spent on `phase`. Compiled to nothing where `clock` is None."""
    if clock is not None:
        now = ticks()
        clock[thread, phase] += now - clock[thread, -1]
        clock[thread, -1] = now
