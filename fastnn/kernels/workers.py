"""Long-lived workers: plain Python threads inside one kernel call, meeting at a barrier of our own.

Launching threads for each step costs 11 to 130 µs; this barrier costs about 0.1 µs (``bench/test_epochs.py``).
No threading layer of Numba is involved, so none of its hazards (abort on nested use, dead forked children,
swallowed exceptions) is either.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastnn.kernels.jit import jit

_SPINS = 1000  # pauses before a thread offers its core: 0.16 s an epoch beside a busy process, 3.6 s without
_ARRIVED, _STOP = 0, 16  # slots of `sync`, each on a cache line of its own
_YIELD = "fastnn_yield"


def _system_yield() -> Any:
    """The C function that offers this core to another thread; a harmless one where there is none."""
    if os.name == "nt":
        return ctypes.WinDLL("kernel32").SwitchToThread
    try:
        return ctypes.CDLL(None).sched_yield
    except (OSError, AttributeError):
        return ctypes.pythonapi.PyThread_get_thread_ident


llvm.add_symbol(_YIELD, ctypes.cast(_system_yield(), ctypes.c_void_p).value)


def sync_area() -> np.ndarray:
    """A fresh barrier and stop flag, int64 (32,), for one group of workers."""
    return np.zeros(32, np.int64)


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
        machine = llvm.get_process_triple().partition("-")[0]
        if machine in ("x86_64", "i686"):
            kind, name, args = ir.FunctionType(ir.VoidType(), []), "llvm.x86.sse2.pause", []
        elif machine in ("aarch64", "arm64"):
            kind, name = ir.FunctionType(ir.VoidType(), [ir.IntType(32)]), "llvm.aarch64.hint"
            args = [ir.IntType(32)(1)]
        else:
            return context.get_dummy_value()
        builder.call(cgutils.get_or_insert_function(builder.module, kind, name), args)
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
def wait(sync, threads):
    """Wait until all `threads` workers have called this as often as we; False when told to stop."""
    if threads == 1:
        return True
    ticket = _fetch_add(sync, _ARRIVED, 1)
    goal = (ticket // threads + 1) * threads
    spins = 0
    while _load(sync, _ARRIVED) < goal:
        if spins < _SPINS:
            spins += 1
            _pause()
        elif _load(sync, _STOP) != 0:
            return False
        else:
            _offer_core()
    return True


@jit
def stop(sync):
    """Free every worker that waits, now and later."""
    _fetch_add(sync, _STOP, 1)


@jit
def share(panels, thread, threads):
    """First and last of the panels that a thread owns."""
    return panels * thread // threads, panels * (thread + 1) // threads


def compile_for(kernel: Any, *args: Any) -> None:
    """Compile `kernel` for these arguments (or load it), without running it."""
    kernel.compile(tuple(typeof(arg) for arg in args))


def is_kept(kernel: Any, *args: Any) -> bool:
    """Whether the machine code of `kernel` for these arguments is in the cache, so that it need not be compiled."""
    return kernel._cache.holds(tuple(typeof(arg) for arg in args), kernel.targetctx)


class Workers:
    """A group of threads that run one kernel together; thread 0 is the caller.

    Parameters
    ----------
    threads : int
        Size of the group, at least 1.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self._pool = ThreadPoolExecutor(threads - 1, "fastnn") if threads > 1 else None

    def run(self, kernel: Callable[..., int], *args: Any, sync: np.ndarray) -> int:
        """Call ``kernel(*args, sync, thread, threads)`` on every thread; the result of thread 0.

        Compile it with `compile_for` beforehand. An exception in one thread frees the others and is raised here.
        """
        sync[:] = 0

        def one(thread: int) -> int:
            try:
                return kernel(*args, sync, thread, self.threads)
            except BaseException:
                sync[_STOP] = 1
                raise

        if self._pool is None:
            return one(0)
        others = []
        try:
            others = [self._pool.submit(one, thread) for thread in range(1, self.threads)]
            return one(0)
        except BaseException:
            sync[_STOP] = 1
            raise
        finally:
            for other in others:
                other.result()

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
