"""The estimators: scikit-learn's own classes with other arithmetic, and more parameters."""

from __future__ import annotations

from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any, ClassVar

import numpy as np
from sklearn import neural_network
from sklearn.base import _fit_context
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target

from fastnn.estimators import fitting
from fastnn.network import ACTIVATIONS
from fastnn.training.optimizers import OPTIMIZERS

_MORE: dict[str, list[Any]] = {  # parameters that scikit-learn's have not
    "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
    "class_weight": [StrOptions({"balanced"}), dict, list, None],
    "dropout": [Interval(Real, 0, 0.95, closed="both")],
    "l1": [Interval(Real, 0, None, closed="left")],
    "optimizer": [StrOptions(set(OPTIMIZERS)), None],
    "n_threads": [Interval(Integral, 1, 1024, closed="both"), None],
}


class OnKernels:
    """What both do otherwise than scikit-learn's; a mixin before one of its classes."""

    def _fit(self, X: Any, y: Any, sample_weight: Any = None, incremental: bool = False) -> Any:
        return fitting.fit(self, X, y, sample_weight, incremental)

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        return fitting.outputs(self, X, check_input)


class MLPClassifier(OnKernels, neural_network.MLPClassifier):
    """scikit-learn's ``MLPClassifier`` on fastnn's kernels: the same parameters, attributes and results, faster.

    Parameters
    ----------
    hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, max_iter, \
shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, validation_fraction, \
beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn. ``activation`` may also be ``"leaky-relu"`` or ``"gelu"``, or a sequence with one for each
        hidden layer.
    class_weight : {"balanced"}, dict or list of dict, optional
        What each class counts, as elsewhere in scikit-learn.
    dropout : float
        Share of the hidden units that is left out in each step, 0 to 0.95.
    l1 : float
        Weight of the sum of the weights' magnitudes, as ``alpha`` is of half their squares.
    optimizer : {"sgd", "momentum", "nesterov", "adam", "adamw", "rmsprop"}, optional
        Instead of ``solver``.
    n_threads : int, optional
        As many as pay by default. Never changes results.

    Examples
    --------
    >>> from fastnn import MLPClassifier
    >>> x, y = [[0.0], [0.2], [0.8], [1.0]], ["a", "a", "b", "b"]
    >>> model = MLPClassifier(solver="lbfgs", random_state=1).fit(x, y)
    >>> model.predict([[0.1], [0.9]]).tolist()
    ['a', 'b']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {**neural_network.MLPClassifier._parameter_constraints, **_MORE}

    def __init__(
        self,
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        class_weight: Any = None,
        dropout: float = 0.0,
        l1: float = 0.0,
        optimizer: str | None = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes,
            activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.class_weight = class_weight
        self.dropout = dropout
        self.l1 = l1
        self.optimizer = optimizer
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Any:
        """Train on examples.

        Parameters
        ----------
        X : array_like or SciPy sparse array (N, D)
        y : array_like (N,), or (N, labels) of 0 and 1
        sample_weight : array_like (N,), optional
        X_val, y_val : array_like, optional
            Examples to stop by and to choose the best epoch by, instead of a share of X.

        Returns
        -------
        self
            As it was before, where something is wrong.
        """
        with fitting.all_or_nothing(self):
            return fitting.fit(self, X, y, sample_weight, False, X_val, y_val)

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> Any:
        """One pass over some examples; the first call names all `classes` there will be."""
        with fitting.all_or_nothing(self):
            if _check_partial_fit_first_call(self, classes):
                self._label_binarizer = LabelBinarizer()
                multilabel = type_of_target(y).startswith("multilabel")
                self._label_binarizer.fit(y if multilabel else classes)
            return self._fit(X, y, sample_weight, True)


class MLPRegressor(OnKernels, neural_network.MLPRegressor):
    """scikit-learn's ``MLPRegressor`` on fastnn's kernels: the same parameters, attributes and results, faster.

    Parameters
    ----------
    loss, hidden_layer_sizes, activation, solver, alpha, batch_size, learning_rate, learning_rate_init, power_t, \
max_iter, shuffle, random_state, tol, verbose, warm_start, momentum, nesterovs_momentum, early_stopping, \
validation_fraction, beta_1, beta_2, epsilon, n_iter_no_change, max_fun
        As in scikit-learn. ``activation`` may also be ``"leaky-relu"`` or ``"gelu"``, or a sequence with one for each
        hidden layer. The loss of several outputs is their sum, as its gradient is (scikit-learn's issue 8349).
    dropout, l1, optimizer, n_threads
        See `MLPClassifier`.

    Examples
    --------
    >>> from fastnn import MLPRegressor
    >>> model = MLPRegressor(solver="lbfgs", random_state=1).fit([[0.0], [0.5], [1.0]], [1.0, 2.0, 3.0])
    >>> model.predict([[0.5]]).round(2).tolist()
    [2.0]
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **neural_network.MLPRegressor._parameter_constraints,
        **{name: allowed for name, allowed in _MORE.items() if name != "class_weight"},
        "loss": [StrOptions({"squared_error", "poisson"})],
    }

    def __init__(
        self,
        loss: str = "squared_error",
        hidden_layer_sizes: int | Sequence[int] = (100,),
        activation: str | Sequence[str] = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: str = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: float = 10,
        max_fun: int = 15000,
        dropout: float = 0.0,
        l1: float = 0.0,
        optimizer: str | None = None,
        n_threads: int | None = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.loss = loss
        self.dropout = dropout
        self.l1 = l1
        self.optimizer = optimizer
        self.n_threads = n_threads

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(self, X: Any, y: Any, sample_weight: Any = None, *, X_val: Any = None, y_val: Any = None) -> Any:
        """Train on examples.

        Parameters
        ----------
        X : array_like or SciPy sparse array (N, D)
        y : array_like (N,) or (N, outputs)
        sample_weight : array_like (N,), optional
        X_val, y_val : array_like, optional
            Examples to stop by and to choose the best epoch by, instead of a share of X.

        Returns
        -------
        self
            As it was before, where something is wrong.
        """
        with fitting.all_or_nothing(self):
            return fitting.fit(self, X, y, sample_weight, False, X_val, y_val)

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> Any:
        """One pass over some examples."""
        with fitting.all_or_nothing(self):
            return self._fit(X, y, sample_weight, True)
