"""The one family of errors. Each message names the file or argument, what is wrong, and what to do.

Messages write arguments as ``name=value``, texts to be taken in double quotes: ``learning_rate=0.01``,
``optimizer="adam"``. `fastnn.cli.wording` makes options of them for the command line.
"""

from __future__ import annotations


def printable(text: object, limit: int = 200) -> str:
    """`text` with control characters escaped and its length bounded, for names that come from files."""
    shown = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in str(text))
    return shown if len(shown) <= limit else shown[: limit - 1] + "…"


class FastnnError(Exception):
    """Base of all errors that fastnn raises on purpose; `exit_code` is what the command returns.

    Bad values and bad inputs are also `ValueError`, arguments of a wrong type also `TypeError`.

    Examples
    --------
    >>> import fastnn
    >>> try:
    ...     fastnn.Settings(optimizer="adamm")
    ... except fastnn.FastnnError as error:  # or ValueError
    ...     print(error)
    optimizer='adamm': expected one of sgd, momentum, nesterov, adam, adamw, rmsprop. Did you mean adam?
    """

    exit_code = 1


class RunError(FastnnError):
    """The run failed: it diverged, the disk is full, the network is away."""

    exit_code = 1


class DivergedError(RunError):
    """The loss of a batch was not finite.

    Attributes
    ----------
    epoch, step : int
        Where, counted from 1.
    learning_rate : float
    """

    def __init__(self, epoch: int, step: int, learning_rate: float) -> None:
        self.epoch, self.step, self.learning_rate = epoch, step, learning_rate
        super().__init__(
            f"training diverged at epoch {epoch}, step {step}: the loss is not finite "
            f"(learning rate {learning_rate:g}). Try learning_rate={learning_rate / 10:g}"
        )

    def __reduce__(self) -> tuple[type, tuple[int, int, float]]:  # or a pool of processes waits for it forever
        return type(self), (self.epoch, self.step, self.learning_rate)


class UsageError(FastnnError, ValueError):
    """An argument is out of its range, or does not fit the others."""

    exit_code = 2


class ArgumentTypeError(UsageError, TypeError):
    """An argument is of another type than it should be, or there is none of that name."""


class MissingExtraError(UsageError):
    """What is needed for this is not installed; the message says how to install it."""


def check_callable(name: str, value: object) -> None:
    """Refuse what is neither None nor can be called."""
    if value is not None and not callable(value):
        raise ArgumentTypeError(f"{name}={printable(repr(value), 60)}: expected a function")


class InputError(FastnnError, ValueError):
    """An input was refused: data, image or model file."""

    exit_code = 3


class DataError(InputError):
    """A data set was refused."""


class DataTypeError(DataError, TypeError):
    """A data set was refused: it, or a part of it, is of a type that can't be one."""


class ImageError(InputError):
    """A picture was refused."""


class ModelFileError(InputError):
    """A model file was refused."""


class QualityError(FastnnError):
    """A quality gate was missed."""

    exit_code = 4
