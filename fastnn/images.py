"""Any picture a person has → the picture the network was trained on.

MNIST's digits were cut to their ink, fitted into 20x20 with their aspect kept, anti-aliased, and placed in 28x28 with
their centre of mass in the middle (LeCun et al. 1998). A picture that is already so comes through as it is.
"""

from __future__ import annotations

import io
import math
import stat
import struct
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fastnn.errors import ImageError, printable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
SIDE = 28
BOX = 20
MIDDLE = 14.0  # row and column of the centre of mass of MNIST's digits: 14.0 ± 0.3
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 16_000_000
MAX_JPEG_PIXELS = 100_000_000  # a JPEG is decoded at a fraction of its size, so a phone's 50 megapixels are no risk
MAX_SIDE = 16_384
MAX_ASPECT = 5_000
_ENOUGH = 1_024  # pixels of a side beyond which a JPEG is decoded smaller
_BLANK = 0.06  # of the range from black to white: less than this is no ink
_INK = 0.25  # of the darkest ink: less than this is paper, its grain, or JPEG noise
_DECODING_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    TypeError,
    EOFError,
    OverflowError,
    MemoryError,
    IndexError,
    KeyError,
    struct.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)


@dataclass(frozen=True)
class Prepared:
    """A picture as the network takes it.

    Attributes
    ----------
    pixels : ndarray (28, 28)
        uint8, 0 for paper to 255 for ink.
    warning : str, optional
        What a person should know about the answer.
    """

    pixels: np.ndarray
    warning: str | None = None


def find_images(paths: Iterable[Path]) -> list[Path]:
    """Files as they are given, and the pictures of every folder, sorted by name.

    Raises
    ------
    ImageError
        When a path is missing, or a folder holds no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            )
            if not inside:
                raise ImageError(f"{printable(path)}: no pictures in this folder ({', '.join(SUFFIXES)})")
            found += inside
        else:
            found.append(path)
    return found


def read(path: Path) -> np.ndarray:
    """Decode a picture into grey values.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP, GIF or WebP of any mode, told by its content; the first frame of an animation.

    Returns
    -------
    ndarray (height, width)
        float32, 0 black to 1 white; turned as EXIF says, transparency on white.

    Raises
    ------
    ImageError
        When it is missing, too large (known before it is decoded), damaged, or not a picture.
    """
    shown = printable(path)
    try:
        if not path.exists():
            raise ImageError(f"{shown}: no such file")
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise ImageError(f"{shown}: not a file")
        if status.st_size > MAX_BYTES:
            raise ImageError(f"{shown}: {status.st_size:,} bytes; at most {MAX_BYTES:,}. Make it smaller first")
        content = path.read_bytes()
    except OSError as error:
        raise ImageError(f"{shown}: can't be read ({error.strerror or error})") from error
    return decode(content, shown)


def decode(content: bytes, shown: str = "picture") -> np.ndarray:
    """Like `read`, from the bytes of a file; `shown` names it in messages."""
    if not content:
        raise ImageError(f"{shown}: an empty file")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                _check_size(image, shown)
                if image.format == "JPEG":
                    image.draft("RGB" if image.mode != "L" else "L", (_ENOUGH, _ENOUGH))
                image.load()
                return _grey(ImageOps.exif_transpose(image))
    except ImageError:
        raise
    except _DECODING_ERRORS as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else "damaged"
        raise ImageError(f"{shown}: {reason}; expected a whole {', '.join(FORMATS)} file") from error


def _check_size(image: Image.Image, shown: str) -> None:
    width, height = image.size
    most = MAX_JPEG_PIXELS if image.format == "JPEG" else MAX_PIXELS
    if width < 1 or height < 1:
        raise ImageError(f"{shown}: {width} x {height} pixels, an empty picture")
    if width * height > most or max(width, height) > MAX_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{shown}: {width} x {height} pixels; at most {most // 1_000_000} megapixels and {MAX_SIDE:,} a side. "
            "Make it smaller first"
        )


def _grey(image: Image.Image) -> np.ndarray:
    """Any mode → float32 (height, width), 0 black to 1 white."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.float32) / 65_535
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float32)
        top = values.max()
        return np.clip(values / (1 if top <= 1 else 255 if top <= 255 else 65_535 if top <= 65_535 else top), 0, 1)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
        alpha = rgba[..., 3]
        grey = rgba[..., :3] @ np.array([0.299, 0.587, 0.114], np.float32)
        on_white = grey * alpha + (1 - alpha)
        if np.ptp(on_white) < _BLANK <= np.ptp(alpha):  # white ink on nothing: the shape is in the transparency
            return 1 - alpha
        return on_white
    if image.mode not in ("1", "L"):
        image = image.convert("RGB")
    return np.asarray(image.convert("L"), np.float32) / 255


def ink_of(grey: np.ndarray) -> np.ndarray | None:
    """Grey values → ink, 0 paper to 1 darkest; None when there is none.

    Paper is what the border is made of; ink is whatever differs from it, dark on light or light on dark.
    """
    low, high = float(grey.min()), float(grey.max())
    if high - low < _BLANK:
        return None
    border = np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])
    paper = float(np.median(border))
    ink = paper - grey if paper > (low + high) / 2 else grey - paper
    ink = np.clip(ink, 0, None)
    return ink / ink.max() if ink.max() > 0 else None


def prepare_digit(grey: np.ndarray) -> Prepared:
    """Grey values of a digit, on paper of any size → 28x28 as MNIST was made.

    Parameters
    ----------
    grey : ndarray (height, width)
        0 black to 1 white.
    """
    ink = ink_of(grey)
    if ink is None:
        return Prepared(np.zeros((SIDE, SIDE), np.uint8), "blank picture: the answer means nothing")
    small = min(grey.shape)
    warning = f"enlarged from {grey.shape[1]} x {grey.shape[0]} pixels" if small < 8 else None
    top, bottom, left, right = _ink_box(ink)
    if grey.shape == (SIDE, SIDE) and _is_normal(grey, ink, max(bottom - top, right - left)):
        light_ink = float(np.median(grey[0])) <= 0.5
        return Prepared(np.rint(255 * (grey if light_ink else 1 - grey)).astype(np.uint8), warning)
    ink = np.where(ink < _INK, 0, ink)[top:bottom, left:right].astype(np.float32)
    scale = BOX / max(ink.shape)
    size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    fitted = np.asarray(Image.fromarray(ink).resize(size, Image.Resampling.BICUBIC))
    fitted = np.clip(fitted / max(float(fitted.max()), 1e-6), 0, 1)
    return Prepared(np.rint(255 * _centred(fitted)).astype(np.uint8), warning)


def _ink_box(ink: np.ndarray) -> tuple[int, int, int, int]:
    rows = np.flatnonzero((ink >= _INK).any(axis=1))
    columns = np.flatnonzero((ink >= _INK).any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _is_normal(grey: np.ndarray, ink: np.ndarray, side: int) -> bool:
    """Whether a 28x28 picture has its ink on clean paper, in the box, with its centre of mass in the middle."""
    paper = float(np.median(grey[0]))
    row, column = _centre(ink)
    centred = abs(row - MIDDLE) <= 1.5 and abs(column - MIDDLE) <= 1.5
    return paper in (0.0, 1.0) and centred and BOX - 5 <= side <= BOX + 1


def _centre(ink: np.ndarray) -> tuple[float, float]:
    total = float(ink.sum())
    rows, columns = np.indices(ink.shape)
    return float((rows * ink).sum()) / total, float((columns * ink).sum()) / total


def _centred(ink: np.ndarray) -> np.ndarray:
    """`ink` in 28x28 zeros, its centre of mass as near the middle as whole pixels and the edges allow."""
    places = []
    for axis, centre in enumerate(_centre(ink)):
        start = math.floor(MIDDLE - centre + 0.5)
        places.append(min(max(start, 0), SIDE - ink.shape[axis]))
    out = np.zeros((SIDE, SIDE), np.float32)
    out[places[0] : places[0] + ink.shape[0], places[1] : places[1] + ink.shape[1]] = ink
    return out


def prepare_plain(grey: np.ndarray) -> Prepared:
    """Grey values of a thing that fills its picture → 28x28, aspect kept, light on dark as Fashion-MNIST is."""
    ink = ink_of(grey)
    if ink is None:
        return Prepared(np.zeros((SIDE, SIDE), np.uint8), "blank picture: the answer means nothing")
    if grey.shape == (SIDE, SIDE) and float(np.median(grey[0])) <= 0.5:
        return Prepared(np.rint(255 * grey).astype(np.uint8))
    scale = SIDE / max(ink.shape)
    size = (max(1, round(ink.shape[1] * scale)), max(1, round(ink.shape[0] * scale)))
    fitted = np.clip(np.asarray(Image.fromarray(ink.astype(np.float32)).resize(size, Image.Resampling.BICUBIC)), 0, 1)
    out = np.zeros((SIDE, SIDE), np.float32)
    top, left = (SIDE - fitted.shape[0]) // 2, (SIDE - fitted.shape[1]) // 2
    out[top : top + fitted.shape[0], left : left + fitted.shape[1]] = fitted
    return Prepared(np.rint(255 * out).astype(np.uint8))


# The name is stored in the model file, so that every door treats pictures as training did.
RECIPES = {"mnist": prepare_digit, "plain": prepare_plain}
