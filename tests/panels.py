"""For tests of kernels: jit functions that Python can call, and plain matrices as the panels that kernels take."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import numpy as np

from fastnn.kernels.host import SHAPE
from fastnn.kernels.jit import standalone
from fastnn.kernels.layout import aligned_zeros, to_panels

DTYPES = ("float32", "float64")
W = {dtype: SHAPE.panel_width(np.dtype(dtype).itemsize) for dtype in DTYPES}

callable_once = cache(standalone)  # each compiled once, whatever modules of tests call it


class Callable:
    """The functions of a module, compiled so that Python can call them."""

    def __init__(self, module: ModuleType) -> None:
        self._module = module

    def __getattr__(self, name: str) -> object:
        found = getattr(self._module, name)
        inner = hasattr(found, "py_func") and found.targetoptions.get("no_cpython_wrapper")
        return callable_once(found) if inner else found


def up(n: int, multiple: int) -> int:
    return -(-n // multiple) * multiple


def random(shape: tuple[int, ...], dtype: str, seed: int = 0) -> np.ndarray:
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def close(found: np.ndarray, wanted: np.ndarray, dtype: str) -> None:
    tolerance = {"float32": 2e-5, "float64": 1e-12}[dtype]
    assert found.shape == wanted.shape
    scale = max(1.0, float(np.abs(wanted).max(initial=0)))
    np.testing.assert_allclose(found, wanted, rtol=0, atol=tolerance * scale)


def rows_of(b: int) -> int:
    return up(b, SHAPE.rows)


def panels(matrix: np.ndarray) -> np.ndarray:
    """Activations: room for whole panels of samples."""
    return to_panels(matrix, up(len(matrix), W[str(matrix.dtype)]))


def weight_panels(w: np.ndarray) -> np.ndarray:
    return to_panels(w, up(len(w), W[str(w.dtype)]))


def bias_panels(b: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(to_panels(b[None])[:, 0])


def output_panels(w: np.ndarray) -> np.ndarray:
    """Output weights (K, C) as the kernels keep them: transposed, (K/W, C, W)."""
    return to_panels(np.ascontiguousarray(w.T), up(w.shape[1], SHAPE.rows))


def logit_panels(z: np.ndarray) -> np.ndarray:
    """(B, C) → (B/W, C, W)."""
    return to_panels(np.ascontiguousarray(z.T), up(z.shape[1], SHAPE.rows))


def padded(y: np.ndarray, dtype: str = "int32") -> np.ndarray:
    """What belongs to samples, with room for whole panels of them; what is beyond must not count."""
    return np.concatenate([y.reshape(-1), np.ones(128, y.dtype)]).astype(dtype)


def square(dtype: str, count: int = 1) -> np.ndarray:
    return aligned_zeros((count, W[dtype], W[dtype]), np.dtype(dtype))
