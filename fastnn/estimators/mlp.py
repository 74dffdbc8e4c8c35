"""scikit-learn's multilayer perceptrons, trained and asked on our kernels.

The classes are scikit-learn's own with other arithmetic: parameters, checks, labels, messages, and the random numbers
that weights and shuffles are made of, are those of the scikit-learn that is installed. So the same ``random_state``
gives the same net up to rounding.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from numbers import Integral, Real
from typing import Any, ClassVar, NamedTuple

import numpy as np
import scipy.optimize
import scipy.special
from sklearn import neural_network
from sklearn.base import _fit_context, is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastnn.estimators.solver import Objective, OptimizerState, Plan, Solver, packed
from fastnn.kernels.workers import Workers
from fastnn.model.inference import LINKS, Forward
from fastnn.network import ACTIVATIONS, Network
from fastnn.reference import ACTIVATIONS as FUNCTIONS
from fastnn.training.optimizers import OPTIMIZERS
from fastnn.training.run import best_threads

_LOSSES = {"softmax": "softmax", "logistic": "logistic", "identity": "squared", "exp": "poisson"}  # by out_activation_
_KERNELS_FROM = 2e7  # floating-point operations of a prediction; below, NumPy has answered before threads have started
_SMALLEST_RATE = 1e-6  # of learning_rate="adaptive"
_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)
_MORE: dict[str, list[Any]] = {  # parameters that scikit-learn's have not
    "activation": [StrOptions(set(ACTIVATIONS)), "array-like"],
    "class_weight": [StrOptions({"balanced"}), dict, list, None],
    "dropout": [Interval(Real, 0, 0.95, closed="both")],
    "l1": [Interval(Real, 0, None, closed="left")],
    "optimizer": [StrOptions(set(OPTIMIZERS)), None],
    "n_threads": [Interval(Integral, 1, 1024, closed="both"), None],
}


class _Examples(NamedTuple):
    """Checked, y as scikit-learn's own arithmetic takes it: (N, outputs), bool for classes."""

    x: Any
    y: np.ndarray
    sample_weight: np.ndarray | None


class OnKernels:
    """What both estimators do otherwise than scikit-learn's; a mixin before one of its classes."""

    @contextmanager
    def _all_or_nothing(self) -> Iterator[None]:
        """Where a fit fails, the estimator is as it was before."""
        before = dict(vars(self))
        try:
            yield
        except BaseException:
            vars(self).clear()
            vars(self).update(before)
            raise
        finally:
            vars(self).pop("_solver", None)

    def _hidden(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return [int(size) for size in sizes]

    def _network_of(self, features: int) -> Network:
        activation = self.activation if isinstance(self.activation, str) else list(self.activation)
        hidden = self._hidden()
        network = Network.mlp(features, hidden, self.n_outputs_, activation if hidden else "relu")
        pairs = zip(self.coefs_, self.intercepts_, strict=True)
        own, needed = [np.shape(part) for pair in pairs for part in pair], list(network.parameter_shapes.values())
        if own != needed:
            raise ValueError(
                f"coefs_ and intercepts_ have the shapes {own}; hidden_layer_sizes={self.hidden_layer_sizes} and the "
                f"data need {needed}. Take warm_start=False, or the layers of the fit before"
            )
        return network

    def _parameters(self) -> list[np.ndarray]:
        dtype = np.float32 if np.asarray(self.coefs_[0]).dtype == np.float32 else np.float64
        pairs = zip(self.coefs_, self.intercepts_, strict=True)
        return [np.ascontiguousarray(part, dtype) for pair in pairs for part in pair]

    def _keep(self, parameters: list[np.ndarray]) -> None:
        if not all(np.isfinite(part).all() for part in parameters):
            raise ValueError(_NOT_FINITE)
        self.coefs_, self.intercepts_ = parameters[::2], parameters[1::2]

    def _plan(self, network: Network, batch: int) -> Plan:
        optimizer, momentum = self.optimizer or ("adam" if self.solver == "lbfgs" else self.solver), self.momentum
        if optimizer == "sgd" and self.optimizer is None and momentum > 0:
            optimizer = "nesterov" if self.nesterovs_momentum else "momentum"
        adam = OPTIMIZERS[optimizer].kernel == "adam"
        return Plan(
            network,
            _LOSSES[self.out_activation_],
            batch,
            optimizer,
            float(self.beta_1 if adam else momentum),
            float(self.beta_2),
            float(self.epsilon),
            float(self.l1),
            float(self.alpha),
            float(self.dropout),
            int(self._random_state.randint(2**31)) if self.dropout else 0,
            self.n_threads,
        )

    def _targets(self, y: np.ndarray) -> np.ndarray:
        """Labels for softmax, else targets."""
        if self.out_activation_ == "softmax":
            return y.argmax(axis=1).astype(np.int32)
        return np.ascontiguousarray(y, np.float64)

    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        X_val: Any = None,
        y_val: Any = None,
    ) -> Any:
        hidden = self._hidden()
        first_pass = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        weight = self._weight_of_classes(y)
        X, y = self._validate_input(X, y, incremental, reset=first_pass)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
        if weight is not None:
            sample_weight = weight if sample_weight is None else weight * sample_weight
        if sample_weight is not None and not sample_weight.any():
            raise ValueError("sample_weight: all weights are zero, so that no example counts")
        y = y.reshape((-1, 1)) if y.ndim == 1 else y
        if getattr(self, "loss", None) == "poisson" and (y < 0).any():
            raise ValueError('loss="poisson" requires y >= 0')
        self.n_outputs_ = y.shape[1]
        self._random_state = check_random_state(self.random_state)
        if first_pass:
            self._initialize(y, [X.shape[1], *hidden, self.n_outputs_], X.dtype)
        examples = _Examples(_for_kernels(X), y, sample_weight)
        network = self._network_of(X.shape[1])
        if self.optimizer is None and self.solver == "lbfgs":
            self._minimize(network, examples)
        else:
            self._descend(network, examples, incremental, self._validation_of(X_val, y_val))
        return self

    def _weight_of_classes(self, y: Any) -> np.ndarray | None:
        given = getattr(self, "class_weight", None)
        return None if given is None else compute_sample_weight(given, np.asarray(y))

    def _validation_of(self, X_val: Any, y_val: Any) -> _Examples | None:
        """Examples of one's own to stop by."""
        if X_val is None and y_val is None:
            return None
        if X_val is None or y_val is None:
            raise ValueError("X_val and y_val belong together: only one of them was given")
        x = validate_data(self, X_val, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
        return _Examples(_for_kernels(x), np.asarray(y_val), None)

    def _minimize(self, network: Network, examples: _Examples) -> None:
        """L-BFGS by SciPy, on the gradient of all examples."""
        plan = self._plan(network, examples.x.shape[0])
        objective = Objective(plan, examples.x, self._targets(examples.y), examples.sample_weight)
        start = self._parameters()
        with objective.workers:
            result = scipy.optimize.minimize(
                objective,
                packed(start),
                method="L-BFGS-B",
                jac=True,
                options={"maxfun": self.max_fun, "maxiter": self.max_iter, "gtol": self.tol},
            )
        self.n_iter_ = _check_optimize_result("lbfgs", result, self.max_iter)
        self.loss_ = result.fun + _constant(plan.loss, examples)
        dtype = start[0].dtype
        self._keep([np.ascontiguousarray(part, dtype) for part in objective.unpacked(result.x)])
        # where scikit-learn's own gradient, which may be asked for, finds each part
        ends = np.cumsum([0, *(w.size for w in self.coefs_), *(b.size for b in self.intercepts_)]).tolist()
        places = list(pairwise(ends))
        self._coef_indptr = [(*at, w.shape) for at, w in zip(places, self.coefs_, strict=False)]
        self._intercept_indptr = places[len(self.coefs_) :]

    def _descend(self, network: Network, examples: _Examples, incremental: bool, validation: _Examples | None) -> None:
        """Mini-batches, until max_iter or until nothing improves."""
        if self.early_stopping and incremental:
            raise ValueError("partial_fit does not support early_stopping=True")
        watched = bool(self.early_stopping or validation)
        if self.early_stopping and validation is None:
            examples, validation = self._held_out(examples)
        n = examples.x.shape[0]
        if not incremental or not hasattr(self, "_optimizer"):
            self._optimizer = OptimizerState(float(self.learning_rate_init))
        state = self._optimizer = OptimizerState(**vars(self._optimizer))
        plan = self._plan(network, self._batch_of(n))
        solver = Solver(plan, self._parameters(), examples.x, self._targets(examples.y), examples.sample_weight, state)
        self.loss_curve_ = list(getattr(self, "loss_curve_", []))
        if watched:
            self.validation_scores_ = list(getattr(self, "validation_scores_", None) or [])
            if getattr(self, "best_validation_score_", None) is None:
                self.best_validation_score_ = -np.inf
        solver.compile()
        self._solver = solver  # what predictions are made by until it is done
        with solver.workers:
            best = self._epochs(solver, examples, validation, incremental)
        self._keep(solver.parameters(best))
        if incremental:
            solver.keep_moments()

    def _epochs(
        self, solver: Solver, examples: _Examples, validation: _Examples | None, incremental: bool
    ) -> np.ndarray | None:
        """Passes over the examples; a snapshot of the best parameters where there is a validation set."""
        n, state, constant = examples.x.shape[0], self._optimizer, _constant(solver.plan.loss, examples)
        order, best, ones = np.arange(n), None, np.ones(solver.steps)
        self.n_iter_ = 0
        try:
            for number in range(self.max_iter):
                if self.shuffle:
                    turned = np.arange(n)
                    self._random_state.shuffle(turned)
                    order = order[turned]
                loss = solver.epoch(order, state.learning_rate * ones, number) + constant
                if not np.isfinite(loss) and validation is None:
                    raise ValueError(_NOT_FINITE)
                self.n_iter_ += 1
                self.t_ += n
                self.loss_ = loss
                self.loss_curve_.append(loss)
                self._say(f"Iteration {self.n_iter_}, loss = {loss:.8f}")
                if self._improved(loss, validation):
                    best = solver.snapshot()
                rate = state.learning_rate
                if self.learning_rate == "invscaling" and solver.plan.optimizer in ("sgd", "momentum", "nesterov"):
                    state.learning_rate = float(self.learning_rate_init) / (self.t_ + 1) ** self.power_t
                if self._no_improvement_count > self.n_iter_no_change and self._stops(validation is not None):
                    break
                if state.learning_rate != rate:
                    solver.rescale_momentum(rate / state.learning_rate)
                if incremental:
                    break
                if self.n_iter_ == self.max_iter:
                    warnings.warn(
                        f"Stochastic Optimizer: Maximum iterations ({self.max_iter}) reached and the optimization "
                        f"hasn't converged yet.",
                        ConvergenceWarning,
                        stacklevel=6,
                    )
        except KeyboardInterrupt:
            warnings.warn("Training interrupted by user.", stacklevel=6)
        return best

    def _say(self, line: str) -> None:
        if self.verbose:
            sys.stdout.write(line + "\n")

    def _improved(self, loss: float, validation: _Examples | None) -> bool:
        """Count epochs without improvement; whether the parameters are the best on the validation set so far."""
        if validation is None:
            self._no_improvement_count = self._no_improvement_count + 1 if loss > self.best_loss_ - self.tol else 0
            self.best_loss_ = min(self.best_loss_, loss)
            return False
        finite = np.isfinite(loss)
        score = self._score(validation.x, validation.y) if finite else float("nan")
        if finite and validation.sample_weight is not None:
            score = self._score(validation.x, validation.y, sample_weight=validation.sample_weight)
        self.validation_scores_.append(score)
        self._say(f"Validation score: {score:f}")
        worse = score < self.best_validation_score_ + self.tol
        self._no_improvement_count = self._no_improvement_count + 1 if worse else 0
        if score > self.best_validation_score_:
            self.best_validation_score_ = score
            return True
        return False

    def _stops(self, validated: bool) -> bool:
        """Whether to stop now; learning_rate="adaptive" lowers the rate first."""
        what = "Validation score" if validated else "Training loss"
        said = f"{what} did not improve more than tol={self.tol:f} for {self.n_iter_no_change} consecutive epochs."
        adaptive = self.learning_rate == "adaptive" and self.solver == "sgd" and self.optimizer is None
        if not adaptive:
            self._say(f"{said} Stopping.")
            return True
        if self._optimizer.learning_rate <= _SMALLEST_RATE:
            self._say(f"{said} Learning rate too small. Stopping.")
            return True
        self._optimizer.learning_rate /= 5.0
        self._say(f"{said} Setting learning rate to {self._optimizer.learning_rate:f}")
        self._no_improvement_count = 0
        return False

    def _batch_of(self, n: int) -> int:
        if isinstance(self.batch_size, str):
            return min(200, n)
        if self.batch_size > n:
            warnings.warn(
                "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
            )
        return int(np.clip(self.batch_size, 1, n))

    def _held_out(self, examples: _Examples) -> tuple[_Examples, _Examples]:
        """The share that early_stopping keeps for validation, as scikit-learn takes it."""
        stratify = examples.y if is_classifier(self) and self.n_outputs_ == 1 else None
        given = [part for part in examples if part is not None]
        parts = train_test_split(
            *given, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        train, held = ((*parts[at::2], None)[:3] for at in (0, 1))
        if held[0].shape[0] < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        y_val = self._label_binarizer.inverse_transform(held[1]) if is_classifier(self) else held[1]
        return _Examples(_for_kernels(train[0]), *train[1:]), _Examples(_for_kernels(held[0]), y_val, held[2])

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        """Outputs (N, outputs): probabilities, or predicted numbers."""
        if check_input:
            X = validate_data(self, X, accept_sparse=["csr", "csc"], reset=False)
        loss, solver = _LOSSES[self.out_activation_], vars(self).get("_solver")
        if solver is not None:
            return LINKS[loss](solver.logits(X))
        network, dtype = self._network_of(X.shape[1]), np.asarray(self.coefs_[0]).dtype
        flops = 2 * X.shape[0] * sum(layer.inputs * layer.units for layer in network.layers)
        if flops < _KERNELS_FROM:
            return LINKS[loss](self._numpy_logits(X, network)).astype(dtype, copy=False)
        threads = self.n_threads or best_threads(network, X.shape[0], 32)
        with Workers(threads) as workers:
            z = Forward(network, workers).logits(self._parameters(), _for_kernels(X))
        return LINKS[loss](z).astype(dtype, copy=False)

    def _numpy_logits(self, X: Any, network: Network) -> np.ndarray:
        for layer, w, b in zip(network.layers, self.coefs_, self.intercepts_, strict=True):
            X = safe_sparse_dot(X, w)
            X = FUNCTIONS[layer.activation](X + b)
        return X


def _for_kernels(X: Any) -> Any:
    """C-contiguous, or a CSR array whose indices rise and occur once."""
    if not hasattr(X, "tocsr"):
        return np.ascontiguousarray(X, X.dtype if X.dtype in (np.float32, np.float64) else np.float64)
    X = X.tocsr()
    if not X.has_canonical_format:
        X = X.copy()
        X.sum_duplicates()
    return X


def _constant(loss: str, examples: _Examples) -> float:
    """What scikit-learn's Poisson deviance has beside e^z − y z: the mean of y log y − y, summed over outputs."""
    if loss != "poisson":
        return 0.0
    y = examples.y.astype(np.float64)
    terms = scipy.special.xlogy(y, y) - y
    return float(np.average(terms, weights=examples.sample_weight, axis=0).sum())


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
    >>> model = MLPClassifier(random_state=1, max_iter=300).fit([[0.0], [0.2], [0.8], [1.0]], ["a", "a", "b", "b"])
    >>> model.predict([[0.1], [0.9]]).tolist()
    ['a', 'b']
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {**neural_network.MLPClassifier._parameter_constraints, **_MORE}

    def __init__(
        self,
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        class_weight=None,
        dropout=0.0,
        l1=0.0,
        optimizer=None,
        n_threads=None,
    ):
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
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
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
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, False, X_val, y_val)

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None, classes=None):
        """One pass over some examples; the first call names all `classes` there will be."""
        with self._all_or_nothing():
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
        loss="squared_error",
        hidden_layer_sizes=(100,),
        activation="relu",
        *,
        solver="adam",
        alpha=0.0001,
        batch_size="auto",
        learning_rate="constant",
        learning_rate_init=0.001,
        power_t=0.5,
        max_iter=200,
        shuffle=True,
        random_state=None,
        tol=1e-4,
        verbose=False,
        warm_start=False,
        momentum=0.9,
        nesterovs_momentum=True,
        early_stopping=False,
        validation_fraction=0.1,
        beta_1=0.9,
        beta_2=0.999,
        epsilon=1e-8,
        n_iter_no_change=10,
        max_fun=15000,
        dropout=0.0,
        l1=0.0,
        optimizer=None,
        n_threads=None,
    ):
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
    def fit(self, X, y, sample_weight=None, *, X_val=None, y_val=None):
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
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, False, X_val, y_val)

    @available_if(lambda est: est._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X, y, sample_weight=None):
        """One pass over some examples."""
        with self._all_or_nothing():
            return self._fit(X, y, sample_weight, True)
