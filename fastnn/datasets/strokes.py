"""`strokes`: digits drawn by program, 28x28, in any number; needs no file and no network.

Several handwritten forms of each digit are splines through a few control points. The kernel moves the points at
random, warps, slants, stretches and rotates them, draws them with a round pen of random width, and centres them as
MNIST's digits are; then the picture is bent elastically. The forms were written down by hand, and five added where
nines were read as fours and twos as threes. The ranges of the random numbers were chosen in six rounds by the accuracy
of a default net trained on `strokes` alone on MNIST's *training* images (70, 81, 84, 88, 93.4, 93.8 %); no pixel of
MNIST is in them, and its test set was read once, at the end.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from fastnn.datasets.base import PIXEL, Dataset, checked_split
from fastnn.ranges import THREADS, Range

_Point = tuple[float, float]
# fmt: off
# Each digit's forms; each form's strokes; each stroke's points. A point given twice is a corner.
_FORMS: dict[int, list[list[list[_Point]]]] = {
    0: [
        [[(.55, 0), (.2, .14), (.05, .5), (.2, .88), (.5, 1), (.82, .86), (.95, .5), (.8, .12), (.5, 0), (.36, .05)]],
        [[(.6, .02), (.3, .1), (.12, .5), (.25, .9), (.5, 1), (.75, .88), (.88, .5), (.75, .12), (.5, .02)]],
        [[(.75, .1), (.4, 0), (.08, .4), (.15, .85), (.5, 1), (.9, .7), (.85, .25), (.6, .08), (.45, .12)]],
    ],
    1: [
        [[(.5, 0), (.5, .33), (.5, .66), (.5, 1)]],
        [[(.52, 0), (.48, .5), (.5, 1)]],
        [[(.28, .22), (.52, 0), (.52, 0), (.5, .5), (.5, 1)]],
        [[(.3, .2), (.52, 0), (.52, 0), (.5, .5), (.5, 1)], [(.25, 1), (.78, .99)]],
    ],
    2: [
        [[(.1, .25), (.3, .03), (.65, .02), (.85, .24), (.68, .5), (.35, .78), (.06, .97), (.06, .97), (.5, .95),
          (.96, .97)]],
        [[(.12, .2), (.4, 0), (.78, .1), (.78, .38), (.45, .75), (.18, .95), (.06, .86), (.2, .76), (.5, .88),
          (.8, .98), (.98, .88)]],
        [[(.15, .1), (.5, .0), (.85, .15), (.8, .42), (.45, .7), (.08, .95), (.08, .95), (.6, .9), (.95, .95)]],
        [[(.08, .32), (.2, .06), (.55, 0), (.8, .2), (.72, .5), (.4, .85), (.12, .98), (.1, .84), (.35, .84),
          (.65, .98), (.95, .96)]],
        [[(.2, .16), (.5, 0), (.76, .1), (.72, .34), (.45, .66), (.1, .95), (.1, .95), (.55, .98), (1, .9)]],
        [[(.02, .3), (.2, .06), (.5, 0), (.74, .14), (.7, .42), (.5, .7), (.25, .94), (.02, .92), (.1, .78), (.4, .84),
          (1, 1)]],
    ],
    3: [
        [[(.12, .12), (.45, 0), (.82, .15), (.72, .38), (.36, .47), (.36, .47), (.78, .56), (.88, .8), (.5, 1),
          (.06, .9)]],
        [[(.1, .06), (.5, .03), (.88, .05), (.88, .05), (.42, .4), (.42, .4), (.82, .52), (.85, .84), (.45, 1),
          (.08, .9)]],
        [[(.15, .08), (.55, 0), (.8, .2), (.6, .42), (.35, .48), (.65, .52), (.88, .72), (.65, .98), (.2, .98)]],
    ],
    4: [
        [[(.2, 0), (.14, .28), (.1, .54), (.1, .54), (.5, .54), (.92, .5)], [(.78, .04), (.74, .5), (.7, 1)]],
        [[(.68, 0), (.36, .32), (.04, .66), (.04, .66), (.5, .65), (.96, .64)], [(.7, .0), (.69, .5), (.68, 1)]],
        [[(.15, .05), (.1, .36), (.3, .54), (.78, .44)], [(.86, 0), (.77, .5), (.7, 1)]],
        [[(.2, .02), (.12, .42), (.3, .5), (.82, .44), (.82, .44), (.85, .02), (.78, .5), (.72, 1)]],
        [[(.9, .0), (.45, .12), (.1, .5), (.45, .56), (.8, .4), (.9, .0), (.9, .0), (.82, .5), (.75, 1)]],
    ],
    5: [
        [[(.24, .02), (.2, .2), (.16, .44), (.16, .44), (.55, .38), (.88, .62), (.72, .94), (.35, 1), (.05, .9)],
         [(.24, .03), (.55, .03), (.92, 0)]],
        [[(.9, .0), (.6, .03), (.28, .03), (.28, .03), (.22, .4), (.22, .4), (.6, .38), (.85, .62), (.7, .93), (.3, 1),
          (.05, .9)]],
        [[(.95, .02), (.5, .02), (.3, .2), (.25, .42), (.6, .5), (.78, .74), (.55, .97), (.12, .98)]],
    ],
    6: [
        [[(.72, 0), (.35, .2), (.1, .6), (.2, .92), (.55, 1), (.86, .8), (.7, .55), (.4, .56), (.14, .76)]],
        [[(.4, 0), (.16, .4), (.1, .78), (.36, 1), (.78, .92), (.82, .66), (.5, .55), (.14, .76)]],
        [[(.85, .05), (.45, .12), (.12, .5), (.15, .88), (.5, 1), (.75, .82), (.62, .6), (.35, .62), (.15, .8)]],
        [[(.55, 0), (.22, .35), (.1, .75), (.28, .98), (.5, .95), (.6, .78), (.45, .66), (.22, .76), (.16, .86)]],
    ],
    7: [
        [[(.06, .08), (.5, .06), (.92, .05), (.92, .05), (.62, .48), (.42, 1)]],
        [[(.06, .2), (.1, .05), (.1, .05), (.5, .06), (.9, .04), (.9, .04), (.68, .45), (.55, 1)]],
        [[(.06, .08), (.5, .06), (.92, .04), (.92, .04), (.62, .48), (.42, 1)], [(.28, .52), (.55, .5), (.84, .5)]],
        [[(.05, .14), (.3, .03), (.62, .1), (.92, .04), (.75, .4), (.62, .7), (.58, 1)]],
    ],
    8: [
        [[(.76, .1), (.45, 0), (.15, .2), (.42, .46), (.82, .72), (.5, 1), (.14, .78), (.5, .48), (.86, .22),
          (.7, .06)]],
        [[(.5, 0), (.2, .1), (.22, .38), (.5, .46), (.78, .38), (.8, .1), (.5, 0)],
         [(.5, .46), (.14, .6), (.16, .92), (.5, 1), (.84, .92), (.86, .6), (.5, .46)]],
        [[(.9, .12), (.55, 0), (.25, .15), (.4, .42), (.68, .65), (.6, .95), (.28, .98), (.18, .75), (.45, .5),
          (.8, .28), (.9, .1)]],
    ],
    9: [
        [[(.86, .15), (.5, 0), (.12, .24), (.32, .5), (.72, .4), (.86, .12), (.86, .12), (.8, .55), (.68, 1)]],
        [[(.8, .1), (.45, .02), (.12, .28), (.4, .5), (.78, .32), (.82, .1), (.86, .5), (.72, .9), (.35, 1),
          (.1, .88)]],
        [[(.88, .08), (.5, 0), (.15, .2), (.25, .45), (.62, .44), (.88, .08), (.88, .08), (.75, .5), (.5, 1)]],
        [[(.75, .22), (.6, .02), (.3, .04), (.2, .3), (.42, .46), (.72, .3), (.75, .1), (.78, .5), (.8, 1)]],
        [[(.82, .3), (.72, .05), (.38, .02), (.15, .22), (.3, .46), (.66, .44), (.82, .24), (.82, .24), (.76, .6),
          (.7, 1)]],
        [[(.7, .06), (.4, .02), (.18, .2), (.28, .4), (.6, .38), (.76, .18), (.72, .05), (.72, .05), (.66, .4),
          (.4, 1)]],
        [[(.85, .2), (.65, 0), (.35, .08), (.2, .35), (.4, .5), (.7, .38), (.88, .12), (.8, .5), (.66, .8), (.5, 1)]],
    ],
}
# fmt: on
CLASSES = tuple("0123456789")
MOST_IMAGES = 10_000_000
_ELASTIC, _SMOOTHNESS = 34.0, 4.0  # of the deformation that follows (Simard et al. 2003)
_BLOCK = 4_096


def draw(count: int, seed: int = 0, first: int = 0, threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Draw digits.

    Parameters
    ----------
    count : int
        How many, 1 to 10,000,000.
    seed : int
        Names an endless series of pictures; same seed and number, same pixels on any machine of a kind.
    first : int
        Number of the first picture in the series.
    threads : int, optional
        Threads to use; as many as can run by default.

    Returns
    -------
    x : ndarray (count, 784)
        uint8 pixels, 0 (paper) to 255 (ink).
    y : ndarray (count,)
        int32, the digits.

    Raises
    ------
    UsageError
        When there are to be fewer than one, or more than that; or for a seed below 0.
    ArgumentTypeError
        When one of them is no whole number.

    Examples
    --------
    >>> import fastnn
    >>> x, y = fastnn.draw_strokes(3, seed=1)
    >>> x.shape, x.dtype.name, y.tolist()
    ((3, 784), 'uint8', [4, 6, 6])
    """
    from fastnn.kernels.augment import Piece, canvases_for, change_examples, change_of
    from fastnn.kernels.barrier import new_team
    from fastnn.kernels.memory import Data
    from fastnn.kernels.strokes import SIDE, draw_digits
    from fastnn.kernels.workers import Workers, compile_for
    from fastnn.machine import available_threads

    Range(1, MOST_IMAGES, whole=True).check("count", count)
    for name, value in (("seed", seed), ("first", first)):
        Range(0, 2**63 - 1, whole=True).check(name, value)
    if threads is not None:
        THREADS.check("threads", threads)
    x, y = np.zeros((count, SIDE * SIDE), np.uint8), np.zeros(count, np.int32)
    with Workers(threads or available_threads()) as workers:
        compile_for(draw_digits, _glyphs(), seed, first, x, y, new_team())
        workers.run(draw_digits, _glyphs(), seed, first, x, y)
        # bent in blocks of the endless series: (block, place in it) names what happens to a picture
        change = change_of(SIDE, SIDE, seed, _SMOOTHNESS, elastic=_ELASTIC)
        canvases, drawn, bent = canvases_for(change, workers.threads), *(np.zeros((2, _BLOCK, x.shape[1]), np.uint8))
        data = Data(drawn, y[:1], np.arange(_BLOCK), 1 / 255)
        compile_for(change_examples, change, data, Piece(0, 0, 0, data.order), canvases, bent, new_team())
        at = first
        while at < first + count:
            begin, end = at % _BLOCK, min(_BLOCK, at % _BLOCK + first + count - at)
            rows = slice(at - first, at - first + end - begin)
            drawn[begin:end] = x[rows]
            piece = Piece(begin, end, at // _BLOCK, data.order)
            workers.run(change_examples, change, data, piece, canvases, bent)
            x[rows] = bent[begin:end]
            at += end - begin
    return x, y


def _glyphs() -> Any:
    from fastnn.kernels.strokes import Glyphs

    points: list[_Point] = []
    strokes, forms, digits = [0], [0], [0]
    for digit in range(10):
        for form in _FORMS[digit]:
            for stroke in form:
                points += stroke
                strokes.append(len(points))
            forms.append(len(strokes) - 1)
        digits.append(len(forms) - 1)
    return Glyphs(np.array(points), np.array(strokes), np.array(forms), np.array(digits))


def load_strokes(seed: int = 0, train: int = 60_000, test: int = 10_000) -> Dataset:
    """`train` + `test` drawn digits; the test set continues the series where the training set ends."""
    x, y = draw(train + test, seed)
    name = "strokes: digits drawn by program"
    return Dataset(
        "strokes",
        checked_split(x[:train], y[:train], 10, name, scale=PIXEL),
        checked_split(x[train:], y[train:], 10, name, scale=PIXEL),
        CLASSES,
        (28, 28),
        "drawn by program, no file needed",
    )
