"""Digits as people photograph and scan them: a generator of degraded pictures, named by a seed.

Uneven light, shadows, lined and squared paper, coloured ink, thick and thin pens, dark boards, any place, size and
turn, grain, JPEG. `degraded(pixels, seed)` is the picture of one digit, `many(digits, seed)` of several.

python tests/photos.py sheet|photo|page OUT [SEED]      (48 at a glance, one digit, or several, of MNIST's test set)
"""

from __future__ import annotations

import io
import math
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

INKS = {  # RGB, 0 to 1
    "black": (0.08, 0.08, 0.1),
    "blue": (0.1, 0.2, 0.6),
    "red": (0.75, 0.12, 0.15),
    "green": (0.05, 0.45, 0.2),
    "pencil": (0.38, 0.38, 0.4),
    "orange": (0.95, 0.5, 0.1),
}
PAPERS = ((0.97, 0.97, 0.96), (0.94, 0.91, 0.82), (0.88, 0.9, 0.93), (0.8, 0.79, 0.77), (0.96, 0.93, 0.7))
CHALKS = ((0.95, 0.95, 0.93), (0.95, 0.9, 0.5), (0.6, 0.85, 0.95))
BOARDS = ((0.08, 0.09, 0.1), (0.1, 0.25, 0.17), (0.12, 0.14, 0.3), (0.25, 0.16, 0.1))
RULES = ((0.55, 0.7, 0.9), (0.7, 0.72, 0.75), (0.9, 0.65, 0.7), (0.6, 0.8, 0.7))


@dataclass(frozen=True)
class Photo:
    """A picture of one digit or several.

    Attributes
    ----------
    content : bytes
        PNG or JPEG.
    boxes : list of tuple
        (left, top, right, bottom) of each digit's ink, in pixels.
    """

    content: bytes
    boxes: list[tuple[float, float, float, float]]

    @property
    def image(self) -> Image.Image:
        return Image.open(io.BytesIO(self.content))


def degraded(pixels: np.ndarray, seed: int) -> Photo:
    """One digit (28, 28) uint8, somewhere in a picture of 200 to 1,000 pixels, 0.2 to 0.9 of its height."""
    random = np.random.default_rng([seed, 7])
    short = int(random.integers(200, 1_001))
    width, height = sorted((short, int(short * random.uniform(1, 1.5))), reverse=bool(random.random() < 0.5))
    side = random.uniform(0.2, 0.9) * short  # of the digit's longer side
    size, ink = _enlarged(pixels, side, random)
    left, top = (
        random.uniform(0.02 * n, max(0.02 * n, 0.98 * n - m)) for n, m in zip((width, height), size, strict=True)
    )
    mask = Image.new("L", (width, height))
    mask.paste(ink, (int(left), int(top)))
    box = (left, top, left + size[0], top + size[1])
    return Photo(_photographed(np.asarray(mask, np.float32) / 255, side, random), [box])


def many(digits: list[np.ndarray], seed: int, across: int = 5) -> Photo:
    """Several digits in lines of `across`, as somebody writes them one after the other."""
    random = np.random.default_rng([seed, 8])
    side = random.uniform(40, 90)
    lines = -(-len(digits) // across)
    width, height = int((across + 1.5) * 1.25 * side), int((lines + 1) * 1.7 * side)
    mask, boxes = Image.new("L", (width, height)), []
    for n, pixels in enumerate(digits):
        own = side * random.uniform(0.85, 1.15)
        size, ink = _enlarged(pixels, own, random)
        left = (n % across + 0.8) * 1.25 * side + random.uniform(-0.08, 0.08) * side + (side - size[0]) / 2
        top = (n // across + 0.45) * 1.7 * side + random.uniform(-0.1, 0.1) * side
        place = Image.new("L", (width, height))
        place.paste(ink, (int(left), int(top)))
        mask = Image.fromarray(np.maximum(np.asarray(mask), np.asarray(place)))
        boxes.append((left, top, left + size[0], top + size[1]))
    return Photo(_photographed(np.asarray(mask, np.float32) / 255, side, random), boxes)


def _enlarged(pixels: np.ndarray, side: float, random: np.random.Generator) -> tuple[tuple[int, int], Image.Image]:
    """The digit's ink cut out, turned, drawn with a thicker or thinner pen, its longer side `side` pixels."""
    big = Image.fromarray(pixels).resize((280, 280), Image.Resampling.BICUBIC)
    big = big.rotate(random.uniform(-10, 10), Image.Resampling.BICUBIC)
    level = random.uniform(70, 185)  # where the edge of the stroke is taken
    soft = np.clip((np.asarray(big.filter(ImageFilter.GaussianBlur(4)), np.float32) - level) / 30 + 0.5, 0, 1)
    if soft.max() < 0.9:  # a stroke too thin for that
        soft = np.clip((np.asarray(big, np.float32) - 60) / 40 + 0.5, 0, 1)
    rows, columns = np.flatnonzero(soft.max(axis=1) > 0.5), np.flatnonzero(soft.max(axis=0) > 0.5)
    cut = soft[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    scale = side / max(cut.shape)
    size = max(2, round(cut.shape[1] * scale)), max(2, round(cut.shape[0] * scale))
    return size, Image.fromarray(np.rint(255 * cut).astype(np.uint8)).resize(size, Image.Resampling.LANCZOS)


def _photographed(mask: np.ndarray, side: float, random: np.random.Generator) -> bytes:
    """Ink (height, width), 0 to 1, on paper, under light, through a camera."""
    dark = random.random() < 0.75
    paper = np.array((PAPERS if dark else BOARDS)[random.integers(5 if dark else 4)])
    ink = np.array(list(INKS.values())[random.integers(len(INKS))] if dark else CHALKS[random.integers(3)])
    scene = np.ones((*mask.shape, 3)) * paper
    if dark:
        scene = _ruled(scene, side, random)
    scene = scene + mask[..., None] * random.uniform(0.85, 1) * (ink - scene)
    scene *= _light(mask.shape, random)[..., None]
    scene += random.uniform(0.005, 0.04) * random.standard_normal(scene.shape)
    image = Image.fromarray(np.rint(255 * np.clip(scene, 0, 1)).astype(np.uint8))
    if random.random() < 0.5:
        image = image.filter(ImageFilter.GaussianBlur(random.uniform(0.3, 0.012 * side)))
    out = io.BytesIO()
    if random.random() < 0.75:
        image.save(out, "JPEG", quality=int(random.integers(30, 93)))
    else:
        image.save(out, "PNG", compress_level=1)
    return out.getvalue()


def _ruled(scene: np.ndarray, side: float, random: np.random.Generator) -> np.ndarray:
    """Lines or squares on the paper, or nothing."""
    kind = random.choice(["plain", "lined", "squared"])
    if kind == "plain":
        return scene
    height, width = scene.shape[:2]
    lines = Image.new("L", (width, height))
    draw = ImageDraw.Draw(lines)
    step = max(8.0, side * random.uniform(0.25, 1.1))
    thick, angle = max(1, round(random.uniform(0.004, 0.02) * side)), math.radians(random.uniform(-4, 4))
    reach = width + height
    for turn in (angle, angle + math.pi / 2)[: 1 if kind == "lined" else 2]:
        along, across = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
        for n in range(-int(reach / step), int(reach / step) + 1):
            x, y = width / 2 + n * step * across[0], height / 2 + n * step * across[1]
            ends = [(x + t * reach * along[0], y + t * reach * along[1]) for t in (-1, 1)]
            draw.line(ends, 255, thick)
    colour = np.array(RULES[random.integers(len(RULES))])
    share = random.uniform(0.3, 0.9) * np.asarray(lines, np.float32)[..., None] / 255
    return scene + share * (np.minimum(colour, scene) - scene)


def _light(shape: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Brightness (height, width): a slope, darker corners, perhaps a shadow with a soft edge."""
    y, x = (np.linspace(-1, 1, n) for n in shape)
    turn = random.uniform(0, 2 * math.pi)
    slope = np.cos(turn) * x[None, :] + np.sin(turn) * y[:, None]
    light = (
        1
        - random.uniform(0, 0.3) * (slope + 1.4) / 2.8
        - random.uniform(0, 0.2) * (x[None, :] ** 2 + y[:, None] ** 2) / 2
    )
    if random.random() < 0.4:
        turn, place = random.uniform(0, 2 * math.pi), random.uniform(-0.6, 0.6)
        edge = (np.cos(turn) * x[None, :] + np.sin(turn) * y[:, None] - place) / random.uniform(0.03, 0.4)
        light *= 1 - random.uniform(0.1, 0.35) / (1 + np.exp(-np.clip(4 * edge, -30, 30)))
    return light


def shrunk(photo: Photo) -> np.ndarray:
    """What most programs do: grey, light on dark, 28x28; (28, 28) uint8."""
    grey = np.asarray(photo.image.convert("L").resize((28, 28), Image.Resampling.BICUBIC), np.float32)
    grey = 255 - grey if np.median(grey) > 127 else grey
    return np.rint(255 * (grey - grey.min()) / max(1.0, np.ptp(grey))).astype(np.uint8)


def sheet(photos: list[Photo], across: int = 8, side: int = 160) -> Image.Image:
    """Many at a glance."""
    out = Image.new("RGB", (across * side, -(-len(photos) // across) * side), "white")
    for n, photo in enumerate(photos):
        small = photo.image.convert("RGB")
        small.thumbnail((side - 6, side - 6))
        out.paste(small, (n % across * side + 3, n // across * side + 3))
    return out


def main(kind: str, out: str, seed: str = "0") -> None:
    from fastnn import load_data

    test = load_data("mnist").test
    assert test
    digits, first = test.x.reshape(-1, 28, 28), int(seed)
    if kind == "sheet":
        sheet([degraded(digits[first + n], first + n) for n in range(48)]).save(out)
    else:
        photo = degraded(digits[first], first) if kind == "photo" else many(list(digits[first : first + 7]), first)
        Path(out).write_bytes(photo.content)


if __name__ == "__main__":
    main(*sys.argv[1:])
