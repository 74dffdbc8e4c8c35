"""fastnn: train and use multilayer perceptrons on a CPU, fast, from kernels anyone can read.

Names are loaded when they are first used, so that ``import fastnn`` and a prediction need no Numba.
"""

from importlib import import_module

TYPE_CHECKING = False  # typing takes 8 ms to import, in which the command could not answer Ctrl-C yet
if TYPE_CHECKING:  # for editors and type checkers: where each name of the table below comes from
    from typing import Any

    from fastnn.datasets import Dataset, Split
    from fastnn.datasets import draw as draw_strokes
    from fastnn.datasets import load as load_data
    from fastnn.errors import FastnnError
    from fastnn.estimators import MLPClassifier, MLPRegressor
    from fastnn.model.model import Model, load
    from fastnn.network import Network
    from fastnn.tools.gradcheck import check as check_gradients
    from fastnn.training.fit import train
    from fastnn.training.run import Epoch, Training
    from fastnn.training.settings import Settings

__version__ = "0.1.0"

_HOMES = {
    "train": "fastnn.training.fit",
    "Training": "fastnn.training.run",
    "Settings": "fastnn.training.settings",
    "Epoch": "fastnn.training.run",
    "load": "fastnn.model.model",
    "Model": "fastnn.model.model",
    "Network": "fastnn.network",
    "FastnnError": "fastnn.errors",
    "Dataset": "fastnn.datasets",
    "Split": "fastnn.datasets",
    "load_data": "fastnn.datasets",
    "draw_strokes": "fastnn.datasets",
    "check_gradients": "fastnn.tools.gradcheck",
    "MLPClassifier": "fastnn.estimators",
    "MLPRegressor": "fastnn.estimators",
}
_ALIASES = {"load_data": "load", "draw_strokes": "draw", "check_gradients": "check"}
_NEEDS = {"MLPClassifier": "sklearn", "MLPRegressor": "sklearn"}  # names that are not there without a package
if TYPE_CHECKING:
    __all__ = [
        "Dataset",
        "Epoch",
        "FastnnError",
        "MLPClassifier",
        "MLPRegressor",
        "Model",
        "Network",
        "Settings",
        "Split",
        "Training",
        "__version__",
        "check_gradients",
        "draw_strokes",
        "load",
        "load_data",
        "train",
    ]


def __dir__() -> list[str]:
    from importlib.util import find_spec

    there = [name for name in _HOMES if name not in _NEEDS or find_spec(_NEEDS[name])]
    return sorted([*there, "__version__"])


def __getattr__(name: str) -> "Any":
    if name == "__all__":  # so that `from fastnn import *` leaves out what can't be imported
        return __dir__()
    if name not in _HOMES:
        raise AttributeError(f"module 'fastnn' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), _ALIASES.get(name, name))
