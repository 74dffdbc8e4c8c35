"""JAX: a whole epoch, shuffle included, in one jitted `scan`."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from serve import Data, Work, serve


def make(data: Data, work: Work):  # type: ignore[no-untyped-def]
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    held = [[jnp.asarray(p) for p in data.start], jax.random.key(0)]
    n, steps = len(data.y), len(data.y) // work.batch

    def forward(parameters, x):  # type: ignore[no-untyped-def]
        for w, b in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            x = jax.nn.relu(x @ w + b)
        return x @ parameters[-2] + parameters[-1]

    def mean_loss(parameters, x, y):  # type: ignore[no-untyped-def]
        return -jnp.take_along_axis(jax.nn.log_softmax(forward(parameters, x)), y[:, None], axis=1).mean()

    def step(parameters, part, x, y):  # type: ignore[no-untyped-def]
        loss, gradient = jax.value_and_grad(mean_loss)(parameters, x[part], y[part])
        return [p - work.rate * g for p, g in zip(parameters, gradient, strict=True)], loss * len(part)

    @partial(jax.jit, donate_argnums=0)
    def run(parameters, key, x, y):  # type: ignore[no-untyped-def]
        order = jax.random.permutation(key, n)
        whole = order[: steps * work.batch].reshape(steps, work.batch)
        parameters, losses = jax.lax.scan(lambda p, part: step(p, part, x, y), parameters, whole)
        total = losses.sum()
        if n % work.batch:
            parameters, loss = step(parameters, order[steps * work.batch :], x, y)
            total += loss
        return parameters, total / n

    def epoch() -> float:
        held[1], key = jax.random.split(held[1])
        held[0], loss = run(held[0], key, x, y)
        return float(loss)

    def accuracy() -> float:
        return float((forward(held[0], jnp.asarray(data.x_test)).argmax(1) == jnp.asarray(data.y_test)).mean())

    return epoch, accuracy


serve(make, jax.__version__)
