"""Elementary functions without branches or calls, so that loops over them become vectors."""

import math

from fastnn.kernels.jit import inlined, jit
from fastnn.kernels.numbers import exponent, nearest, number, power_of_two

_LOWEST = -87.0  # exp(-87) = 1.6e-38, the smallest normal float32
_TERMS = 13  # of the Taylor series on |r| ≤ ln(2)/2: the next one is 4e-18
_ODD_TERMS = 11  # of the series of atanh on |s| ≤ 0.172: the next one is 1e-19


@jit
def exp(x):
    """e to the x for x ≤ 0, NaN for NaN; vectorised where a call of the C function is not."""
    lowest = number(_LOWEST, x)
    x = lowest if x < lowest else x
    finite = x if x >= lowest else lowest
    n = nearest(finite * number(1 / math.log(2), x))
    r = x - n * number(math.log(2), x)
    p = number(1, x)
    for term in range(_TERMS, 0, -1):
        p = number(1, x) + p * r * number(1 / term, x)
    return p * power_of_two(n)


@jit
def log(x):
    """The natural logarithm of a positive normal x, NaN for NaN; vectorised like `exp`."""
    n = exponent(x * number(math.sqrt(2), x))
    m = x * power_of_two(-n)  # sqrt(1/2) ≤ m < sqrt(2)
    s = (m - number(1, x)) / (m + number(1, x))  # log m = 2 · atanh s = 2 · (s + s³/3 + s⁵/5 + …)
    p = number(0, x)
    for term in range(2 * _ODD_TERMS - 1, 0, -2):
        p = p * s * s + number(2 / term, x)
    return p * s + n * number(math.log(2), x) if x >= number(0, x) else x


@jit
def magnitude(x):
    """|x|."""
    return -x if x < number(0, x) else x


@jit
def logistic(x):
    """1 / (1 + e^−x)."""
    e = exp(-magnitude(x))
    return (e if x < number(0, x) else number(1, x)) / (number(1, x) + e)


@jit
def tanh(x):
    """(1 − e^−2x) / (1 + e^−2x)."""
    e = exp(number(-2, x) * magnitude(x))
    t = (number(1, x) - e) / (number(1, x) + e)
    return -t if x < number(0, x) else t


@jit
def normal_density(x):
    """φ(x) = exp(−x²/2) / √(2π)."""
    return exp(number(-0.5, x) * x * x) * number(1 / math.sqrt(2 * math.pi), x)


@jit
def _three_terms(s, b, c, coefficients):
    """Three steps of Clenshaw's sum of Chebyshev polynomials."""
    b, c = s * b - c + number(coefficients[0], s), b
    b, c = s * b - c + number(coefficients[1], s), b
    return s * b - c + number(coefficients[2], s), b


@inlined
def normal_distribution(x):
    """Φ(x) = erfc(−x/√2) / 2, by t · exp(−u² + Σ_n c_n T_n(2t − 1)), u = |x|/√2, t = 2 / (2 + u).

    The c_n are the cosine transform of ln(erfcx(u) / t) at 200 nodes, by SciPy's erfcx; the next one is 3e-16.
    """
    u = magnitude(x) * number(math.sqrt(0.5), x)
    t = number(2, x) / (number(2, x) + u)
    s = number(2, x) * (number(2, x) * t - number(1, x))
    b, c = number(0, x), number(0, x)
    b, c = _three_terms(s, b, c, (-1.3944401189291967e-15, 6.881162306626721e-15, 2.7755575615628914e-16))
    b, c = _three_terms(s, b, c, (-1.1271650279809364e-13, 3.1284308477097513e-13, 8.944622820195037e-13))
    b, c = _three_terms(s, b, c, (-6.885803038869654e-12, 2.393680809120724e-12, 9.646826448772572e-11))
    b, c = _three_terms(s, b, c, (-2.2736537097500786e-10, -9.913640086622877e-10, 5.059343530788851e-09))
    b, c = _three_terms(s, b, c, (6.529054634718534e-09, -8.523809612803745e-08, 1.56264416650842e-08))
    b, c = _three_terms(s, b, c, (1.3036558355672411e-06, -1.6242900046581355e-06, -2.0278578112540303e-05))
    b, c = _three_terms(s, b, c, (4.2523324807199894e-05, 0.0003668394978524958, -0.0009465953444817848))
    b, c = _three_terms(s, b, c, (-0.009561514786808818, 0.01947647320418593, 0.6419697923564901))
    tail = number(0.5, x) * t * exp(-u * u + number(0.5, x) * (s * b + number(-1.3026537197817092, x)) - c)
    return tail if x < number(0, x) else number(1, x) - tail
