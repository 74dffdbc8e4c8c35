"""The network: a frozen table of layers, the shapes of its parameters, and how they start."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastnn.errors import ArgumentTypeError, UsageError, printable

if TYPE_CHECKING:
    import numpy as np

MAX_UNITS = 2**20
MAX_PARAMETERS = 2**28
ACTIVATIONS = ("relu", "leaky-relu", "gelu", "tanh", "logistic", "identity")  # in the order kernels know them by
LAYER_KINDS = ("dense",)  # in the order kernels know them by
INITIALISATIONS = ("he", "glorot")


@dataclass(frozen=True)
class Layer:
    """What is known of a layer, of any kind.

    Attributes
    ----------
    inputs, units : int
        Size of x and of the result, 1 to 2**20.
    activation : str
        One of `ACTIVATIONS`; ``"identity"`` for the logits of the last layer.
    reads : int, optional
        Index of the layer whose result is x, -1 for the examples; by default the layer before.
    kind : str
        One of `LAYER_KINDS`.
    """

    inputs: int
    units: int
    activation: str = "relu"
    reads: int | None = None
    kind: str = "dense"

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Numbers that a unit sums, and units (or whatever has a bias): the shape of the weight."""
        raise NotImplementedError


@dataclass(frozen=True)
class Dense(Layer):
    """A fully connected layer: ``activation(x @ weight + bias)``."""

    @property
    def weight_shape(self) -> tuple[int, int]:
        """Numbers that a unit sums, and units."""
        return self.inputs, self.units


@dataclass(frozen=True)
class Network:
    """A chain of layers, ended by one that gives logits.

    Raises
    ------
    UsageError
        When sizes are out of range or do not chain.
    ArgumentTypeError
        When something is no layer, or a size no whole number.

    Examples
    --------
    >>> import fastnn
    >>> network = fastnn.Network.mlp(784, (128, 64), 10, "gelu")
    >>> network.sizes, network.parameter_count
    ((784, 128, 64, 10), 109386)
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(self.layers))
        if not self.layers:
            raise UsageError("a network needs at least one layer")
        for layer in self.layers:
            if not isinstance(layer, Layer):
                raise ArgumentTypeError(f"layers: {printable(repr(layer), 60)}: expected Dense(inputs, units)")
            if layer.kind not in LAYER_KINDS:
                raise UsageError(f"kind={printable(repr(layer.kind), 60)}: expected one of {', '.join(LAYER_KINDS)}")
            for size in (layer.inputs, layer.units):
                if isinstance(size, bool) or not hasattr(size, "__index__"):
                    raise ArgumentTypeError(f"a layer of {printable(repr(size), 60)} units: expected a whole number")
                if not 1 <= size <= MAX_UNITS:
                    raise UsageError(f"a layer of {size} units: expected 1 to {MAX_UNITS:,}")
        for below, above in zip(self.layers[:-1], self.layers[1:], strict=True):
            if below.units != above.inputs:
                raise UsageError(f"a layer of {below.units} units feeds one of {above.inputs} inputs")
            if below.activation not in ACTIVATIONS:
                raise UsageError(f"activation {below.activation!r}: expected one of {', '.join(ACTIVATIONS)}")
        for i, layer in enumerate(self.layers):
            if layer.reads not in (None, i - 1):
                raise UsageError(f"layer {i} with reads={layer.reads}: expected {i - 1}, the layer before")
        if self.layers[-1].activation != "identity":
            raise UsageError(f"output activation {self.layers[-1].activation!r}: expected 'identity' (logits)")
        if self.parameter_count > MAX_PARAMETERS:
            raise UsageError(f"{self.parameter_count:,} parameters: at most {MAX_PARAMETERS:,} are supported")

    @classmethod
    def mlp(cls, inputs: int, hidden: Sequence[int], classes: int, activation: str | Sequence[str] = "relu") -> Network:
        """A multilayer perceptron with hidden layers of the given widths (none: a linear model).

        Parameters
        ----------
        inputs, classes : int
        hidden : sequence of int
        activation : str or sequence of str
            Of all hidden layers, or of each.
        """
        sizes = [int(size) if hasattr(size, "__index__") else size for size in (inputs, *hidden, classes)]
        given = [activation] if isinstance(activation, str) else list(activation)
        each = given * len(hidden) if len(given) == 1 else given
        if len(each) != len(hidden):
            raise UsageError(f"{len(each)} activations for {len(hidden)} hidden layers: expected one, or one each")
        rows = zip(sizes[:-1], sizes[1:], [*each, "identity"], strict=True)
        return cls(tuple(Dense(*row) for row in rows))

    def __str__(self) -> str:
        return "-".join(map(str, self.sizes))

    @property
    def inputs(self) -> int:
        """Features of an example."""
        return self.layers[0].inputs

    @property
    def outputs(self) -> int:
        """Classes, or numbers that are predicted."""
        return self.layers[-1].units

    @property
    def hidden_units(self) -> tuple[int, ...]:
        """Of each hidden layer."""
        return tuple(layer.units for layer in self.layers[:-1])

    @property
    def sizes(self) -> tuple[int, ...]:
        """Inputs, units of each hidden layer, classes: ``(784, 128, 10)``."""
        return (self.layers[0].inputs, *(layer.units for layer in self.layers))

    @property
    def activations(self) -> tuple[str, ...]:
        """Of every layer; the last one's is ``"identity"``."""
        return tuple(layer.activation for layer in self.layers)

    @property
    def parameter_shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every parameter tensor, in order: ``layers.0.weight`` (inputs, units), …."""
        shapes: dict[str, tuple[int, ...]] = {}
        for i, layer in enumerate(self.layers):
            shapes[f"layers.{i}.weight"] = layer.weight_shape
            shapes[f"layers.{i}.bias"] = layer.weight_shape[1:]
        return shapes

    @property
    def parameter_count(self) -> int:
        """Number of weights and biases."""
        return sum((rows + 1) * units for rows, units in (layer.weight_shape for layer in self.layers))

    def initial_parameters(self, seed: int, how: str = "he") -> list[np.ndarray]:
        """Random weights and zero biases, float32 ``[w, b, w, b, …]``.

        Parameters
        ----------
        seed : int
            Same seed, same bits.
        how : {"he", "glorot"}
            ``"he"``: normal with variance 2 / inputs (He et al. 2015, eq. 10), 1 / inputs where the activation is
            not like ReLU.
            ``"glorot"``: uniform within ±sqrt(6 / (inputs + units)) (Glorot and Bengio 2010, eq. 16).
        """
        import numpy as np  # here, so that the command's help need not wait for it

        if how not in INITIALISATIONS:
            raise UsageError(f"initialisation {how!r}: expected one of {', '.join(INITIALISATIONS)}")
        random = np.random.Generator(np.random.Philox(key=[seed, 0]))
        parameters = []
        for layer in self.layers:
            shape = layer.weight_shape
            if how == "he":
                gain = 2.0 if layer.activation in ("relu", "leaky-relu", "gelu") else 1.0
                weight = random.standard_normal(shape, np.float32) * np.float32((gain / shape[0]) ** 0.5)
            else:
                bound = np.float32((6 / sum(shape)) ** 0.5)
                weight = (2 * random.random(shape, np.float32) - 1) * bound
            parameters += [weight, np.zeros(shape[1], np.float32)]
        return parameters
