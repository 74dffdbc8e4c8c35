"""A generator of pictures that are small as files and large, or much work, as pictures: a name, the bytes, the error.

The error is a part of the message that refuses it; of those without one, reading is cheap.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
from PIL import Image

LARGE = 4_000  # pixels a side: 16 megapixels, the most there may be
Hostile = tuple[str, bytes, str | None]


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def png(side: int, kind: int, depth: int, channels: int, notes: bytes = b"", interlaced: int = 0) -> bytes:
    """A square of zeros."""
    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, depth, kind, 0, 0, interlaced))
    row = b"\0" * (1 + (side * channels * depth + 7) // 8)
    pack = zlib.compressobj(1)
    rows = range(2 * side if interlaced else side)  # passes have more rows, each shorter
    data = b"".join(pack.compress(row) for _ in rows) + pack.flush()
    return b"\x89PNG\r\n\x1a\n" + head + notes + chunk(b"IDAT", data) + chunk(b"IEND", b"")


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def scans(content: bytes, more: int) -> bytes:
    """A progressive JPEG whose last scan is there so many times more."""
    last = content[content.rindex(b"\xff\xda") : -2]
    return content[:-2] + last * more + content[-2:]


def segments(content: bytes, inserted: bytes) -> bytes:
    return content[:2] + inserted + content[2:]


def unfolding_exif(entries: int, size: int) -> bytes:
    """EXIF in which each of many entries claims the same bytes as its own value."""
    table = b"".join(struct.pack("<HHII", 1_000 + n, 7, size, 8) for n in range(entries))
    return b"II*\0" + struct.pack("<IH", 8, entries) + table + b"\0" * size


def bmp(side: int, data: bytes) -> bytes:
    """Of 256 colours, run-length coded."""
    colours = b"".join(bytes((n, 255 - n, 7, 0)) for n in range(256))
    head = struct.pack("<IiiHHIIiiII", 40, side, side, 1, 8, 1, len(data), 0, 0, 256, 0)
    return b"BM" + struct.pack("<IHHI", 1_078 + len(data), 0, 0, 1_078) + head + colours + data


def pngs() -> Iterator[Hostile]:
    for name, kind, depth, channels in (
        ("16 bits", 0, 16, 1),
        ("transparency of 16 bits", 6, 16, 4),
    ):
        yield f"png {name}", png(LARGE, kind, depth, channels), None
    palette = chunk(b"PLTE", bytes(range(255)) * 3)
    yield "png palette", png(LARGE, 3, 8, 1, palette + chunk(b"tRNS", bytes(range(255)))), None
    yield "png interlaced", png(LARGE, 6, 8, 4, interlaced=1), None
    yield "png exif", png(28, 0, 8, 1, chunk(b"eXIf", unfolding_exif(4_000, 400_000))), None
    yield "png chunks", png(28, 0, 8, 1, chunk(b"teSt", b"") * 100_000), "more than 32,768 chunks"
    unfolding = zlib.compress("\U0001f600".encode() + b"x" * 1_000_000)
    notes = b"".join(chunk(b"iTXt", b"%d\0\1\0\0\0" % n + unfolding) for n in range(64))
    yield "png international texts", png(28, 0, 8, 1, notes), "more than 16 international texts"
    yield "png text", png(28, 0, 8, 1, chunk(b"tEXt", b"k\0" + b"x" * 9_000_000)), "bytes of text"
    for kind in (b"zTXt", b"iCCP"):
        bomb = chunk(kind, b"k\0\0" + zlib.compress(b"x" * 2_000_000))
        yield f"png {kind.decode()} bomb", png(28, 0, 8, 1, bomb), "expected a whole PNG"
    yield "png pixels", png(28, 0, 8, 1, chunk(b"IDAT", b"\0" * (32 * 2**20 + 1))), "bytes of pixels"


def jpegs() -> Iterator[Hostile]:
    white = Image.new("CMYK", (LARGE, LARGE))
    progressive = saved(white, "JPEG", progressive=True)
    yield "jpeg progressive", progressive, None
    yield "jpeg 3,000 scans", scans(progressive, 3_000), "values in all its scans"
    small = saved(white.resize((60, 60)), "JPEG", progressive=True)
    yield "jpeg 200 scans", scans(small, 200), "more than 100 scans"
    comments = b"\xff\xfe\0\2" * 100_000
    yield "jpeg segments", segments(small, comments), "more than 1,024 segments"
    yield "jpeg segments between scans", small[:-2] + comments + small[-2:], "more than 1,024 segments"
    begin = progressive.index(b"\xff\xc2") + 5
    larger = progressive[:begin] + struct.pack(">HH", 9_000, 9_000) + progressive[begin + 4 :]
    yield "jpeg progressive of 81 megapixels", larger, "more than 64,000,000 values"
    pixels = progressive[:-2] + b"\0" * 33_554_433 + progressive[-2:]
    yield "jpeg pixels", pixels, "bytes of pixels"
    exif = b"Exif\0\0" + unfolding_exif(4_000, 10_000)
    yield "jpeg exif", segments(small, b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif), None


def others() -> Iterator[Hostile]:
    white = Image.new("RGB", (LARGE, LARGE), "white")
    yield "webp", saved(white, "WEBP", method=0), None
    clear = Image.new("RGBA", (LARGE, LARGE), (255, 255, 255, 0))
    yield "webp transparency", saved(clear, "WEBP", lossless=True, method=0, quality=0), None
    yield "webp bytes", b"RIFF" + struct.pack("<I", 21 * 2**20) + b"WEBPVP8 " + bytes(21 * 2**20), "a WebP of"
    yield "bmp transparency", saved(clear, "BMP"), None
    yield "bmp runs", bmp(LARGE, (b"\1\2\0\0") * LARGE), "a run-length BMP of 4000 x 4000"
    yield "bmp runs of nothing", bmp(100, b"\0\2\0\0" * 600_000), "a run-length BMP of 100 x 100"
    gif = saved(Image.new("L", (10, 10)), "GIF")
    at = 13 + (3 << (gif[10] & 7) + 1)
    for name, notes in (("blocks", b"!\xfe" + b"\1x" * 100_000 + b"\0"), ("comments", b"!\xfe\1x\0" * 100_000)):
        yield f"gif {name}", gif[:at] + notes + gif[at:], "more than 65,536 blocks"


def all_pictures() -> Iterator[Hostile]:
    yield from pngs()
    yield from jpegs()
    yield from others()


def ordinary_jpegs() -> Iterator[tuple[str, bytes]]:
    """What cameras and programs write, of the same pixels: (40, 56), darker to the right."""
    ramp = Image.fromarray(np.tile(np.arange(0, 224, 4, dtype=np.uint8), (40, 1)))
    plain = saved(ramp, "JPEG", quality=90)
    yield "plain", plain
    yield "restarts", saved(ramp, "JPEG", quality=90, restart_marker_blocks=1)
    yield "progressive", saved(ramp, "JPEG", quality=90, progressive=True)
    thumbnail = b"Exif\0\0II*\0\x08\0\0\0\0\0" + saved(ramp.resize((20, 20)), "JPEG", progressive=True)
    yield "thumbnail", segments(plain, b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail)
    yield "profile", segments(plain, b"".join(b"\xff\xe2\xff\xffICC_PROFILE\0" + bytes(65_521) for _ in range(60)))
    yield "comments", segments(plain, b"\xff\xfe\0\6\xff\xda\xff\xd9" * 900)
    yield "odd EXIF", segments(plain, b"\xff\xe1\0\x12Exif\0\0MM\0*\xff\xff\xff\xff")
    yield "preview behind it", plain + b"\0" * 9 + saved(ramp, "JPEG", progressive=True) * 90
    several = saved(ramp, "MPO", save_all=True, append_images=[ramp], quality=90)
    yield "several pictures", several
