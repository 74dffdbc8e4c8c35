"""Estimators with scikit-learn's interface; needs the extra ``sklearn``."""

from fastnn.estimators.mlp import MLPClassifier, MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor"]
