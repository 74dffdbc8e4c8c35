"""The optimizers: one row each. The kernel is in `kernels/optimizers.py`, its twin in `reference/optimizers.py`."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Optimizer:
    """How gradients become steps.

    Attributes
    ----------
    name : str
    kernel : str
        Name of its kernel and of its twin.
    memory : tuple of bool
        Whether it keeps a first moment (momentum), and a second (squares).
    learning_rate : float
        A good one to begin with.
    momentum : float
        Or β₁, of the first moment.
    beta2 : float
        Of the second moment.
    epsilon : float
        Added to its root.
    weight_decay : float
        Decoupled.
    """

    name: str
    kernel: str
    memory: tuple[bool, bool] = (False, False)
    learning_rate: float = 0.15
    momentum: float = 0.0
    beta2: float = 0.0
    epsilon: float = 1e-8
    weight_decay: float = 0.0


KERNELS = ("sgd", "momentum", "nesterov", "adam", "rmsprop")  # in the order that `kernels.optimizers` knows them by
OPTIMIZERS = {
    row.name: row
    for row in (
        Optimizer("sgd", "sgd"),
        Optimizer("momentum", "momentum", (True, False), 0.02, momentum=0.9),
        Optimizer("nesterov", "nesterov", (True, False), 0.02, momentum=0.9),
        Optimizer("adam", "adam", (True, True), 0.001, momentum=0.9, beta2=0.999),
        Optimizer("adamw", "adam", (True, True), 0.001, momentum=0.9, beta2=0.999, weight_decay=0.01),
        Optimizer("rmsprop", "rmsprop", (False, True), 0.001, beta2=0.99),
    )
}
