"""Estimators with scikit-learn's interface; needs the extra ``sklearn``."""

from fastnn.distribution import to_install
from fastnn.errors import MissingExtraError

try:
    from fastnn.estimators.mlp import MLPClassifier, MLPRegressor
except ModuleNotFoundError as error:
    if (error.name or "").partition(".")[0] not in ("sklearn", "scipy"):
        raise
    raise MissingExtraError(f"estimators need scikit-learn: {to_install('sklearn')}") from error

__all__ = ["MLPClassifier", "MLPRegressor"]
