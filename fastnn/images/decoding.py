"""Files of pictures, of any kind that people have → arrays; what is too large or damaged is refused before it hurts."""

from __future__ import annotations

import io
import stat
import struct
import warnings
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from fastnn.errors import ImageError, printable

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 16_000_000
MAX_JPEG_PIXELS = 100_000_000  # a JPEG is decoded at a fraction of its size, so a phone's 50 megapixels are no risk
MAX_SIDE = 16_384
MAX_ASPECT = 5_000
_ENOUGH = 1_024  # pixels of a side beyond which a JPEG is decoded smaller
_SHAPE = 0.06  # of the range from black to white: with less than this in its colours, the transparency is the picture
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
    Warning,  # where warnings are errors
)


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
    """Decode a picture.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP, GIF or WebP of any mode, told by its content; the first frame of an animation.

    Returns
    -------
    ndarray (height, width), or (height, width, 3) where it has colours
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
    with warnings.catch_warnings():  # of what is odd in a file, but read all the same
        warnings.simplefilter("ignore")
        return decode(content, shown)


def decode(content: bytes, shown: str = "picture") -> np.ndarray:
    """Like `read`, from the bytes of a file; `shown` names it in messages."""
    if not content:
        raise ImageError(f"{shown}: an empty file")
    try:
        with Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_size(image, shown)
            if image.format == "JPEG":
                image.draft("RGB" if image.mode != "L" else "L", (_ENOUGH, _ENOUGH))
            image.load()
            if image.info:  # which end is up is there, if anywhere
                ImageOps.exif_transpose(image, in_place=True)
            return _values(image)
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


def _values(image: Image.Image) -> np.ndarray:
    """Any mode → float32 (height, width), 0 black to 1 white, with a third axis where there are colours."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.float32) / 65_535
    if image.mode in ("I", "F"):
        values = np.asarray(image).astype(np.float32)
        top = values.max()
        return np.clip(values / (1 if top <= 1 else 255 if top <= 255 else 65_535 if top <= 65_535 else top), 0, 1)
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        rgba = np.asarray(image.convert("RGBA"), np.float32) / 255
        alpha = rgba[..., 3:]
        on_white = rgba[..., :3] * alpha + (1 - alpha)
        if np.ptp(on_white) < _SHAPE <= np.ptp(alpha):  # white ink on nothing: the shape is in the transparency
            return 1 - alpha[..., 0]
        return _without_needless_colours(on_white)
    if image.mode in ("1", "L"):
        return np.asarray(image if image.mode == "L" else image.convert("L"), np.float32) / 255
    return _without_needless_colours(np.asarray(image.convert("RGB"), np.float32) / 255)


def _without_needless_colours(picture: np.ndarray) -> np.ndarray:
    """The one channel of a picture whose channels are the same."""
    first = picture[..., :1]
    return picture[..., 0].copy() if float(np.abs(picture - first).max()) < 1 / 255 else picture
