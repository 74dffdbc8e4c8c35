"""The one decorator that compiles: flags with their reasons, and the cache of machine code."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import llvmlite.binding as llvm
from numba import njit
from numba.core import event
from numba.core.codegen import JITCodeLibrary
from numba.core.registry import CPUDispatcher
from numba.extending import overload

from fastnn.kernels.cache import KernelCache
from fastnn.kernels.interrupts import uninterrupted

# fastmath=True makes isnan and isfinite lie, so that a diverged run would look healthy. These four allow
# sums to be vectorised and products fused, and leave NaN and infinity what they are.
FLAGS = {"reassoc", "contract", "arcp", "nsz"}
# nogil: workers are Python threads. error_model: no branch for a division by zero in inner loops.
# No wrapper for callers from C: there are none. No counting of references: kernels allocate nothing, and those who call
# them hold their arrays. A first run compiles for 8.9 s instead of 9.9.
OPTIONS = {"nogil": True, "fastmath": FLAGS, "error_model": "numpy", "no_cfunc_wrapper": True, "_nrt": False}


class _Inner(CPUDispatcher):  # type: ignore[misc]
    """A function without the wrapper that Python needs to call it: Numba would jump to address 0."""

    def __call__(self, *args, **kwargs):
        raise TypeError(
            f"{self.__name__} is compiled for kernels only; call fastnn.kernels.jit.standalone({self.__name__})"
        )


def jit(function, **more):
    """Compile a function that only kernels call; it is stored inside the kernels that use it.

    Without the wrapper for callers from Python, which takes longer to compile than most of these do: 784-128-64-10 on
    sparse input compiles for 8.9 s instead of 12.8.
    """
    dispatcher = njit(**{**OPTIONS, **more}, no_cpython_wrapper=True)(function)
    dispatcher.__class__ = _Inner
    return dispatcher


def inlined(function):
    """The same for what LLVM must inline and might not.

    Long formulas without branches: a loop over a call is no vector. Views of memory: their sizes are constants then.
    """
    return jit(function, forceinline=True)


def apart(function):
    """The same for loops that LLVM must not inline, where they run more slowly in other surroundings.

    An epoch of 784-512-512-10 with GELU and AdamW takes 0.155 s instead of 0.163.
    """
    function.__qualname__ += _APART
    return jit(function)


def view(function):
    """The same for functions that return one array: Numba wants these to count references."""
    return jit(function, forceinline=True, _nrt=True)


def standalone(function):
    """A `jit` function compiled once more, so that Python can call it: to try it, or test it."""
    return njit(**{**OPTIONS, "_nrt": True})(function.py_func)


def by_type(stub):
    """Decorate a function that is given the Numba types of `stub`'s arguments and returns what to compile."""
    return overload(stub, jit_options={**OPTIONS, "no_cpython_wrapper": True}, strict=False)


_KERNELS: set[str] = set()
_APART = "_apart"  # in the names of functions that are never inlined


class _SelfContained(JITCodeLibrary):  # type: ignore[misc]
    """A library whose kernels call their own copies of other functions.

    Numba links these in as ``linkonce_odr``: in the process that compiles, a call may be resolved to the copy of the
    function that was compiled before on its own, in a later one it is the copy in the kernel. They are optimised in
    other surroundings, and rounded differently: Adam gave other weights in the run that compiled it.
    """

    def _optimize_final_module(self):
        if self.name in _KERNELS:
            for function in self._final_module.functions:
                if _APART in function.name:
                    function.add_function_attribute("noinline")
                copied = not function.is_declaration and function.linkage == llvm.Linkage.linkonce_odr
                if copied and not function.name.startswith("NRT_"):  # Numba prunes reference counts by these names
                    function.name = f"{function.name}.in.{self.name}"  # or others would look for it here, in vain
                    function.linkage = llvm.Linkage.internal
        super()._optimize_final_module()


class _Kernel(CPUDispatcher):  # type: ignore[misc]
    """A function that is compiled or loaded whole, whatever signals come."""

    def compile(self, sig):
        """Compile for these argument types, or load what was compiled before."""
        with uninterrupted():
            return super().compile(sig)


def kernel(function, **more):
    """Compile a function that Python calls, and keep its machine code between processes."""
    _KERNELS.add(function.__qualname__)
    dispatcher = njit(**{**OPTIONS, **more})(function)
    dispatcher.__class__ = _Kernel
    dispatcher.targetctx.codegen()._library_class = _SelfContained  # no different for functions that are not ours
    dispatcher._cache = KernelCache(function)
    return dispatcher


def allocating(function):
    """The same for kernels with arrays of their own."""
    return kernel(function, _nrt=True)


class _Listener(event.Listener):
    def __init__(self, report: Callable[[int, str], None]) -> None:
        self._report, self._count = report, 0

    def on_start(self, started: event.Event) -> None:
        self._count += 1
        self._report(self._count, started.data["dispatcher"].py_func.__name__)

    def on_end(self, ended: event.Event) -> None:
        pass


@contextmanager
def watch_compilation(report: Callable[[int, str], None]) -> Iterator[None]:
    """Call `report(count, name)` for each function that is compiled meanwhile; a cached kernel needs none."""
    with event.install_listener("numba:compile", _Listener(report)):
        yield
