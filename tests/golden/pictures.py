"""Make pictures.npz: what the steps from a picture to a digit are for drawn scenes, to notice when any of them changes.

python tests/golden/pictures.py      (after a change that is meant; look at the new pictures first)
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fastnn.images import Prepared, prepare_digit, prepare_digits, prepare_plain
from fastnn.images.ink import find_ink

FILE = Path(__file__).with_name("pictures.npz")
BLOCKS = 10  # a step is kept as the means of so many blocks a side
STEPS = ("picture", "paper removed", "lines removed", "cut out", "deskewed", "pen", "in the box, centred")
Points = list[tuple[float, float]]
ZERO: list[Points] = [[(0.5 + 0.5 * math.sin(n / 3), 0.5 - 0.5 * math.cos(n / 3)) for n in range(20)]]
ONE: list[Points] = [[(0.1, 0.3), (0.5, 0), (0.5, 1)]]
TWO: list[Points] = [[(0, 0.25), (0.2, 0.05), (0.5, 0), (0.8, 0.1), (0.9, 0.3), (0.7, 0.55), (0, 1), (1, 1)]]
FOUR: list[Points] = [[(0.3, 0), (0, 0.6), (1, 0.6)], [(0.7, 0.3), (0.7, 1)]]
FIVE: list[Points] = [[(0.1, 0), (0, 0.45), (0.6, 0.4), (0.9, 0.7), (0.6, 1), (0, 0.95)], [(0.25, 0), (0.9, 0)]]
SEVEN: list[Points] = [[(0, 0), (1, 0), (0.35, 1)]]
DIGITS = (ZERO, ONE, TWO, FOUR, FIVE, SEVEN)


@dataclass
class Scene:
    """A sheet of paper to draw on; `done` is the picture, as bytes would hold it."""

    shape: tuple[int, int]
    paper: tuple[float, ...] | float = 1.0
    sheet: np.ndarray = field(init=False)

    def __post_init__(self) -> None:
        self.sheet = np.ones((*self.shape, 3)) * self.paper if isinstance(self.paper, tuple) else np.ones(
            self.shape) * self.paper  # fmt: skip

    def put(self, mask: np.ndarray, ink: tuple[float, ...] | float, share: float = 1.0) -> Scene:
        """Ink where the mask is."""
        mask = share * (mask if self.sheet.ndim == 2 else mask[..., None])
        self.sheet += mask * (np.asarray(ink) - self.sheet)
        return self

    def write(
        self, digit: list[Points], box: tuple[float, float, float, float], pen: float, ink: tuple[float, ...] | float,
        lean: float = 0.0,
    ) -> Scene:  # fmt: skip
        """A digit in a box (left, top, width, height); `lean` in columns a row."""
        left, top, width, height = box
        for path in digit:
            points = [(left + width * x + lean * height * (0.5 - y), top + height * y) for x, y in path]
            self.put(stroke(self.shape, points, pen), ink)
        return self

    def rule(self, step: float, thick: float, degrees: float, ink: tuple[float, ...] | float) -> Scene:
        """Lines from edge to edge."""
        y, x = np.indices(self.shape)
        turn = math.radians(degrees)
        away = (y - self.shape[0] / 2) * math.cos(turn) - (x - self.shape[1] / 2) * math.sin(turn) + 0.3 * step
        away = np.abs((away + step / 2) % step - step / 2)
        return self.put(np.clip(thick / 2 + 0.5 - away, 0, 1), ink)

    def light(self, down: float, across: float) -> Scene:
        """Less towards the lower and the right edge."""
        y, x = (np.linspace(0, 1, n) for n in self.shape)
        found = (1 - down * y)[:, None] * (1 - across * x)[None, :]
        self.sheet *= found if self.sheet.ndim == 2 else found[..., None]
        return self

    def shadow(self, share: float, soft: float) -> Scene:
        """Beyond a slanted edge."""
        y, x = (np.linspace(-1, 1, n) for n in self.shape)
        found = 1 - share * np.clip(((x[None, :] + 0.6 * y[:, None]) - 0.1) / soft + 0.5, 0, 1)
        self.sheet *= found if self.sheet.ndim == 2 else found[..., None]
        return self

    def grain(self, depth: int, seed: int = 0) -> Scene:
        """Of a camera."""
        random = np.random.default_rng(seed)
        self.sheet += sum(random.integers(-depth, depth + 1, self.sheet.shape) for _ in range(3)) / (3 * 255)
        return self

    @property
    def done(self) -> np.ndarray:
        return (np.rint(255 * np.clip(self.sheet, 0, 1)) / 255).astype(np.float32)


def stroke(shape: tuple[int, int], points: Points, pen: float) -> np.ndarray:
    """A line along points, with soft edges and round ends    (height, width)"""
    y, x = np.indices(shape).astype(float)
    nearest = np.full(shape, np.inf)
    for (x0, y0), (x1, y1) in zip(points[:-1], points[1:], strict=True):
        dx, dy = x1 - x0, y1 - y0
        along = np.clip(((x - x0) * dx + (y - y0) * dy) / max(dx * dx + dy * dy, 1e-9), 0, 1)
        nearest = np.minimum(nearest, np.hypot(x - x0 - along * dx, y - y0 - along * dy))
    return np.clip(pen / 2 + 0.5 - nearest, 0, 1)


def scenes() -> dict[str, np.ndarray]:
    """Paper, ink, light, lines, pens and places of every kind."""
    cream, blue, red = (0.95, 0.92, 0.82), (0.15, 0.25, 0.6), (0.75, 0.15, 0.2)
    board, chalk, rules = (0.1, 0.25, 0.17), (0.95, 0.93, 0.6), (0.6, 0.72, 0.9)
    middle = (35.0, 30.0, 45.0, 80.0)
    found = {
        **{f"pen of {n} pixels": Scene((140, 120)).write(TWO, middle, n, 0) for n in (3, 6, 8, 9.5, 13, 14.2, 20)},
        "a thick seven": Scene((140, 120), 0.97).write(SEVEN, middle, 24, 0.1),
        "a thin zero": Scene((200, 150), 0.97).write(ZERO, (20, 20, 110, 160), 2, 0.1),
        **{f"leaning {n}": Scene((120, 160)).write(FOUR, (60, 20, 40, 80), 6, 0, n) for n in (-1.1, -0.6, 0.5, 0.8)},
        "chalk": Scene((130, 110), board).write(FIVE, middle, 7, chalk).light(0.3, 0.1).grain(9, 1),
        "ballpoint": Scene((130, 110), cream).write(FIVE, middle, 6, blue).light(0.2, 0.35).grain(12, 2),
        "red in a shadow": Scene((160, 130), cream).write(TWO, middle, 8, red).shadow(0.35, 0.3).grain(5, 3),
        "pencil": Scene((150, 110), 0.9).write(SEVEN, middle, 5, 0.62).light(0.1, 0.2).grain(8, 4),
        "much grain": Scene((150, 130), 0.85).write(ZERO, middle, 9, 0.3).grain(60, 5),
        "too much grain": Scene((150, 130), 0.85).write(ZERO, middle, 5, 0.7).grain(90, 6),
        "no ink": Scene((150, 130), cream).light(0.3, 0.2).grain(10, 7),
        "large": Scene((800, 700), 0.95).write(TWO, (200, 150, 260, 480), 40, 0.2).light(0.2, 0.3),
        "wide": Scene((90, 900), 0.95).write(FOUR, (500, 12, 40, 66), 6, 0.2).light(0.0, 0.3),
        "lined": Scene((150, 170), cream).rule(32, 1.6, 1.3, rules).write(TWO, (60, 32, 50, 85), 8, blue).grain(5, 8),
        "squared": Scene((170, 150), 0.95).rule(27, 1.4, -6.2, 0.7).rule(27, 1.4, 83.8, 0.7).write(
            FIVE, middle, 7, 0.2),
        "lined, strongly": Scene((150, 200)).rule(38, 2.5, 9.6, 0.45).write(SEVEN, (70, 30, 50, 90), 9, 0.0),
        "lined, too slanted": Scene((150, 260)).rule(70, 2, 13, 0.5).write(ZERO, (110, 40, 30, 45), 7, 0.0),
        "a line of dashes": Scene((130, 130)).write(ONE, middle, 6, 0.1).put(dashes((130, 130)), 0.2),
        "with a dot": Scene((150, 130)).write(TWO, middle, 7, 0).put(stroke((150, 130), [(110, 20)] * 2, 6), 0),
        "in two parts": Scene((150, 130)).write([[(0, 0), (0, 0.7), (1, 0.7)]], middle, 7, 0).write(
            [[(1.4, 0), (1.4, 1)]], middle, 7, 0),
        "beside another": Scene((150, 190)).write(TWO, middle, 7, 0).write(ONE, (140, 40, 30, 60), 7, 0.4),
        "cut off at the edge": Scene((150, 130)).write(TWO, (-25, 20, 60, 100), 7, 0).write(
            FOUR, (70, 50, 35, 60), 6, 0),
        "small, beside much at the edge": Scene((200, 200)).write(TWO, (-60, 0, 170, 190), 30, 0).write(
            ONE, (150, 90, 8, 16), 3, 0),
        "faint at the edge": Scene((120, 120), 0.8).put(stroke((120, 120), [(0, 60), (40, 70)], 9), 0.62),
        "faint within": Scene((120, 120), 0.8).write(SEVEN, (30, 30, 40, 60), 7, 0.62),
        "yellow on white": Scene((120, 120), (0.98, 0.98, 0.97)).write(FOUR, (30, 25, 45, 70), 7, (0.97, 0.92, 0.2)),
        "tiny": Scene((7, 6)).put(stroke((7, 6), [(3, 1), (3, 5)], 1.5), 0),
        "small": Scene((16, 14)).put(stroke((16, 14), [(4, 3), (9, 3), (6, 12)], 2), 0),
        "as ours, too far to the right": Scene((28, 28)).put(stroke((28, 28), [(20, 5), (21, 23)], 3), 0),
    }  # fmt: skip
    return {name: scene.done for name, scene in found.items()}


def dashes(shape: tuple[int, int]) -> np.ndarray:
    """Ink at both edges, and little between    (height, width)"""
    mask = stroke(shape, [(0, 90), (shape[1], 90)], 2)
    mask[:, 12:-12] *= (np.arange(shape[1] - 24) % 16 < 3)[None, :]
    return mask


def pages() -> dict[str, np.ndarray]:
    """Several digits, parts of digits, dust, and what is no digit."""
    lines = Scene((260, 300), 0.97)
    for n in range(9):
        left, top = 25 + 66 * (n % 4) + 5 * (n % 3), 25 + 80 * (n // 4) + 7 * (n % 2)
        lines.write(DIGITS[n % 6], (left, top, 26 + 3 * (n % 4), 42 + 5 * (n % 3)), 6, 0.1 + 0.05 * n)
    parts = Scene((150, 330))
    for n, (height, gap) in enumerate(((34, 6), (34, 12), (34, 20), (22, 4), (14, 12), (9, 3))):
        left = 20 + 52 * n
        parts.write(ONE, (left, 70, 22, 50), 5, 0).write(SEVEN, (left, 68 - gap - height, 22, height), 4, 0)
    beside = Scene((110, 330))
    for n, (width, gap) in enumerate(((8, 5), (8, 9), (14, 7), (20, 7), (4, 12))):
        left = 15 + 64 * n
        beside.write(ZERO, (left, 30, 24, 50), 5, 0).write(ZERO, (left + 29 + gap, 50, width, 2 * width), 4, 0)
    hanging = Scene((160, 220)).write(ONE, (-4, 40, 12, 50), 5, 0).write(TWO, (60, 40, 30, 55), 6, 0)
    hanging.put(stroke((160, 220), [(150, -5), (150, 120)], 6), 0).put(stroke((160, 220), [(190, 80)] * 2, 4), 0)
    return {"lines": lines.done, "parts above": parts.done, "parts beside": beside.done, "hanging": hanging.done}


def blocks(step: np.ndarray) -> np.ndarray:
    """Means of blocks of a step    (BLOCKS, BLOCKS)"""
    grey = step if step.ndim == 2 else step.astype(np.float64) @ [0.5, 0.3, 0.2]
    out = np.zeros((BLOCKS, BLOCKS))
    rows, columns = (np.array_split(np.arange(n), min(n, BLOCKS)) for n in grey.shape)
    for y, inside in enumerate(rows):
        for x, across in enumerate(columns):
            out[y, x] = grey[inside[0] : inside[-1] + 1, across[0] : across[-1] + 1].mean(dtype=np.float64)
    return out


def described(one: Prepared) -> tuple[np.ndarray, str]:
    """Its place, −1 where none is told, and its warning."""
    return np.array(one.box or (-1,) * 4), one.warning or ""


def followed(picture: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of one scene."""
    steps, shapes = np.zeros((len(STEPS), BLOCKS, BLOCKS)), np.zeros((len(STEPS), 2), int)

    def note(name: str, step: np.ndarray) -> None:
        steps[STEPS.index(name)], shapes[STEPS.index(name)] = blocks(step), step.shape[:2]

    one = prepare_digit(picture, note)
    ink = find_ink(picture)
    box, warning = described(one)
    return {
        "steps": steps,
        "shapes": shapes,
        "contrast": np.array(ink.contrast if ink else 0.0),
        "map": blocks(ink.map) if ink else np.zeros((BLOCKS, BLOCKS)),
        "box": box,
        "warning": np.array(warning),
        "pixels": one.pixels,
        "plain": blocks(prepare_plain(picture).pixels / 255),
    }


def read(picture: np.ndarray) -> dict[str, np.ndarray]:
    """What is kept of a page."""
    lines = prepare_digits(picture)
    return {
        "digits": np.array([len(line) for line in lines]),
        "boxes": np.array([one.box for line in lines for one in line]),
        "pages": np.array([blocks(one.pixels / 255) for line in lines for one in line]),
    }


if __name__ == "__main__":
    kept = {f"{name}/{key}": value for name, picture in scenes().items() for key, value in followed(picture).items()}
    kept |= {f"{name}/{key}": value for name, picture in pages().items() for key, value in read(picture).items()}
    small = {key: value.astype(np.float32) if value.dtype == np.float64 else value for key, value in kept.items()}
    np.savez_compressed(FILE, **small)
