"""scikit-learn's own multilayer perceptrons on fastnn's kernels, without a change to the code that uses them.

::

    python -m fastnn.accel script.py arguments …
    pytest -p fastnn.accel …

or, in Python, ``import fastnn.accel; fastnn.accel.install()``, and ``uninstall()`` to take it back.

`install` does two things. `sklearn.neural_network` then holds `fastnn.MLPClassifier` and `fastnn.MLPRegressor`, and so
does every module that has imported scikit-learn's by name. And scikit-learn's own classes get our arithmetic, so that
estimators that are there already, in pipelines for example, and classes derived from them use the kernels too. Files do
not change: an estimator of scikit-learn's is pickled as that.
"""

from __future__ import annotations

import logging
import runpy
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

from fastnn.errors import UsageError
from fastnn.estimators import MLPClassifier, MLPRegressor, fitting
from fastnn.estimators.mlp import OnKernels

log = logging.getLogger("fastnn.accel")
_OURS: dict[type, type] = {ours.__bases__[1]: ours for ours in (MLPClassifier, MLPRegressor)}  # by scikit-learn's own
_BASE: Any = next(kind for kind in MLPClassifier.__mro__ if kind.__name__ == "BaseMultilayerPerceptron")
# what scikit-learn's arithmetic consists of: where a class derived from its has its own, ours would pass it by
_PARTS = (
    *("_backprop", "_forward_pass", "_compute_loss_grad", "_loss_grad_lbfgs", "_fit_stochastic", "_fit_lbfgs"),
    "_update_no_improvement_count",
)
_originals: dict[str, Callable[..., Any]] = {}  # methods of scikit-learn's base class
_told: set[type] = set()  # classes that stay with scikit-learn
_names: list[tuple[ModuleType, str, type]] = []  # where one of its classes was to be found


def install() -> None:
    """Put fastnn's arithmetic in the place of scikit-learn's; once is enough.

    Examples
    --------
    >>> import fastnn.accel
    >>> from sklearn.neural_network import MLPClassifier
    >>> early = MLPClassifier(random_state=1)
    >>> fastnn.accel.install()
    >>> model = early.fit([[0.0], [0.2], [0.8], [1.0]], [0, 0, 1, 1])  # on the kernels
    >>> fastnn.accel.uninstall()
    """
    if _originals:
        return
    for name, ours in (("_fit", _fit), ("_forward_pass_fast", _forward_pass_fast)):
        _originals[name] = getattr(_BASE, name)
        setattr(_BASE, name, ours)
    for module in list(sys.modules.values()):
        if isinstance(module, ModuleType) and module.__name__.partition(".")[0] != "fastnn":
            for name, value in list(vars(module).items()):
                for own, ours in _OURS.items():
                    if value is own and module.__name__ != own.__module__:  # where pickle looks for it
                        _names.append((module, name, own))
                        setattr(module, name, ours)


def uninstall() -> None:
    """Put scikit-learn's own back, wherever `install` found it."""
    while _names:
        module, name, own = _names.pop()
        setattr(module, name, own)
    while _originals:
        name, original = _originals.popitem()
        setattr(_BASE, name, original)


def _fit(self: Any, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
    if _is_left_to_scikit_learn(self):
        weight = {} if sample_weight is None else {"sample_weight": sample_weight}
        return _originals["_fit"](self, X, y, incremental=incremental, **weight)
    with fitting.all_or_nothing(self):
        return fitting.fit(self, X, y, sample_weight, incremental)


def _forward_pass_fast(self: Any, X: Any, check_input: bool = True) -> Any:
    if _is_left_to_scikit_learn(self):
        return _originals["_forward_pass_fast"](self, X, check_input=check_input)
    return fitting.outputs(self, X, check_input)


def _is_left_to_scikit_learn(estimator: Any) -> bool:
    """Where a class has arithmetic of its own, ours would pass it by: a line in the log says so."""
    for name in _PARTS:
        kind = next(kind for kind in type(estimator).__mro__ if name in vars(kind))
        if kind not in (_BASE, *_OURS, *_OURS.values(), OnKernels):
            if type(estimator) not in _told:
                _told.add(type(estimator))
                own = type(estimator).__name__, kind.__name__, name
                log.info("%s stays with scikit-learn: %s has its own %s", *own)
            return True
    return False


def pytest_configure(config: Any) -> None:
    """What makes this module a plugin of pytest."""
    install()


def pytest_unconfigure(config: Any) -> None:
    """Taken back at the end."""
    uninstall()


def main(arguments: list[str]) -> None:
    """Run a script, or ``-m module``, as Python would, with `install` before it.

    Raises
    ------
    UsageError
        When there is no script.
    """
    if not arguments or (arguments[0].startswith("-") and arguments[0] != "-m") or arguments == ["-m"]:
        raise UsageError("python -m fastnn.accel SCRIPT [ARGUMENTS …], or -m MODULE [ARGUMENTS …]")
    install()
    if arguments[0] == "-m":
        sys.argv = arguments[1:]
        sys.path.insert(0, "")
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
    else:
        sys.argv = arguments
        sys.path[0] = str(Path(arguments[0]).resolve().parent)
        runpy.run_path(arguments[0], run_name="__main__")


if __name__ == "__main__":
    from fastnn.accel import main as run  # the module that others import, not this one called __main__

    try:
        run(sys.argv[1:])
    except UsageError as error:
        sys.stderr.write(f"usage: {error}\n")
        raise SystemExit(2) from None
