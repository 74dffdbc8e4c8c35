"""Where the threads of a team meet: a barrier of our own, inside one kernel call.

Launching threads for each step costs 11 to 130 µs; this barrier costs 0.05 µs (``bench/test_epochs.py``).
"""

import ctypes
import os
from typing import Any, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastnn.kernels.jit import jit

_SPINS = 1000  # pauses before a thread offers its core: 0.16 s an epoch beside a busy process, 3.6 s without
_ARRIVED, STOP = 0, 16  # slots of `sync`, each on a cache line of its own
_YIELD = "fastnn_yield"
# what tells a core of a spin loop, with its argument. ARM's `yield` hardly waits, so that `_SPINS` would be over too
# soon; `isb` empties the pipeline each time (15: the whole system, its only scope)
PAUSES = {
    **dict.fromkeys(("x86_64", "i686"), ("llvm.x86.sse2.pause", None)),
    **dict.fromkeys(("aarch64", "arm64"), ("llvm.aarch64.isb", 15)),
}


def _system_yield() -> Any:
    """The C function that offers this core to another thread; a harmless one where there is none."""
    if os.name == "nt":
        return ctypes.WinDLL("kernel32").SwitchToThread
    try:
        return ctypes.CDLL(None).sched_yield
    except (OSError, AttributeError):
        return ctypes.pythonapi.PyThread_get_thread_ident


llvm.add_symbol(_YIELD, ctypes.cast(_system_yield(), ctypes.c_void_p).value)


class Team(NamedTuple):
    """Where a thread stands among those that run one kernel together."""

    sync: np.ndarray  # int64 (32,): the barrier's counter and the stop flag
    thread: int = 0
    threads: int = 1


def new_team() -> Team:
    """A team of one, with a barrier of its own."""
    return Team(np.zeros(32, np.int64))


def _slot(context, builder, array_type, array, index):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


@intrinsic
def _fetch_add(typingctx, sync, index, value):
    def codegen(context, builder, signature, args):
        pointer = _slot(context, builder, signature.args[0], args[0], args[1])
        return builder.atomic_rmw("add", pointer, args[2], "seq_cst")

    return types.int64(sync, types.intp, types.int64), codegen


@intrinsic
def _load(typingctx, sync, index):
    def codegen(context, builder, signature, args):
        pointer = _slot(context, builder, signature.args[0], args[0], args[1])
        return builder.load_atomic(pointer, "acquire", 8)

    return types.int64(sync, types.intp), codegen


@intrinsic
def _pause(typingctx):
    """Tell the core that this is a spin loop."""

    def codegen(context, builder, signature, args):
        name, argument = PAUSES.get(llvm.get_process_triple().partition("-")[0], (None, None))
        if name:
            given = [] if argument is None else [ir.Constant(ir.IntType(32), argument)]
            kind = ir.FunctionType(ir.VoidType(), [value.type for value in given])
            builder.call(cgutils.get_or_insert_function(builder.module, kind, name), given)
        return context.get_dummy_value()

    return types.void(), codegen


@intrinsic
def _offer_core(typingctx):
    def codegen(context, builder, signature, args):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(cgutils.get_or_insert_function(builder.module, kind, _YIELD), [])
        return context.get_dummy_value()

    return types.void(), codegen


@jit
def barrier(team):
    """Wait until all threads of the team have called this as often as we; no longer once they are told to stop.

    What a thread wrote before it, the others can read after it.
    """
    if team.threads == 1:
        return
    ticket = _fetch_add(team.sync, _ARRIVED, 1)
    goal = (ticket // team.threads + 1) * team.threads
    spins = 0
    while _load(team.sync, _ARRIVED) < goal:
        if spins < _SPINS:
            spins += 1
            _pause()
        elif stopped(team):
            return
        else:
            _offer_core()


@jit
def stopped(team):
    """Whether the team was told to stop, because one of its threads failed: what it computes is of no use any more."""
    return _load(team.sync, STOP) != 0


@jit
def owned(panels, team):
    """The panels that a thread owns: the first, and one past the last."""
    return panels * team.thread // team.threads, panels * (team.thread + 1) // team.threads
