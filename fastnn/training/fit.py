"""From data and settings to a model, in one call."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, Unpack

from fastnn.datasets import Dataset, Split
from fastnn.errors import ArgumentTypeError, check_callable
from fastnn.model.model import Model
from fastnn.training.initial import settings_like, unsaid_layers
from fastnn.training.preparation import check_kind, dataset_of
from fastnn.training.run import Epoch, Training
from fastnn.training.settings import Changes, Settings, from_mapping


def train(
    data: Dataset | str | Path | tuple[Any, ...] = "auto",
    hidden: Sequence[int] | int | None = None,
    on_epoch: Callable[[Epoch], object] | None = None,
    settings: Settings | None = None,
    *,
    validation: float | tuple[Any, ...] | Split | str | Path | None = None,
    initial: Model | Sequence[Any] | None = None,
    verbose: bool = False,
    **changes: Unpack[Changes],
) -> Model:
    """Train a multilayer perceptron and return it.

    Parameters
    ----------
    data : Dataset, str, Path, (x, y) or (x, y, sample_weight)
        A data set, the name or place of one (see `fastnn.load_data`), or arrays: x (N, D) or (N, height, width) of
        any numbers, dense, memory-mapped or sparse (SciPy); y (N,) labels, whole numbers, texts or truth values, or
        for losses other than softmax (N,) or (N, C) numbers; sample_weight (N,) at least 0.
    hidden : int or sequence of int, optional
        Units of each hidden layer; by default those of `settings` or `initial`, else 256.
    on_epoch : callable, optional
        Called with an `Epoch` after each.
    settings : Settings, optional
        To begin with, instead of the defaults.
    validation : float, (x, y), (x, y, sample_weight), Split, str or Path, optional
        The share of the training examples that is kept to watch the training on, or such examples.
    initial : Model, or sequence of array_like, optional
        What to begin from instead of random weights: plain ``[w, b, w, b, …]``, w (inputs, units); or a model, whose
        scaling and classes then hold for this data too.
    verbose : bool
        Print a line after each epoch.
    **changes
        Any other field of `Settings`: ``epochs``, ``optimizer``, ``learning_rate``, ``dropout``, ….

    Returns
    -------
    Model
        Of the best validation loss where there is validation, unless ``restore_best=False``.

    Raises
    ------
    UsageError, DataError
        Before any training, when a value or the data is not as it should be; both are a `ValueError`.
    ArgumentTypeError, DataTypeError
        Of these, when it is of a wrong type, or there is no such setting; both are a `TypeError` too.
    DivergedError
        When the loss of a batch is not finite.

    Examples
    --------
    >>> import fastnn
    >>> x, y = [[0, 0], [0, 1], [1, 0], [1, 1]], ["no", "yes", "yes", "no"]
    >>> model = fastnn.train((x, y), hidden=16, epochs=200, batch_size=4, seed=1)
    >>> model.predict(x).tolist()
    ['no', 'yes', 'yes', 'no']

    A warm start, with the layers, the scaling and the classes of that model:

    >>> again = fastnn.train((x, y), initial=model, epochs=10, batch_size=4, learning_rate=0.01)
    >>> again.network == model.network
    True
    """
    if settings is not None and not isinstance(settings, Settings):
        raise ArgumentTypeError(f"settings of type {type(settings).__name__}; expected Settings(epochs=3, …)")
    check_kind(data)
    check_callable("on_epoch", on_epoch)
    given: dict[str, Any] = {**changes} if hidden is None else {"hidden": hidden, **changes}
    examples: Any = validation if isinstance(validation, Split | tuple | list | str | Path) else None
    if validation is not None and examples is None:
        given["validation"] = validation
    given = {**unsaid_layers(initial, settings or Settings(), given), **given}
    settings = settings_like(initial, from_mapping(given, "train", settings), given)
    with Training(dataset_of(data, settings.loss, examples), settings, initial=initial) as run:
        for epoch in run:
            for report in (print if verbose else None, on_epoch):
                if report is not None:
                    report(epoch)
        return run.model()


def _with_every_setting(function: Callable[..., Model]) -> inspect.Signature:
    """Its signature with the fields of `Settings` in the place of ``**changes``, as ``help`` and notebooks show it."""
    shown = inspect.signature(function)
    own = [p for p in shown.parameters.values() if p.kind is not p.VAR_KEYWORD]
    names = {p.name for p in own}
    made = [
        inspect.Parameter(item.name, inspect.Parameter.KEYWORD_ONLY, default=item.default, annotation=item.type)
        for item in fields(Settings)
        if item.name not in names
    ]
    return shown.replace(parameters=[*own, *made])


train.__signature__ = _with_every_setting(train)  # type: ignore[attr-defined]
