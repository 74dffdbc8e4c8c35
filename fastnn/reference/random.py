"""Random numbers that a seed, an epoch and a place name: the same for every thread, and for every machine."""

from __future__ import annotations

import numpy as np

Array = np.ndarray

GOLDEN = 0x9E3779B97F4A7C15
MASKS, PICTURES = 2**40, 2**41  # streams of a seed: of dropout, one a layer; of changed pictures


def mix(z: int) -> int:
    """SplitMix64's finaliser (Steele, Lea, Flood 2014)."""
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ z >> 27) * 0x94D049BB133111EB % 2**64
    return z ^ z >> 31


def stream(seed: int, number: int) -> int:
    """Where stream `number` of a seed begins."""
    return mix((mix((seed + GOLDEN) % 2**64) + number * GOLDEN) % 2**64)


def mask_bits(key: int, place: int) -> int:
    """32 random bits: MurmurHash3's finaliser (Appleby 2011)."""
    h = key ^ place * 0x9E3779B9 % 2**32
    h = (h ^ h >> 16) * 0x85EBCA6B % 2**32
    h = (h ^ h >> 13) * 0xC2B2AE35 % 2**32
    return h ^ h >> 16


def key_of(seed: int, purpose: int, epoch: int, example: int) -> int:
    """32 bits that name a purpose, an epoch and an example."""
    return stream(stream(stream(seed, purpose), epoch), example) >> 32


def uniform(state: int) -> tuple[int, float]:
    """The next state, and a number in [0, 1) of 53 bits."""
    state = (state + GOLDEN) % 2**64
    return state, (mix(state) >> 11) * 2.0**-53


def spread(state: int) -> tuple[int, float]:
    """The next state, and a bell-shaped number in (−1, 1) of standard deviation 1/3: three uniform ones added."""
    total = 0.0
    for _ in range(3):
        state, number = uniform(state)
        total += number
    return state, total * 2 / 3 - 1


def mask_limit(p: float) -> int:
    """The `mask_bits` below which, with probability p, something is dropped."""
    return min(int(p * 2.0**32), 2**32 - 1)


def shuffle(n: int, seed: int, epoch: int) -> Array:
    """0, …, n − 1 in the order that (seed, epoch) names: Fisher and Yates with SplitMix64."""
    state, order = stream(seed, epoch), np.arange(n)
    for i in range(n - 1, 0, -1):
        state, number = uniform(state)
        j = int(number * (i + 1))
        order[[i, j]] = order[[j, i]]
    return order
