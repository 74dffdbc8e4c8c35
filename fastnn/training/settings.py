"""How to train: every setting once, with its option, its help and what it may be.

The command line, TOML files and checks are made from these fields. Nothing heavy is imported here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import Field, dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack

from fastnn.errors import ArgumentTypeError, UsageError, printable
from fastnn.network import ACTIVATIONS, INITIALISATIONS, MAX_UNITS
from fastnn.ranges import THREADS, Range
from fastnn.training.optimizers import OPTIMIZERS

SCHEDULES = ("constant", "decay", "step", "exponential", "cosine", "one-cycle")  # in `fastnn.training.schedules`
LOSSES = ("softmax", "squared", "absolute", "huber", "logistic", "poisson")  # in the order kernels know them by
INPUTS = ("auto", "dense", "sparse")
CLASS_WEIGHTS = ("none", "balanced")
FEATURES = ("auto", "raw", "standard")
NETWORK, STEPS, PENALTIES, PICTURES, STOPPING = (
    *("Network", "Steps", "Regularisation"),
    *("Augmentation of pictures, drawn anew for every example and epoch", "Validation and stopping"),
)


def _setting(default: Any, option: str, group: str, allowed: Range | Iterable[str] | None, text: str) -> Any:
    """A field with its option, the group it is shown in, what it may be, and its help."""
    return field(default=default, metadata={"option": option, "group": group, "allowed": allowed, "help": text})


@dataclass(frozen=True)
class Settings:
    """How to train. The same names are keys of a TOML file; ``fastnn train --help`` lists them with their options.

    Attributes
    ----------
    hidden : tuple of int
        Units of each hidden layer; empty for a linear model.
    epochs, batch_size : int
    learning_rate, momentum, beta2, epsilon, weight_decay : float, optional
        By default those of the optimizer, in `fastnn.training.optimizers.OPTIMIZERS`.

    Raises
    ------
    UsageError
        When a value is out of its range, or would not be used, naming it.
    ArgumentTypeError
        When a value is of another type; a `UsageError` too.

    Examples
    --------
    >>> import fastnn
    >>> settings = fastnn.Settings(hidden=(128, 64), optimizer="adam")
    >>> settings.epochs, settings.resolved().learning_rate
    (15, 0.001)
    >>> fastnn.Settings(dropout=2)
    Traceback (most recent call last):
    fastnn.errors.UsageError: dropout=2: expected a number from 0 to 0.95
    """

    hidden: tuple[int, ...] = _setting(
        (256,),
        "--hidden",
        NETWORK,
        Range(1, MAX_UNITS, whole=True),
        "Units of each hidden layer: 128 or 256,128,64 or none.",
    )
    epochs: int = _setting(15, "--epochs,-e", STEPS, Range(1, 1_000_000, whole=True), "Passes over the training set.")
    batch_size: int = _setting(16, "--batch-size,-b", STEPS, Range(1, 65_536, whole=True), "Examples in a step.")
    learning_rate: float | None = _setting(
        None,
        "--lr",
        STEPS,
        Range(0, above=True),
        "Learning rate; 0.15 for sgd, 0.02 with momentum, 0.001 for the others.",
    )
    learning_rate_decay: float = _setting(0.2, "--lr-decay", STEPS, Range(0), "d of the schedule decay.")
    seed: int = _setting(
        0, "--seed,-s", STEPS, Range(0, 2**63 - 1, whole=True), "Names the run: same seed, same weights."
    )
    threads: int | None = _setting(
        None, "--threads,-t", STEPS, THREADS,
        "Threads; the fastest number by default. Never changes results.",
    )  # fmt: skip
    initialisation: str = _setting("he", "--init", NETWORK, INITIALISATIONS, "Initial weights.")
    input: str = _setting(
        "auto", "--input", STEPS, INPUTS, "How the first layer reads its input; auto takes the faster."
    )
    features: str = _setting(
        "auto", "--features", NETWORK, FEATURES,
        "standard: each to mean 0 and deviation 1, kept in the model; auto does so for tables.",
    )  # fmt: skip
    activation: tuple[str, ...] = _setting(
        ("relu",), "--activation", NETWORK, ACTIVATIONS, "Of the hidden layers: one for all, or one each: relu,tanh."
    )
    optimizer: str = _setting("sgd", "--optimizer", STEPS, tuple(OPTIMIZERS), "How gradients become steps.")
    momentum: float | None = _setting(
        None, "--momentum", STEPS, Range(0, 0.9999), "Of momentum and nesterov, or beta1 of adam; 0.9."
    )
    beta2: float | None = _setting(
        None, "--beta2", STEPS, Range(0, 0.999999), "Of the mean of squares: 0.999 for adam, 0.99 for rmsprop."
    )
    epsilon: float | None = _setting(None, "--epsilon", STEPS, Range(0, above=True), "Added to its root; 1e-8.")
    schedule: str = _setting(
        "cosine", "--schedule", STEPS, SCHEDULES, "Of the learning rate; decay is lr / (1 + d * epoch)."
    )
    gamma: float = _setting(
        0.5, "--gamma", STEPS, Range(0, 1, above=True), "Factor of the schedules step and exponential."
    )
    step_epochs: int = _setting(10, "--step-epochs", STEPS, Range(1, 1_000_000, whole=True), "Epochs of each step.")
    warmup_epochs: float = _setting(
        0.0, "--warmup", STEPS, Range(0), "Epochs in which the learning rate first rises from 0."
    )
    averaging: float = _setting(
        0.0, "--averaging", STEPS, Range(0, 0.999999),
        "Keep d * average + (1 - d) * weights after each step; the average is the model. 0.999; 0 is off.",
    )  # fmt: skip
    loss: str = _setting(
        "softmax",
        "--loss",
        NETWORK,
        LOSSES,
        "softmax for classes, logistic for several labels at once, others for numbers.",
    )
    huber_delta: float = _setting(
        1.0, "--huber-delta", NETWORK, Range(0, above=True), "Where the Huber loss turns linear."
    )
    l1: float = _setting(0.0, "--l1", PENALTIES, Range(0), "Weight of the sum of |w| in the loss.")
    l2: float = _setting(0.0, "--l2", PENALTIES, Range(0), "Weight of half the sum of w squared in the loss.")
    weight_decay: float | None = _setting(
        None, "--weight-decay", PENALTIES, Range(0), "Decoupled: w shrinks by lr * d each step; 0.01 for adamw, else 0."
    )
    max_norm: float = _setting(
        0.0, "--max-norm", PENALTIES, Range(0), "Largest norm of a hidden unit's weights; 0: any."
    )
    dropout: float = _setting(0.0, "--dropout", PENALTIES, Range(0, 0.95), "Share of hidden units left out in a step.")
    input_dropout: float = _setting(
        0.0, "--input-dropout", PENALTIES, Range(0, 0.95), "Share of features left out in a step."
    )
    input_noise: float = _setting(
        0.0, "--input-noise", PENALTIES, Range(0), "Standard deviation of noise on features (pixels are 0 to 1)."
    )
    label_smoothing: float = _setting(
        0.0, "--label-smoothing", PENALTIES, Range(0, 0.9), "Share of each label that is spread over all classes."
    )
    clip_norm: float = _setting(0.0, "--clip-norm", PENALTIES, Range(0), "Largest norm of the gradient; 0: any.")
    class_weight: str = _setting(
        "none", "--class-weight", PENALTIES, CLASS_WEIGHTS, "balanced: every class counts the same in sum."
    )
    shift: float = _setting(0.0, "--shift", PICTURES, Range(0, 14), "Up to so many pixels each way.")
    rotation: float = _setting(0.0, "--rotation", PICTURES, Range(0, 180), "Up to so many degrees each way.")
    scaling: float = _setting(
        0.0, "--scaling", PICTURES, Range(0, 0.9), "Up to this share larger or smaller, each way."
    )
    shear: float = _setting(0.0, "--shear", PICTURES, Range(0, 1), "Slant: up to so many pixels a row, each way.")
    elastic: float = _setting(
        0.0, "--elastic", PICTURES, Range(0, 200), "alpha of elastic deformation (Simard 2003): 34 is much."
    )
    elastic_sigma: float = _setting(4.0, "--elastic-sigma", PICTURES, Range(0.5, 20), "Its smoothness, in pixels.")
    pen: float = _setting(
        0.0, "--pen", PICTURES, Range(0, 1), "Strokes up to so much thicker or thinner; 1 is a pixel."
    )
    mirror: float = _setting(
        0.0, "--mirror", PICTURES, Range(0, 1), "Share of the pictures that are mirrored left to right."
    )
    pixel_noise: float = _setting(0.0, "--pixel-noise", PICTURES, Range(0, 1), "Standard deviation; pixels are 0 to 1.")
    validation: float = _setting(
        0.0,
        "--validation",
        STOPPING,
        Range(0, 0.9),
        "Share of the training examples kept for validation, or a file of them.",
    )
    patience: int = _setting(
        0, "--patience", STOPPING, Range(0, 1_000_000, whole=True),
        "Stop after so many epochs without a better validation loss; 0: never.",
    )  # fmt: skip
    min_delta: float = _setting(0.0, "--min-delta", STOPPING, Range(0), "What counts as better: by more than this.")
    restore_best: bool = _setting(
        True,
        "--restore-best/--keep-last",
        STOPPING,
        None,
        "The model is the one of the best validation loss, or the last.",
    )
    plateau: int = _setting(
        0, "--plateau", STOPPING, Range(0, 1_000_000, whole=True),
        "Lower the learning rate after so many epochs without a better validation loss; 0: never.",
    )  # fmt: skip
    plateau_factor: float = _setting(
        0.3, "--plateau-factor", STOPPING, Range(0, 0.99, above=True), "What it is then multiplied by."
    )

    if TYPE_CHECKING:  # what values may be given as, before they are those of the fields

        def __init__(
            self,
            hidden: int | Sequence[int] = ...,
            epochs: int = ...,
            batch_size: int = ...,
            learning_rate: float | None = ...,
            *,
            validation: float = ...,
            **more: Unpack[_More],
        ) -> None: ...

    def __post_init__(self) -> None:
        for item in fields(self):
            object.__setattr__(self, item.name, plain(getattr(self, item.name), item.default))
            self._check(item)
        if len(self.activation) not in (1, len(self.hidden)):
            raise UsageError(
                f"activation={_shown(self.activation)} names {len(self.activation)} for {len(self.hidden)} hidden "
                f"layers: expected one, or one each"
            )
        for name, (used, where) in NEEDS.items():
            value = getattr(self, name)
            idle = value in (_default(name), getattr(OPTIMIZERS[self.optimizer], name, None))
            if not idle and not used(vars(self)):
                raise UsageError(f"{name}={_shown(value)}: it is used with {where} only")

    def _check(self, item: Field[Any]) -> None:
        value, allowed = getattr(self, item.name), item.metadata["allowed"]
        if value is None and item.default is None:
            return
        for one in value if isinstance(item.default, tuple) else (value,):
            if isinstance(allowed, Range):
                refused, wrong, wanted = one not in allowed, not allowed.is_number(one), str(allowed)
            elif allowed is None:
                refused = wrong = not isinstance(one, bool)
                wanted = "true or false"
            else:
                refused, wrong = one not in allowed, not isinstance(one, str)
                near = difflib.get_close_matches(str(one), allowed, 1)
                wanted = f"one of {', '.join(allowed)}" + (f". Did you mean {near[0]}?" if near else "")
            if refused:
                kind = ArgumentTypeError if wrong else UsageError
                raise kind(f"{item.name}={_shown(one)}: expected {wanted}")

    def resolved(self) -> Settings:
        """Itself, with the optimizer's own numbers where none were given."""
        row = OPTIMIZERS[self.optimizer]
        names = ("learning_rate", "momentum", "beta2", "epsilon", "weight_decay")
        return replace(self, **{name: getattr(row, name) for name in names if getattr(self, name) is None})

    @property
    def augments(self) -> bool:
        """Whether pictures are changed before every epoch."""
        return any(
            (self.shift, self.rotation, self.scaling, self.shear, self.elastic, self.pen, self.mirror, self.pixel_noise)
        )

    @property
    def changes_input(self) -> bool:
        """Whether examples are not read as they are."""
        return self.augments or self.input_dropout > 0 or self.input_noise > 0


class _More(TypedDict, total=False):
    """Those that nobody gives by place."""

    learning_rate_decay: float
    seed: int
    threads: int | None
    initialisation: str
    input: str
    features: str
    activation: str | Sequence[str]
    optimizer: str
    momentum: float | None
    beta2: float | None
    epsilon: float | None
    schedule: str
    gamma: float
    step_epochs: int
    warmup_epochs: float
    averaging: float
    loss: str
    huber_delta: float
    l1: float
    l2: float
    weight_decay: float | None
    max_norm: float
    dropout: float
    input_dropout: float
    input_noise: float
    label_smoothing: float
    clip_norm: float
    class_weight: str
    shift: float
    rotation: float
    scaling: float
    shear: float
    elastic: float
    elastic_sigma: float
    pen: float
    mirror: float
    pixel_noise: float
    patience: int
    min_delta: float
    restore_best: bool
    plateau: int
    plateau_factor: float


class Changes(_More, total=False):
    """Settings by name, for editors and type checkers; but for those that `train` takes in more forms."""

    epochs: int
    batch_size: int
    learning_rate: float | None


_FIELDS = {item.name: item for item in fields(Settings)}
_Values = Mapping[str, Any]
# settings that others switch on: when a run uses them, and what to say where it does not
NEEDS: dict[str, tuple[Callable[[_Values], bool], str]] = {
    "momentum": (lambda s: OPTIMIZERS[s["optimizer"]].memory[0], 'optimizer="momentum", "nesterov", "adam" or "adamw"'),
    "beta2": (lambda s: OPTIMIZERS[s["optimizer"]].memory[1], 'optimizer="adam", "adamw" or "rmsprop"'),
    "epsilon": (lambda s: OPTIMIZERS[s["optimizer"]].memory[1], 'optimizer="adam", "adamw" or "rmsprop"'),
    "learning_rate_decay": (lambda s: s["schedule"] == "decay", 'schedule="decay"'),
    "gamma": (lambda s: s["schedule"] in ("step", "exponential"), 'schedule="step" or "exponential"'),
    "step_epochs": (lambda s: s["schedule"] == "step", 'schedule="step"'),
    "huber_delta": (lambda s: s["loss"] == "huber", 'loss="huber"'),
    "label_smoothing": (lambda s: s["loss"] == "softmax", 'loss="softmax"'),
    "activation": (lambda s: bool(s["hidden"]), "hidden layers"),
    "dropout": (lambda s: bool(s["hidden"]), "hidden layers"),
    "max_norm": (lambda s: bool(s["hidden"]), "hidden layers"),
    "elastic_sigma": (lambda s: s["elastic"] > 0, "elastic="),
    "plateau_factor": (lambda s: s["plateau"] > 0, "plateau="),
}


def _default(name: str) -> Any:
    return _FIELDS[name].default


def _shown(value: Any) -> str:
    return printable(repr(value), 60)


def plain(value: Any, default: Any) -> Any:
    """A value as Python's own number, or a tuple where the default is one, whatever it was given as."""
    if isinstance(default, tuple):
        several = hasattr(value, "__iter__") and not isinstance(value, str)
        return tuple(plain(one, None) for one in value) if several else (plain(value, None),)
    return value.item() if hasattr(value, "item") and not getattr(value, "ndim", 0) else value


def changed(start: Settings, changes: Mapping[str, Any]) -> Settings:
    """Settings with some changed; what these make useless, and was not given, goes back to its default.

    Raises
    ------
    UsageError
        When a value is out of its range, or given and not used.
    """
    changes = {name: plain(value, _default(name)) for name, value in changes.items()}
    new = {**vars(start), **changes}
    try:
        idle = [name for name, (used, _) in NEEDS.items() if name not in changes and not used(new)]
    except (KeyError, TypeError):  # the check of each value says what is wrong
        idle = []
    return replace(start, **changes, **{name: _default(name) for name in idle})


def from_mapping(values: Mapping[str, Any], source: str, start: Settings | None = None) -> Settings:
    """Settings with some changed, from a TOML file or a model's description.

    Raises
    ------
    UsageError
        For a key that there is not, with the nearest there is, or a value out of its range.
    """
    for key in values:
        if key not in _FIELDS:
            raise ArgumentTypeError(f"{source}: unknown key {printable(repr(key), 60)}{_hint(str(key))}")
    try:
        return changed(start or Settings(), values)
    except UsageError as error:
        raise type(error)(f"{source}: {error}") from None


def _hint(key: str) -> str:
    """What was meant: the setting whose option is called so, or the one of the nearest name."""
    for item in _FIELDS.values():
        if f"--{key.replace('_', '-')}" in item.metadata["option"].replace("/", ",").split(","):
            return f". Did you mean {item.name}?"
    near = difflib.get_close_matches(key, _FIELDS, 1, 0.5)
    return f". Did you mean {near[0]}?" if near else f"; there are {', '.join(_FIELDS)}"
