"""Long-lived workers: plain Python threads inside one kernel call, meeting at a barrier of our own.

Launching threads for each step costs 11 to 130 µs; this barrier costs about 0.1 µs (``bench/test_epochs.py``).
No threading layer of Numba is involved, so none of its hazards (abort on nested use, dead forked children,
swallowed exceptions) is either.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from concurrent import futures
from typing import Any

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import typeof
from numba.core import cgutils, types
from numba.extending import intrinsic

from fastnn.errors import RunError
from fastnn.kernels.interrupts import uninterrupted
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
        elif _load(sync, STOP) != 0:
            return False
        else:
            _offer_core()
    return True


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
        self.threads, self._process = threads, os.getpid()
        self._pool = futures.ThreadPoolExecutor(threads - 1, "fastnn") if threads > 1 else None

    def run(self, kernel: Callable[..., int], *args: Any, sync: np.ndarray) -> int:
        """Call ``kernel(*args, sync, thread, threads)`` on every thread; the result of thread 0.

        Compile it with `compile_for` beforehand. An exception in one thread frees the others and is raised here, once
        all have ended: nothing works on the arrays after. Ctrl-C waits for that too.

        Raises
        ------
        RunError
            In a forked child, where the threads are not; or when no more threads can be started.
        """
        sync[:] = 0
        if self._pool is None:
            return kernel(*args, sync, 0, 1)
        if os.getpid() != self._process:
            raise RunError(
                "this process was forked from the one whose threads these are. Take threads=1, or start processes by "
                "'spawn' (multiprocessing.set_start_method)"
            )

        def one(thread: int) -> int:
            try:
                return kernel(*args, sync, thread, self.threads)
            except BaseException:
                sync[STOP] = 1
                raise

        with uninterrupted():
            others = self._begin(one, sync)
            try:
                result = one(0)
            finally:
                futures.wait(others)
            for other in others:
                other.result()
            return result

    def _begin(self, one: Callable[[int], int], sync: np.ndarray) -> list[futures.Future[int]]:
        """Give all threads but the first their work; all, or none."""
        others = list[futures.Future[int]]()
        try:
            for thread in range(1, self.threads):
                others.append(self._pool.submit(one, thread))
        except RuntimeError as error:  # its work waits for a thread even so, and must not begin later
            sync[STOP] = 1
            self._pool.shutdown(cancel_futures=True)
            raise RunError(f"{self.threads} threads can't be started ({error}). Take fewer: --threads 1") from error
        return others

    def close(self) -> None:
        """Let the threads go."""
        if self._pool is not None:
            self._pool.shutdown()

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()
