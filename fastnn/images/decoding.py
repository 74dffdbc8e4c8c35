"""Files of pictures, of any kind that people have → arrays; what is too large or damaged is refused before it hurts."""

from __future__ import annotations

import io
import stat
import struct
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from threading import Lock

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.JpegImagePlugin import JpegImageFile
from PIL.WebPImagePlugin import WebPImageFile

from fastnn.errors import ImageError, printable
from fastnn.images.containers import header, orientation

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP")
SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp")
MAX_BYTES = 64 * 2**20
MAX_PIXELS = 16_000_000
MAX_JPEG_PIXELS = 100_000_000  # a JPEG is decoded at a fraction of its size, so a phone's 50 megapixels are no risk
MAX_SIDE = 16_384
MAX_ASPECT = 5_000
_ENOUGH = 1_024  # pixels of the shorter side beyond which a JPEG is decoded smaller
_LARGEST = 2_048  # pixels of the longer side beyond which a picture is made smaller: ink is looked for in 640
_STRIP = 2**20  # pixels that are converted at once
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SHAPE = 0.06  # of the range from black to white: with less than this in its colours, the transparency is the picture
_OPENING = Lock()  # filters of warnings are the process's: two threads would each put back what the other has set
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
    files: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p for p in path.iterdir() if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
            )
            if not inside:
                raise ImageError(f"{printable(path)}: no pictures in this folder ({', '.join(SUFFIXES)})")
            files += inside
        else:
            files.append(path)
    return files


def read(path: Path) -> np.ndarray:
    """Decode a picture.

    Parameters
    ----------
    path : Path
        PNG, JPEG, BMP, GIF or WebP of any mode, told by its content; the first frame of an animation.

    Returns
    -------
    ndarray (height, width), or (height, width, 3) where it has colours
        float32, 0 black to 1 white; turned as EXIF says, transparency on white. At most 2,048 pixels a side: a larger
        picture comes smaller by a whole number, each pixel the mean of what it covers.

    Raises
    ------
    ImageError
        When it is missing, too large or too much work (known before it is decoded), damaged, or not a picture.
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
        return _values(_decoded(content))
    except ImageError as error:
        raise ImageError(f"{shown}: {error}") from error
    except _DECODING_ERRORS as error:
        reason = "not a picture" if isinstance(error, UnidentifiedImageError) else "damaged"
        raise ImageError(f"{shown}: {reason}; expected a whole {', '.join(FORMATS)} file") from error


def _decoded(content: bytes) -> Image.Image:
    """The first picture of a file, small enough and upright, in a mode of its own."""
    head, notes = header(content)
    with _opened(head) as image:
        _check_size(image)
        if isinstance(image, JpegImageFile):
            image.fp = io.BytesIO(content)  # opened by what describes its pixels, decoded from all of it
            _draft(image)
        elif isinstance(image, WebPImageFile):
            _free_canvases(image)
        image.load()
        turn = _TURNS.get(orientation({**image.info, **notes}))
        small = _reduced(image)
        return small if turn is None else small.transpose(turn)


def _opened(head: bytes) -> Image.Image:
    """Pillow's image, without its warnings of what is odd in a file, but read all the same; none come later."""
    with _OPENING, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return Image.open(io.BytesIO(head), formats=FORMATS)


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    most = MAX_JPEG_PIXELS if image.format == "JPEG" else MAX_PIXELS
    if width < 1 or height < 1:
        raise ImageError(f"{width} x {height} pixels, an empty picture")
    if width * height > most or max(width, height) > MAX_SIDE or max(width, height) > MAX_ASPECT * min(width, height):
        raise ImageError(
            f"{width} x {height} pixels; at most {most // 1_000_000} megapixels and {MAX_SIDE:,} a side. "
            "Make it smaller first"
        )


def _draft(image: Image.Image) -> None:
    """Decode a JPEG at 1/2, 1/4 or 1/8, the first that is small enough."""
    width, height = image.size
    wanted = max(min(width, height) // _ENOUGH, -(-max(width, height) // _LARGEST))
    scale = next((n for n in (8, 4, 2) if n <= wanted), 1)
    image.draft("RGB" if image.mode != "L" else "L", (width // scale, height // scale))


def _free_canvases(image: WebPImageFile) -> None:
    """Let the decoder of animations go, with two pictures in it, after the first and before Pillow makes its own."""
    prepare = image.load_prepare

    def prepare_alone() -> None:
        image._decoder = None
        prepare()

    image.load_prepare = prepare_alone  # type: ignore[method-assign]


def _plain_mode(image: Image.Image) -> str:
    """What an image of any mode is converted to before its values are taken."""
    if image.mode.startswith("I;16"):
        return "I;16"
    if image.mode in ("I", "F"):
        return image.mode
    if image.mode in ("LA", "La", "PA", "RGBA", "RGBa") or "transparency" in image.info:
        return "RGBA"
    return "L" if image.mode in ("1", "L") else "RGB"


def _reduced(image: Image.Image) -> Image.Image:
    """A picture of at most 2,048 pixels a side, each the mean of those it covers, made strip by strip while bytes."""
    times, mode = -(-max(image.size) // _LARGEST), _plain_mode(image)
    if times == 1:
        return image
    small = Image.new(mode, (-(-image.width // times), -(-image.height // times)))
    rows = max(1, _STRIP // (image.width * times)) * times
    for top in range(0, image.height, rows):
        strip = image.crop((0, top, image.width, min(top + rows, image.height)))
        # sixteen bits can't be reduced, but as whole numbers
        part = strip.convert("I" if mode == "I;16" else mode).reduce(times)
        small.paste(part.convert(mode), (0, top // times))
    return small


def _values(image: Image.Image) -> np.ndarray:
    """Any mode → float32 (height, width), 0 black to 1 white, with a third axis where there are colours."""
    mode = _plain_mode(image)
    if mode == "I;16":
        return np.asarray(image).astype(np.float32) / 65_535
    if mode in ("I", "F"):
        values = np.asarray(image).astype(np.float32)
        top = values.max()
        return np.clip(values / (1 if top <= 1 else 255 if top <= 255 else 65_535 if top <= 65_535 else top), 0, 1)
    pixels = np.asarray(image.convert(mode))
    if mode == "RGBA":
        return _on_white(pixels)
    return _without_needless_colours(np.divide(pixels, np.float32(255))) if mode == "RGB" else pixels / np.float32(255)


def _on_white(rgba: np.ndarray) -> np.ndarray:
    """Colours where they are opaque, white where they are not; the transparency alone where it is the picture."""
    on_white, alpha = np.empty((*rgba.shape[:2], 3), np.float32), rgba[..., 3:]
    for rows in _strips(rgba):
        part = rgba[rows].astype(np.float32) / 255
        on_white[rows] = part[..., :3] * part[..., 3:] + (1 - part[..., 3:])
    if np.ptp(on_white) < _SHAPE <= np.ptp(alpha) / 255:  # white ink on nothing: the shape is in the transparency
        return 1 - alpha[..., 0] / np.float32(255)
    return _without_needless_colours(on_white)


def _without_needless_colours(picture: np.ndarray) -> np.ndarray:
    """The one channel of a picture whose channels are the same."""
    same = all(float(np.abs(picture[rows] - picture[rows, :, :1]).max()) < 1 / 255 for rows in _strips(picture))
    return picture[..., 0].copy() if same else picture


def _strips(picture: np.ndarray) -> Iterator[slice]:
    """Rows that are worked on at once: what is in between takes many times the memory of a picture."""
    rows = max(1, _STRIP // 8 // picture.shape[1])
    return (slice(top, top + rows) for top in range(0, len(picture), rows))
