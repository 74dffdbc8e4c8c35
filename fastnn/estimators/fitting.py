"""scikit-learn's fits and predictions on our kernels, for its own estimators and ours.

What an estimator is made of, random numbers included, is taken from the scikit-learn that is installed. So the same
``random_state`` gives the same net up to rounding.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import Any, NamedTuple

import numpy as np
import scipy.optimize
from sklearn.base import is_classifier
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import train_test_split
from sklearn.utils import check_random_state
from sklearn.utils.class_weight import compute_sample_weight
from sklearn.utils.extmath import safe_sparse_dot
from sklearn.utils.optimize import _check_optimize_result
from sklearn.utils.validation import _check_sample_weight, validate_data

from fastnn.estimators.solver import Objective, OptimizerState, Plan, Solver, packed, useful_threads
from fastnn.estimators.threads import leased
from fastnn.kernels.workers import Workers
from fastnn.model.inference import LINKS, Forward
from fastnn.network import Network
from fastnn.reference import ACTIVATIONS as FUNCTIONS
from fastnn.training.optimizers import OPTIMIZERS

_LOSSES = {"softmax": "softmax", "logistic": "logistic", "identity": "squared", "exp": "poisson"}  # by out_activation_
_KERNELS_FROM = 2e8  # floating-point operations of a prediction; below, NumPy has answered before threads have started
_QUIET_BELOW = 4e5  # of one beside training: larger products make BLAS start threads, which spin while ours compute
_WIDE = 256  # inputs of a float32 net from which on NumPy's products are as fast: the kernels predict in float64
_SMALLEST_RATE = 1e-6  # of learning_rate="adaptive"
_NOT_FINITE = (
    "Solver produced non-finite parameter weights. The input data may contain large values and need to be preprocessed."
)


class _Examples(NamedTuple):
    """Checked, y as scikit-learn's own arithmetic takes it: (N, outputs), bool for classes."""

    x: Any
    y: np.ndarray
    sample_weight: np.ndarray | None


def _extra(est: Any, name: str, default: Any) -> Any:
    """A parameter that our estimators have and scikit-learn's own have not."""
    return getattr(est, name, default)


@contextmanager
def all_or_nothing(est: Any) -> Iterator[None]:
    """Where a fit fails, the estimator is as it was before."""
    before = dict(vars(est))
    try:
        yield
    except BaseException:
        vars(est).clear()
        vars(est).update(before)
        raise
    finally:
        vars(est).pop("_solver", None)


def _hidden(est: Any) -> list[int]:
    sizes = est.hidden_layer_sizes
    sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
    if np.any(np.array(sizes) <= 0):
        raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
    return [int(size) for size in sizes]


def _network_of(est: Any) -> Network:
    """By the parameters that there are, as scikit-learn goes by them."""
    shapes = [np.shape(w) for w in est.coefs_]
    hidden = [shape[1] for shape in shapes[:-1]]
    activation = est.activation if isinstance(est.activation, str) else list(est.activation)
    return Network.mlp(shapes[0][0], hidden, shapes[-1][1], activation if hidden else "relu")


def _parameters(est: Any) -> list[np.ndarray]:
    dtype = np.float32 if np.asarray(est.coefs_[0]).dtype == np.float32 else np.float64
    pairs = zip(est.coefs_, est.intercepts_, strict=True)
    return [np.ascontiguousarray(part, dtype) for pair in pairs for part in pair]


def _keep(est: Any, parameters: list[np.ndarray]) -> None:
    if not all(np.isfinite(part).all() for part in parameters):
        raise ValueError(_NOT_FINITE)
    est.coefs_, est.intercepts_ = parameters[::2], parameters[1::2]


def _plan(est: Any, network: Network, batch: int) -> Plan:
    chosen, momentum = _extra(est, "optimizer", None), est.momentum
    optimizer = chosen or ("adam" if est.solver == "lbfgs" else est.solver)
    if optimizer == "sgd" and chosen is None and momentum > 0:
        optimizer = "nesterov" if est.nesterovs_momentum else "momentum"
    adam = OPTIMIZERS[optimizer].kernel == "adam"
    return Plan(
        network,
        _LOSSES[est.out_activation_],
        batch,
        optimizer,
        float(est.beta_1 if adam else momentum),
        float(est.beta_2),
        float(est.epsilon),
        float(_extra(est, "l1", 0.0)),
        float(est.alpha),
        float(_extra(est, "dropout", 0.0)),
        int(est._random_state.randint(2**31)) if _extra(est, "dropout", 0.0) else 0,
    )


def _targets(est: Any, y: np.ndarray) -> np.ndarray:
    """Labels for softmax, else targets."""
    if est.out_activation_ == "softmax":
        return y.argmax(axis=1).astype(np.int32)
    return np.ascontiguousarray(y, np.float64)


def fit(
    est: Any,
    X: Any,
    y: Any,
    sample_weight: Any = None,
    incremental: bool = False,
    X_val: Any = None,
    y_val: Any = None,
) -> Any:
    """Fit an estimator, or with `incremental` go on with it for one pass; parameters are checked before.

    Parameters
    ----------
    est : MLPClassifier or MLPRegressor
        scikit-learn's, or ours.
    X, y, sample_weight, X_val, y_val
        See `fastnn.MLPClassifier.fit`.
    incremental : bool
        As `partial_fit` does.

    Raises
    ------
    ValueError
        When the data is not as it should be, or what was learned is not finite.
    """
    hidden = _hidden(est)
    first_pass = not hasattr(est, "coefs_") or (not est.warm_start and not incremental)
    weight = _weight_of_classes(est, y)
    X, y = est._validate_input(X, y, incremental, reset=first_pass)
    if sample_weight is not None:
        sample_weight = _check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True)
    if weight is not None:
        sample_weight = weight if sample_weight is None else weight * sample_weight
    if sample_weight is not None and not sample_weight.any():
        raise ValueError("sample_weight: all weights are zero, so that no example counts")
    y = y.reshape((-1, 1)) if y.ndim == 1 else y
    if getattr(est, "loss", None) == "poisson" and (y < 0).any():
        raise ValueError('loss="poisson" requires y >= 0')
    est.n_outputs_ = y.shape[1]
    est._random_state = check_random_state(est.random_state)
    if first_pass:
        est._initialize(y, [X.shape[1], *hidden, est.n_outputs_], X.dtype)
    examples = _Examples(_for_kernels(X), y, sample_weight)
    network = _network_of(est)
    if _extra(est, "optimizer", None) is None and est.solver == "lbfgs":
        _minimize(est, network, examples)
    else:
        _descend(est, network, examples, incremental, _validation_of(est, X_val, y_val))
    return est


def _weight_of_classes(est: Any, y: Any) -> np.ndarray | None:
    given = getattr(est, "class_weight", None)
    return None if given is None else compute_sample_weight(given, np.asarray(y))


def _validation_of(est: Any, X_val: Any, y_val: Any) -> _Examples | None:
    """Examples of one's own to stop by."""
    if X_val is None and y_val is None:
        return None
    if X_val is None or y_val is None:
        raise ValueError("X_val and y_val belong together: only one of them was given")
    x = validate_data(est, X_val, accept_sparse=["csr", "csc"], dtype=(np.float64, np.float32), reset=False)
    return _Examples(_for_kernels(x), np.asarray(y_val), None)


def _minimize(est: Any, network: Network, examples: _Examples) -> None:
    """L-BFGS by SciPy, on the gradient of all examples."""
    plan = _plan(est, network, examples.x.shape[0])
    start, targets = _parameters(est), _targets(est, examples.y)
    with leased(_extra(est, "n_threads", None), useful_threads(network, examples.x.shape[0])) as threads:
        objective = Objective(plan, examples.x, targets, examples.sample_weight, threads)
        with objective.workers:
            result = scipy.optimize.minimize(
                objective,
                packed(start),
                method="L-BFGS-B",
                jac=True,
                options={"maxfun": est.max_fun, "maxiter": est.max_iter, "gtol": est.tol},
            )
    est.n_iter_ = _check_optimize_result("lbfgs", result, est.max_iter)
    est.loss_ = result.fun
    dtype = start[0].dtype
    _keep(est, [np.ascontiguousarray(part, dtype) for part in objective.unpacked(result.x)])
    # where scikit-learn's own gradient, which may be asked for, finds each part
    ends = np.cumsum([0, *(w.size for w in est.coefs_), *(b.size for b in est.intercepts_)]).tolist()
    places = list(pairwise(ends))
    est._coef_indptr = [(*at, w.shape) for at, w in zip(places, est.coefs_, strict=False)]
    est._intercept_indptr = places[len(est.coefs_) :]


def _descend(est: Any, network: Network, examples: _Examples, incremental: bool, validation: _Examples | None) -> None:
    """Mini-batches, until max_iter or until nothing improves."""
    if est.early_stopping and incremental:
        raise ValueError("partial_fit does not support early_stopping=True")
    watched = bool(est.early_stopping or validation)
    if est.early_stopping and validation is None:
        examples, validation = _held_out(est, examples)
    n = examples.x.shape[0]
    if not incremental or not hasattr(est, "_optimizer"):
        est._optimizer = OptimizerState(float(est.learning_rate_init))
    state = est._optimizer = OptimizerState(**vars(est._optimizer))
    plan = _plan(est, network, _batch_of(est, n))
    est.loss_curve_ = list(getattr(est, "loss_curve_", []))
    if watched:
        est.validation_scores_ = list(getattr(est, "validation_scores_", None) or [])
        if getattr(est, "best_validation_score_", None) is None:
            est.best_validation_score_ = -np.inf
    start, targets = _parameters(est), _targets(est, examples.y)
    with leased(_extra(est, "n_threads", None), useful_threads(network, plan.batch)) as threads:
        solver = Solver(plan, start, examples.x, targets, examples.sample_weight, state, threads)
        solver.compile()
        est._solver = solver  # what predictions are made by until it is done
        with solver.workers:
            best = _epochs(est, solver, examples, validation, incremental)
    _keep(est, solver.parameters(best))
    if incremental:
        solver.keep_moments()


def _epochs(
    est: Any, solver: Solver, examples: _Examples, validation: _Examples | None, incremental: bool
) -> np.ndarray | None:
    """Passes over the examples; a snapshot of the best parameters where there is a validation set."""
    n, state = examples.x.shape[0], est._optimizer
    order, best, ones = np.arange(n), None, np.ones(solver.steps)
    est.n_iter_ = 0
    try:
        for number in range(est.max_iter):
            if est.shuffle:
                turned = np.arange(n)
                est._random_state.shuffle(turned)
                order = order[turned]
            loss = solver.epoch(order, state.learning_rate * ones, number)
            if not np.isfinite(loss) and validation is None:
                raise ValueError(_NOT_FINITE)
            est.n_iter_ += 1
            est.t_ += n
            est.loss_ = loss
            est.loss_curve_.append(loss)
            _say(est, f"Iteration {est.n_iter_}, loss = {loss:.8f}")
            if _improved(est, loss, validation):
                best = solver.snapshot()
            rate = state.learning_rate
            if est.learning_rate == "invscaling" and solver.plan.optimizer in ("sgd", "momentum", "nesterov"):
                state.learning_rate = float(est.learning_rate_init) / (est.t_ + 1) ** est.power_t
            if est._no_improvement_count > est.n_iter_no_change and _stops(est, validation is not None):
                break
            if state.learning_rate != rate:
                solver.rescale_momentum(rate / state.learning_rate)
            if incremental:
                break
            if est.n_iter_ == est.max_iter:
                warnings.warn(
                    f"Stochastic Optimizer: Maximum iterations ({est.max_iter}) reached and the optimization "
                    f"hasn't converged yet.",
                    ConvergenceWarning,
                    stacklevel=6,
                )
    except KeyboardInterrupt:
        warnings.warn("Training interrupted by user.", stacklevel=6)
    return best


def _say(est: Any, line: str) -> None:
    if est.verbose:
        sys.stdout.write(line + "\n")


def _improved(est: Any, loss: float, validation: _Examples | None) -> bool:
    """Count epochs without improvement; whether the parameters are the best on the validation set so far."""
    if validation is None:
        est._no_improvement_count = est._no_improvement_count + 1 if loss > est.best_loss_ - est.tol else 0
        est.best_loss_ = min(est.best_loss_, loss)
        return False
    finite = np.isfinite(loss)
    score = est._score(validation.x, validation.y) if finite else float("nan")
    if finite and validation.sample_weight is not None:
        score = est._score(validation.x, validation.y, sample_weight=validation.sample_weight)
    est.validation_scores_.append(score)
    _say(est, f"Validation score: {score:f}")
    worse = score < est.best_validation_score_ + est.tol
    est._no_improvement_count = est._no_improvement_count + 1 if worse else 0
    if score > est.best_validation_score_:
        est.best_validation_score_ = score
        return True
    return False


def _stops(est: Any, validated: bool) -> bool:
    """Whether to stop now; learning_rate="adaptive" lowers the rate first."""
    what = "Validation score" if validated else "Training loss"
    said = f"{what} did not improve more than tol={est.tol:f} for {est.n_iter_no_change} consecutive epochs."
    adaptive = est.learning_rate == "adaptive" and est.solver == "sgd" and _extra(est, "optimizer", None) is None
    if not adaptive:
        _say(est, f"{said} Stopping.")
        return True
    if est._optimizer.learning_rate <= _SMALLEST_RATE:
        _say(est, f"{said} Learning rate too small. Stopping.")
        return True
    est._optimizer.learning_rate /= 5.0
    _say(est, f"{said} Setting learning rate to {est._optimizer.learning_rate:f}")
    est._no_improvement_count = 0
    return False


def _batch_of(est: Any, n: int) -> int:
    if isinstance(est.batch_size, str):
        return min(200, n)
    if est.batch_size > n:
        warnings.warn(
            "Got `batch_size` less than 1 or larger than sample size. It is going to be clipped", stacklevel=6
        )
    return int(np.clip(est.batch_size, 1, n))


def _held_out(est: Any, examples: _Examples) -> tuple[_Examples, _Examples]:
    """The share that early_stopping keeps for validation, as scikit-learn takes it."""
    stratify = examples.y if is_classifier(est) and est.n_outputs_ == 1 else None
    given = [part for part in examples if part is not None]
    parts = train_test_split(
        *given, random_state=est._random_state, test_size=est.validation_fraction, stratify=stratify
    )
    train, held = ((*parts[at::2], None)[:3] for at in (0, 1))
    if held[0].shape[0] < 2:
        raise ValueError("The validation set is too small. Increase 'validation_fraction' or the size of your dataset.")
    y_val = est._label_binarizer.inverse_transform(held[1]) if is_classifier(est) else held[1]
    return _Examples(_for_kernels(train[0]), *train[1:]), _Examples(_for_kernels(held[0]), y_val, held[2])


def outputs(est: Any, X: Any, check_input: bool = True) -> np.ndarray:
    """Outputs (N, outputs): probabilities, or predicted numbers."""
    if check_input:
        X = validate_data(est, X, accept_sparse=["csr", "csc"], reset=False)
    loss, solver = _LOSSES[est.out_activation_], vars(est).get("_solver")
    dtype, flops = np.asarray(est.coefs_[0]).dtype, 2 * X.shape[0] * sum(np.size(w) for w in est.coefs_)
    if solver is not None:  # in a fit
        z = _numpy_logits(est, solver.parameters(), X) if flops < _QUIET_BELOW else solver.logits(X)
        return LINKS[loss](z)
    if flops < _KERNELS_FROM or (dtype == np.float32 and X.shape[1] >= _WIDE):
        return LINKS[loss](_numpy_logits(est, _parameters(est), X)).astype(dtype, copy=False)
    network, asked = _network_of(est), _extra(est, "n_threads", None)
    with leased(asked, useful_threads(network, X.shape[0])) as threads, Workers(threads) as workers:
        z = Forward(network, workers).logits(_parameters(est), _for_kernels(X))
    return LINKS[loss](z).astype(dtype, copy=False)


def _numpy_logits(est: Any, parameters: list[np.ndarray], X: Any) -> np.ndarray:
    hidden = len(parameters) // 2 - 1
    names = [est.activation] * hidden if isinstance(est.activation, str) else list(est.activation)
    for w, b, name in zip(parameters[::2], parameters[1::2], [*names, "identity"], strict=True):
        X = safe_sparse_dot(X, w)
        X += b
        X = FUNCTIONS[name](X) if name != "relu" else np.maximum(X, 0, out=X)
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
