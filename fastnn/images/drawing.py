"""Pictures about pictures: boxes around what was read, and the steps that led there, as PNG."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

SURE, UNSURE = "#0072b2", "#d55e00"  # told apart by everybody (Okabe and Ito 2008)
_STRIP = 180  # pixels of a step's height
_MARGIN = 12
_LEAST = 640  # pixels of the shorter side of an annotated picture: small ones are enlarged, so that text is legible


@dataclass(frozen=True)
class Mark:
    """A box to draw.

    Attributes
    ----------
    box : tuple of float
        (left, top, right, bottom), in shares of the picture's width and height.
    text : str
    sure : bool
    """

    box: tuple[float, float, float, float]
    text: str
    sure: bool = True


def annotated(picture: np.ndarray, marks: Sequence[Mark]) -> bytes:
    """The picture with a box and a text for each mark.

    Parameters
    ----------
    picture : ndarray (height, width) or (height, width, 3)
        0 black to 1 white.
    marks : sequence of Mark

    Returns
    -------
    bytes
        A PNG file.
    """
    image = _image(picture).convert("RGB")
    larger = max(1.0, _LEAST / max(1, min(image.size)))
    if larger > 1:
        image = image.resize((round(image.width * larger), round(image.height * larger)), Image.Resampling.BICUBIC)
    draw, line = ImageDraw.Draw(image), round(min(image.size) / 250)
    for mark in marks:
        left, top, right, bottom = (n * image.size[i % 2] for i, n in enumerate(mark.box))
        colour = SURE if mark.sure else UNSURE
        gap = 2 * line
        draw.rectangle((left - gap, top - gap, right + gap, bottom + gap), outline=colour, width=line)
        font = _font(float(np.clip(0.22 * (bottom - top), 13, 40)))
        place = draw.textbbox((0, 0), mark.text, font)
        wide, high = place[2] + 6, place[3] + 4
        x = min(max(0, left - gap), max(0, image.width - wide))
        y = top - gap - high if top - gap - high >= 0 else min(bottom + gap, image.height - high)
        draw.rectangle((x, y, x + wide, y + high), fill=colour)
        draw.text((x + 3, y + 1), mark.text, "white", font)
    return _png(image)


def strip(steps: Sequence[tuple[str, np.ndarray]]) -> bytes:
    """Steps side by side, each with its name below.

    Parameters
    ----------
    steps : sequence of (str, ndarray)
        0 black to 1 white.

    Returns
    -------
    bytes
        A PNG file.
    """
    font = _font(15)
    shown = []
    for name, values in steps:
        image = _image(values).convert("RGB")
        scale = _STRIP / image.height
        scale = min(scale, 1.8 * _STRIP / image.width)
        size = max(1, round(image.width * scale)), max(1, round(image.height * scale))
        shown.append((name, image.resize(size, Image.Resampling.BOX if scale < 1 else Image.Resampling.NEAREST)))
    measure = ImageDraw.Draw(Image.new("L", (1, 1)))
    widths = [max(image.width, round(measure.textlength(name, font))) for name, image in shown]
    out = Image.new("RGB", (sum(widths) + _MARGIN * (len(shown) + 1), _STRIP + 2 * _MARGIN + 24), "white")
    draw, x = ImageDraw.Draw(out), _MARGIN
    for (name, image), width in zip(shown, widths, strict=True):
        top = _MARGIN + (_STRIP - image.height) // 2
        out.paste(image, (x + (width - image.width) // 2, top))
        left = x + (width - image.width) // 2
        draw.rectangle((left - 1, top - 1, left + image.width, top + image.height), outline="#999999")
        draw.text((x + (width - measure.textlength(name, font)) / 2, _STRIP + _MARGIN + 6), name, "black", font)
        x += width + _MARGIN
    return _png(out)


def _image(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.rint(255 * np.clip(values, 0, 1)).astype(np.uint8))


def _font(size: float) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _png(image: Image.Image) -> bytes:
    out = io.BytesIO()
    image.save(out, "PNG")
    return out.getvalue()
