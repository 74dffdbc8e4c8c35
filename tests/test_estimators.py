"""scikit-learn's estimators on the kernels: the same nets as its own, and everything around a fit."""

from __future__ import annotations

import copy
import logging
import pickle
import subprocess
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse
from sklearn import datasets, neural_network
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler, scale
from sklearn.utils.estimator_checks import parametrize_with_checks
from threadpoolctl import threadpool_limits

import fastnn
import fastnn.accel
from fastnn.estimators import threads

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:scipy.optimize. The .disp. and .iprint.:DeprecationWarning"),  # before 1.7
]
IRIS = datasets.load_iris(return_X_y=True)
SUMS = [sum(row) > 10 for row in IRIS[0]]
DIABETES = datasets.load_diabetes(return_X_y=True)
FIRST = {"solver": "lbfgs", "max_iter": 15}  # whose kernel the examples of the public names compile


def every_check(estimators: list[Any]) -> pytest.MarkDecorator:
    """scikit-learn's `parametrize_with_checks`, which hands pytest a generator before 1.7."""
    mark = parametrize_with_checks(estimators)
    return pytest.mark.parametrize(mark.args[0], list(mark.args[1]), **mark.kwargs)


def both(kind: str, x: Any, y: Any, **options: Any) -> tuple[Any, Any]:
    """scikit-learn's estimator and ours, fitted."""
    options = {"random_state": 3, **options}
    weight = {"sample_weight": options.pop("sample_weight")} if "sample_weight" in options else {}
    return tuple(getattr(home, kind)(**options).fit(x, y, **weight) for home in (neural_network, fastnn))


def same(theirs: Any, ours: Any, rtol: float = 1e-6, outputs_differ: bool = False) -> None:
    """The same net after as many epochs, with the same curve."""
    for name in ("coefs_", "intercepts_"):
        for wanted, got in zip(getattr(theirs, name), getattr(ours, name), strict=True):
            assert got.dtype == wanted.dtype or ours.solver == "lbfgs"
            np.testing.assert_allclose(got, wanted, rtol=rtol, atol=rtol)
    assert ours.n_iter_ == theirs.n_iter_
    assert (ours.t_, ours.n_layers_, ours.n_outputs_) == (theirs.t_, theirs.n_layers_, theirs.n_outputs_)
    assert ours.loss_ == pytest.approx(theirs.loss_, rel=rtol)
    for name in ("loss_curve_", "validation_scores_"):
        wanted = getattr(theirs, name, None)
        assert wanted is None or getattr(ours, name) == pytest.approx(wanted, rel=rtol)


def test_the_same_net_by_lbfgs() -> None:
    same(*both("MLPClassifier", scale(IRIS[0]), SUMS, **FIRST))
    weight = np.random.default_rng(0).random(len(DIABETES[0]))
    more = {"sample_weight": weight} if "sample_weight" in str(neural_network.MLPRegressor.fit.__doc__) else {}
    same(*both("MLPRegressor", DIABETES[0], DIABETES[1] / 100, **FIRST, **more), rtol=1e-4)


CASES = {
    "adam": ("MLPClassifier", *IRIS, {"max_iter": 60}),
    "float32": ("MLPClassifier", IRIS[0].astype("float32"), IRIS[1], {"max_iter": 40}),
    "texts": ("MLPClassifier", IRIS[0], np.array(["low", "mid", "top"])[IRIS[1]], {"max_iter": 5, "batch_size": 64}),
    "logistic layers, two classes": ("MLPClassifier", IRIS[0], SUMS, {"activation": "logistic", "max_iter": 30}),
    "tanh, deep": ("MLPClassifier", *IRIS, {"activation": "tanh", "hidden_layer_sizes": (20, 9), "batch_size": 40}),
    "linear layers": ("MLPClassifier", *IRIS, {"activation": "identity", "hidden_layer_sizes": 7, "batch_size": 1}),
    "momentum": ("MLPClassifier", *IRIS, {"solver": "sgd", "nesterovs_momentum": False, "batch_size": 32}),
    "Nesterov, adaptive": (
        "MLPClassifier",
        *IRIS,
        {"solver": "sgd", "learning_rate": "adaptive", "learning_rate_init": 0.1, "tol": 1e-3},
    ),
    "plain, invscaling": (
        "MLPClassifier",
        *IRIS,
        {"solver": "sgd", "momentum": 0, "learning_rate": "invscaling", "alpha": 0, "shuffle": False},
    ),
    "early stopping": ("MLPClassifier", *IRIS, {"early_stopping": True, "learning_rate_init": 0.02}),
    "labels": ("MLPClassifier", *datasets.make_multilabel_classification(120, random_state=0), {"max_iter": 40}),
    "sparse": ("MLPClassifier", scipy.sparse.csr_array(IRIS[0] * (IRIS[0] > 2)), IRIS[1], {"max_iter": 30}),
    "columns first": ("MLPClassifier", scipy.sparse.csc_matrix(IRIS[0]), IRIS[1], {"max_iter": 3}),
    "numbers": ("MLPRegressor", *DIABETES, {"max_iter": 40, "batch_size": 37, "alpha": 0.3}),
    "numbers, early stopping": ("MLPRegressor", *DIABETES, {"early_stopping": True, "learning_rate_init": 0.1}),
}


@pytest.mark.long
@pytest.mark.parametrize("case", CASES)
def test_the_same_net_as_scikit_learn(case: str) -> None:
    kind, x, y, options = CASES[case]
    theirs, ours = both(kind, x, y, **options)
    same(theirs, ours, rtol=1e-4 if "32" in case else 1e-7)
    if kind == "MLPRegressor":
        np.testing.assert_allclose(ours.predict(x), theirs.predict(x), rtol=1e-6)
    else:
        assert (ours.predict(x) == theirs.predict(x)).all()
        np.testing.assert_allclose(ours.predict_proba(x), theirs.predict_proba(x), rtol=1e-3 if "32" in case else 1e-6)
        assert ours.classes_.tolist() == theirs.classes_.tolist()


@pytest.mark.long
def test_sample_weights_and_poisson_are_those_of_scikit_learn() -> None:
    if "loss" not in neural_network.MLPRegressor().get_params():
        pytest.skip("scikit-learn before 1.7 has neither")
    weight = np.random.default_rng(0).random(len(DIABETES[0])) * (np.arange(len(DIABETES[0])) % 5 > 0)
    counts = np.round(DIABETES[1] / 30)
    same(*both("MLPRegressor", DIABETES[0], counts, loss="poisson", sample_weight=weight, max_iter=40, batch_size=100))
    same(*both("MLPRegressor", DIABETES[0], counts, loss="poisson", solver="lbfgs", max_iter=20), rtol=1e-4)
    same(*both("MLPClassifier", *IRIS, sample_weight=weight[:150], max_iter=40, batch_size=60))


@pytest.mark.long
def test_the_loss_of_several_outputs_is_the_one_whose_gradient_is_taken() -> None:
    """scikit-learn's is the mean over outputs with the gradient of the sum (issue 8349)."""
    y = np.stack([DIABETES[1], -DIABETES[1]], axis=1) / 100
    theirs, ours = both("MLPRegressor", DIABETES[0], y, max_iter=5, alpha=0)
    for wanted, got in zip(theirs.coefs_, ours.coefs_, strict=True):
        np.testing.assert_allclose(got, wanted, rtol=1e-7, atol=1e-9)
    ratio = ours.loss_ / theirs.loss_
    assert ratio == pytest.approx(2) or ratio == pytest.approx(1)  # or mended there
    start = fastnn.MLPRegressor(max_iter=1, random_state=3, learning_rate_init=1e-9).fit(DIABETES[0], y)
    wanted = ((start.predict(DIABETES[0]) - y) ** 2).sum(axis=1).mean() / 2
    assert start.loss_ == pytest.approx(wanted, rel=1e-3)


@pytest.mark.long
def test_partial_fits_are_those_of_scikit_learn() -> None:
    for options in ({}, {"solver": "sgd"}, {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.2}):
        theirs, ours = (home.MLPClassifier(random_state=1, **options) for home in (neural_network, fastnn))
        for first in range(0, 150, 30):
            rows = slice(first, first + 30)
            theirs.partial_fit(IRIS[0][rows], IRIS[1][rows], classes=[0, 1, 2])
            ours.partial_fit(IRIS[0][rows], IRIS[1][rows], classes=[0, 1, 2])
            ours = pickle.loads(pickle.dumps(ours))
            same(theirs, ours)
    again = clone(ours).set_params(warm_start=True, max_iter=3)
    losses = [again.fit(*IRIS).loss_ for _ in range(3)]
    assert losses[0] > losses[1] > losses[2]
    assert len(again.loss_curve_) == 9


@pytest.mark.long
@pytest.mark.parametrize("count", [1, 2, 3])
def test_threads_never_change_a_bit(count: int) -> None:
    x, y = datasets.load_digits(return_X_y=True)
    model = fastnn.MLPClassifier((90, 70), n_threads=count, max_iter=3, random_state=0, early_stopping=True).fit(x, y)
    one = fastnn.MLPClassifier((90, 70), n_threads=1, max_iter=3, random_state=0, early_stopping=True).fit(x, y)
    assert all((a == b).all() for a, b in zip(model.coefs_, one.coefs_, strict=True))
    assert model.validation_scores_ == one.validation_scores_


@pytest.mark.long
def test_what_scikit_learn_has_not() -> None:
    x, y = IRIS
    few = np.r_[0:50, 50:58]
    plain = fastnn.MLPClassifier(random_state=0, max_iter=100).fit(x[few], y[few])
    balanced = fastnn.MLPClassifier(random_state=0, max_iter=100, class_weight="balanced").fit(x[few], y[few])
    by_hand = fastnn.MLPClassifier(random_state=0, max_iter=100)
    by_hand.fit(x[few], y[few], sample_weight=np.where(y[few] == 1, 58 / 16, 58 / 100))
    assert (balanced.coefs_[0] == by_hand.coefs_[0]).all()
    assert (balanced.coefs_[0] != plain.coefs_[0]).any()
    sparse = fastnn.MLPClassifier(random_state=0, l1=0.5, alpha=0).fit(x, y)
    assert (np.abs(sparse.coefs_[0]) < 1e-3).mean() > 2 * (np.abs(plain.coefs_[0]) < 1e-3).mean()
    for more in ({"dropout": 0.2}, {"activation": "gelu"}, {"optimizer": "adamw"}, {"optimizer": "rmsprop"}):
        model = fastnn.MLPClassifier((30, 20), random_state=0, max_iter=300, **more).fit(scale(x), y)
        assert model.score(scale(x), y) > 0.93, more
    mixed = fastnn.MLPClassifier((30, 20), ("tanh", "leaky-relu"), random_state=0, max_iter=300).fit(scale(x), y)
    assert mixed.score(scale(x), y) > 0.95
    held = fastnn.MLPClassifier(random_state=0, learning_rate_init=0.05, n_iter_no_change=3)
    held.fit(x[::2], y[::2], X_val=x[1::2], y_val=y[1::2])
    assert held.best_validation_score_ == max(held.validation_scores_) == held.score(x[1::2], y[1::2])


def test_threads_are_those_that_were_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threads, "available_threads", lambda: 4)
    with threadpool_limits(4), threads.leased(None, 3) as first:
        assert first == 3
        with threads.leased(None, 3) as second, threads.leased(None, 3) as third, threads.leased(2, 9) as asked:
            assert (second, third, asked) == (1, 1, 2)  # one each at least, and what is asked for
    assert threads._taken == 0
    with threadpool_limits(2):
        assert threads.limit() == 2
    monkeypatch.setenv("NUMBA_NUM_THREADS", "1")
    assert threads.limit() == 1


def test_parameters_are_scikit_learns_and_more() -> None:
    for kind in ("MLPClassifier", "MLPRegressor"):
        theirs, ours = getattr(neural_network, kind)(), getattr(fastnn, kind)()
        own = theirs.get_params()
        assert {name: ours.get_params()[name] for name in own} == own
        assert set(ours.get_params()) - set(own) <= {"loss", "class_weight", "dropout", "l1", "optimizer", "n_threads"}
        assert clone(ours).get_params() == ours.get_params()
        assert isinstance(ours, type(theirs))


@pytest.mark.parametrize(
    ("options", "x", "y", "weight", "said"),
    [
        ({"solver": "sdg"}, *IRIS, None, "'solver' parameter"),
        ({"alpha": -1}, *IRIS, None, "'alpha' parameter"),
        ({"dropout": 2}, *IRIS, None, "'dropout' parameter"),
        ({"n_threads": 0}, *IRIS, None, "'n_threads' parameter"),
        ({"optimizer": "adamm"}, *IRIS, None, "'optimizer' parameter"),
        ({"activation": ["relu", "tanh"]}, *IRIS, None, "2 activations for 1 hidden layers"),
        ({"hidden_layer_sizes": (3, 0)}, *IRIS, None, "hidden_layer_sizes must be > 0"),
        ({}, np.full((4, 2), np.nan), [0, 1, 0, 1], None, "contains NaN"),
        ({}, np.full((4, 2), np.inf), [0, 1, 0, 1], None, "contains infinity"),
        ({}, IRIS[0][:4], [0, 1, 2], None, "inconsistent numbers of samples"),
        ({}, IRIS[0][0], [0], None, "Expected 2D array"),
        ({}, *IRIS, -np.ones(150), "Negative values"),
        ({}, *IRIS, np.zeros(150), "all weights are zero|non-zero"),
        ({}, *IRIS, np.ones(149), r"shape"),
    ],
)
def test_bad_input_is_refused_and_nothing_is_written(
    options: dict[str, Any], x: Any, y: Any, weight: Any, said: str
) -> None:
    model = fastnn.MLPClassifier(**options)
    before = copy.deepcopy(vars(model))
    with pytest.raises(ValueError, match=said):
        model.fit(x, y, sample_weight=weight)
    assert vars(model) == before


@pytest.mark.long
def test_a_failed_fit_leaves_the_model_of_before() -> None:
    model = fastnn.MLPRegressor(max_iter=3, random_state=0).fit(*DIABETES)
    before = model.predict(DIABETES[0])
    with np.errstate(all="ignore"), pytest.raises(ValueError, match="non-finite parameter weights"):
        model.fit(1e300 * DIABETES[0], DIABETES[1])
    assert (model.predict(DIABETES[0]) == before).all()
    counts = fastnn.MLPRegressor(loss="poisson")
    with pytest.raises(ValueError, match="requires y >= 0"):
        counts.fit(DIABETES[0], -DIABETES[1])
    classes = fastnn.MLPClassifier().partial_fit(IRIS[0][:60], IRIS[1][:60], classes=[0, 1])
    kept = pickle.dumps(classes)
    with pytest.raises(ValueError, match="classes"):
        classes.partial_fit(*IRIS)
    assert pickle.dumps(classes) == kept
    with pytest.raises(ValueError, match="belong together"):
        fastnn.MLPClassifier().fit(*IRIS, X_val=IRIS[0])


@pytest.mark.long
def test_fits_from_many_threads_at_once_and_in_searches() -> None:
    def fitted(seed: int) -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return fastnn.MLPClassifier(random_state=seed, max_iter=20).fit(*IRIS).coefs_[0]

    wanted = [fitted(seed) for seed in range(8)]
    with ThreadPoolExecutor(8) as pool:
        assert all((a == b).all() for a, b in zip(pool.map(fitted, range(8)), wanted, strict=True))
    pipeline = make_pipeline(StandardScaler(), fastnn.MLPClassifier(random_state=0, max_iter=30))
    grid = {"mlpclassifier__hidden_layer_sizes": [(10,), (20, 10)], "mlpclassifier__alpha": [1e-4, 1e-1]}
    scores = [
        GridSearchCV(pipeline, grid, cv=3, n_jobs=jobs).fit(*IRIS).cv_results_["mean_test_score"] for jobs in (1, 2)
    ]
    assert (scores[0] == scores[1]).all()


def test_accel_reaches_what_was_imported_before_and_goes_again(caplog: pytest.LogCaptureFixture) -> None:
    own = neural_network.MLPClassifier
    user = types.ModuleType("user")
    user.Net = own  # type: ignore[attr-defined]
    sys.modules["user"] = user
    early = own(random_state=3, **FIRST)
    there = own._fit
    try:
        fastnn.accel.install()
        fastnn.accel.install()
        assert neural_network.MLPClassifier is fastnn.MLPClassifier is user.Net  # type: ignore[attr-defined]
        early.fit(scale(IRIS[0]), SUMS)
        assert type(early) is own
        assert not hasattr(early, "_no_such")
        assert isinstance(pickle.loads(pickle.dumps(early)), own)

        class Derived(own):  # type: ignore[misc, valid-type]
            def _backprop(self, *args: Any) -> Any:
                return super()._backprop(*args)

        with caplog.at_level(logging.INFO, "fastnn.accel"):
            derived = Derived(random_state=3, **FIRST).fit(scale(IRIS[0]), SUMS)
        assert "Derived has its own _backprop" in caplog.text
        same(derived, early)
    finally:
        fastnn.accel.uninstall()
        del sys.modules["user"]
    assert neural_network.MLPClassifier is own is user.Net  # type: ignore[attr-defined]
    assert own._fit is there
    assert early.predict(scale(IRIS[0])).tolist() == derived.predict(scale(IRIS[0])).tolist()


@pytest.mark.parametrize("way", ["script", "module"])
def test_accel_runs_a_program_as_it_is(way: str, tmp_path: Path) -> None:
    (tmp_path / "beside.py").write_text("HERE = 7\n")
    script = tmp_path / "program.py"
    script.write_text(
        "import sys, beside\nfrom sklearn.neural_network import MLPClassifier\n"
        "print(MLPClassifier.__module__, __name__, sys.argv[1:], beside.HERE)\n"
    )
    arguments = [str(script)] if way == "script" else ["-m", "program"]
    done = subprocess.run(
        [sys.executable, "-m", "fastnn.accel", *arguments, "a", "--b"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "fastnn.estimators.mlp __main__ ['a', '--b'] 7\n"
    refused = subprocess.run([sys.executable, "-m", "fastnn.accel"], capture_output=True, text=True, check=False)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr.startswith("usage: python -m fastnn.accel SCRIPT")


@pytest.mark.long
@pytest.mark.filterwarnings("ignore")
@every_check([fastnn.MLPClassifier(), fastnn.MLPRegressor()])
def test_scikit_learns_checks_of_estimators(estimator: Any, check: Any) -> None:
    check(estimator)


@pytest.mark.long
def test_scikit_learns_own_tests_through_the_plugin(tmp_path: Path) -> None:
    home = Path(neural_network.__file__).parent
    command = [sys.executable, "-m", "pytest", "-q", "-p", "fastnn.accel", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "--confcutdir", str(home.parent), "--pyargs", "sklearn.neural_network"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3_000:]
