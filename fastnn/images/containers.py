"""What a file of a picture is made of, read before any of it is decoded: how much work it asks for, which end is up.

Pillow bounds the area of a picture; these bound what a small file can ask for besides: scans, segments and chunks that
each cost a pass or a step of Python, and notes that unfold. All of it takes one pass over the file.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from fastnn.errors import ImageError

MAX_SEGMENTS = 1_024  # of a JPEG: 64 MiB of full ones
MAX_SCANS = 100  # encoders make 6 to 20, and jpegtran as many as it is told to
MAX_VISITED = 1_000_000_000  # samples of all scans together: a progressive 12 megapixels has 150 million
MAX_COEFFICIENTS = 64_000_000  # 2 bytes each, kept until the last scan
MAX_CODED = 32 * 2**20  # bytes of a PNG's or a progressive JPEG's pixels: the worst of these take 12 to 20 MB a second
MAX_WEBP = 20 * 2**20  # bytes of a WebP, which its decoder holds twice, beside four pictures
MAX_CHUNKS = 32_768  # of a PNG: 64 MiB in pieces of 2 KiB; encoders make them of 8 KiB or more
MAX_TEXT = 8 * 2**20  # bytes of a PNG's notes, as they are in the file
MAX_NOTES = 16  # of the kind that Pillow keeps at 4 bytes a character: it lets each unfold to a million
MAX_BLOCKS = 65_536  # of a GIF before its picture: 16 MiB of comments
MAX_RLE_PIXELS, MAX_RLE_BYTES = 4_000_000, 2 * 2**20  # of a run-length BMP, which Pillow decodes in Python
_WINDOW = 2**20  # bytes that are searched at once
_SOI, _EOI, _SOS, _APP0, _APP1, _APP14 = 0xD8, 0xD9, 0xDA, 0xE0, 0xE1, 0xEE
_TABLES = (0xC4, 0xCC, 0xDB, 0xDD)  # Huffman's, arithmetic's, quantization's, the restart interval
_FRAMES = tuple(n for n in range(0xC0, 0xD0) if n not in (0xC4, 0xC8, 0xCC))
_PROGRESSIVE = (b"\xc2", b"\xc6", b"\xca", b"\xce")
_TURNED = re.compile(rb'tiff:Orientation(?:="|>)([1-8])')
_ORIENTATION = 0x0112


def header(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    """What Pillow needs to open a file, after a look at all of it, and a JPEG's notes on which end is up.

    Of a JPEG that is what describes its pixels, up to them; other segments cost time and memory, and are of no use. Of
    other files it is all.

    Raises
    ------
    ImageError
        What is too much, without the file's name.
    """
    if content.startswith(b"\xff\xd8\xff"):
        return _jpeg(content)
    if content.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(content)
    elif content.startswith(b"GIF8"):
        _check_gif(content)
    elif content.startswith(b"BM"):
        _check_bmp(content)
    elif content.startswith(b"RIFF") and len(content) > MAX_WEBP:
        raise ImageError(f"a WebP of {len(content):,} bytes; at most {MAX_WEBP:,}. Make it smaller first")
    return content, {}


def _segments(content: bytes, at: int = 2) -> Iterator[tuple[int, int, int]]:
    """Marker, begin and end of each segment of a JPEG with its marker, the end of the picture the last of them."""
    begin = _next_marker(content, at)
    while begin < len(content) and content[begin + 1] != _EOI:
        end = begin + 2
        if content[begin + 1] not in (1, _SOI):  # these have no length
            end += max(2, int.from_bytes(content[end : end + 2], "big"))
        yield content[begin + 1], begin, end
        begin = _next_marker(content, end)
    yield _EOI, begin, len(content)


def _next_marker(content: bytes, at: int) -> int:
    """Where the next FF is that has neither data (00), nor a restart (D0 to D7), nor filling (FF) after it; or the end.

    By NumPy, in 30 ms for the 64 MB at most; a regular expression takes 3 s for what is made for it.
    """
    reach = 64  # the first windows are small, since what follows a segment mostly is another
    while at + 1 < len(content):
        window = np.frombuffer(content, np.uint8, min(reach, len(content) - at), at)
        first, second = window[:-1], window[1:]
        is_marker = (first == 0xFF) & (second != 0) & (second != 0xFF) & (second & 0xF8 != 0xD0)
        if is_marker.any():
            return at + int(is_marker.argmax())
        at, reach = at + len(window) - 1, min(8 * reach, _WINDOW)
    return len(content)


def _jpeg(content: bytes) -> tuple[bytes, dict[str, bytes]]:
    kept, notes, frame = [content[:2]], {"exif": b"", "xmp": b""}, b""
    for count, (marker, begin, end) in enumerate(_segments(content), 1):
        body = content[begin + 4 : end]
        if count > MAX_SEGMENTS:
            raise ImageError(f"a JPEG of more than {MAX_SEGMENTS:,} segments. Save it again without metadata")
        if marker in _TABLES or marker in _FRAMES or marker in (_APP0, _APP14, _SOS):
            kept.append(content[begin:end])
        if marker in _FRAMES:
            frame = frame or content[begin + 1 : end]
        elif marker == _APP1 and body.startswith(b"Exif\0\0") and not notes["exif"]:
            notes["exif"] = body
        elif marker == _APP1 and body.startswith(b"http://ns.adobe.com/xap/1.0/\0"):
            notes["xmp"] = body
        elif marker == _SOS:
            _check_scans(content, begin, frame)
            break
    return b"".join(kept), notes


def _check_scans(content: bytes, begin: int, frame: bytes) -> None:
    """Refuse a JPEG, whose scans begin there, for their number, their size, or the samples that all of them visit."""
    planes, scans, visited = _planes(frame[3:]), 0, 0
    for count, (marker, at, end) in enumerate(_segments(content, begin), 1):
        if marker == _SOS:
            inside = content[at + 5 : min(end, at + 5 + 2 * content[at + 4]) : 2] if at + 4 < end else b""
            scans, visited = scans + 1, visited + sum(planes.get(name, 0) for name in inside)
            if scans == 1 and frame[:1] not in _PROGRESSIVE and len(inside) == len(planes):
                return  # all is in this scan; a decoder refuses more
        for amount, most, what in (
            (sum(planes.values()), MAX_COEFFICIENTS, "values"),
            (at - begin, MAX_CODED, "bytes of pixels"),
            (scans, MAX_SCANS, "scans"),
            (visited, MAX_VISITED, "values in all its scans"),
            (count, MAX_SEGMENTS, "segments"),
        ):
            if amount > most:
                raise ImageError(
                    f"a progressive JPEG of more than {most:,} {what}. Make it smaller, or save as baseline"
                )


def _planes(frame: bytes) -> dict[int, int]:
    """Samples of each component, by its name."""
    if len(frame) < 6:
        return {}
    height, width = struct.unpack(">HH", frame[1:5])
    shares = {frame[n]: (frame[n + 1] >> 4) * (frame[n + 1] & 15) for n in range(6, len(frame) - 2, 3)}
    return {name: height * width * share // max(1, *shares.values()) for name, share in shares.items()}


def _check_png(content: bytes) -> None:
    at, chunks, text, notes, pixels, done = 8, 0, 0, 0, 0, False
    while at + 8 <= len(content):
        size, kind = struct.unpack_from(">I4s", content, at)
        at += 12 + size
        size = min(size, len(content) - at + 4 + size)  # in a damaged file
        chunks += 1
        text += size if kind in (b"tEXt", b"zTXt", b"iTXt", b"iCCP") else 0
        notes += kind == b"iTXt"
        if kind in (b"IDAT", b"DDAT", b"fdAT") and not done:
            pixels += size
        else:
            done = pixels > 0  # later ones are other frames
        if chunks > MAX_CHUNKS:
            raise ImageError(f"a PNG of more than {MAX_CHUNKS:,} chunks. Save it again")
        if pixels > MAX_CODED:
            raise ImageError(f"a PNG of more than {MAX_CODED:,} bytes of pixels. Make it smaller first")
        if text > MAX_TEXT or notes > MAX_NOTES:
            most = f"{MAX_NOTES} international texts" if notes > MAX_NOTES else f"{MAX_TEXT:,} bytes of text"
            raise ImageError(f"a PNG of more than {most}. Save it again without metadata")


def _check_gif(content: bytes) -> None:
    at = 13 + (3 << (content[10] & 7) + 1 if len(content) > 10 and content[10] & 0x80 else 0)
    blocks = 0
    while content[at : at + 1] not in (b",", b";", b""):
        if content[at : at + 1] != b"!":  # odd bytes between blocks are skipped
            at, blocks = at + 1, blocks + 1
        else:
            at += 2
            while at < len(content) and blocks <= MAX_BLOCKS:
                size, blocks = content[at], blocks + 1
                at += 1 + size
                if not size:
                    break
        if blocks > MAX_BLOCKS:
            raise ImageError(f"a GIF of more than {MAX_BLOCKS:,} blocks before its picture. Save it again")


def _check_bmp(content: bytes) -> None:
    if len(content) < 34:
        return
    size, width, height = struct.unpack_from("<Iii", content, 14)
    run_length = size >= 40 and content[30:34] in (b"\1\0\0\0", b"\2\0\0\0")
    if run_length and (width * abs(height) > MAX_RLE_PIXELS or len(content) > MAX_RLE_BYTES):
        raise ImageError(
            f"a run-length BMP of {width} x {height} pixels in {len(content):,} bytes; at most "
            f"{MAX_RLE_PIXELS // 1_000_000} megapixels and {MAX_RLE_BYTES:,} bytes. Save it without compression"
        )


def orientation(info: Mapping[Any, Any]) -> int:
    """Which end is up, 1 to 8 as EXIF counts, from what Pillow or `header` keeps of a file; 1 where it is not said.

    Only this one entry is read: Pillow reads all of them, and each may claim the whole of a file as its value.
    """
    exif, xmp = (one if isinstance(one := info.get(name), bytes) else b"" for name in ("exif", "xmp"))
    if not exif and "Raw profile type exif" in info:
        text = "".join(str(info["Raw profile type exif"]).split("\n")[3:])
        exif = bytes.fromhex(text) if re.fullmatch(r"(?:[0-9a-fA-F]{2})*", text) else b""
    match = _TURNED.search(xmp)
    return _of_exif(exif.removeprefix(b"Exif\0\0")) or (int(match[1]) if match else 1)


def _of_exif(tiff: bytes) -> int:
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 0
    (at,) = struct.unpack_from(f"{order}I", tiff, 4)
    count = int.from_bytes(tiff[at : at + 2], "little" if order == "<" else "big")
    entries = tiff[at + 2 : at + 2 + 12 * count]
    for tag, kind, _, value in struct.iter_unpack(f"{order}HHIH2x", entries[: len(entries) // 12 * 12]):
        if (tag, kind) == (_ORIENTATION, 3):
            return int(value) if 1 <= value <= 8 else 0
    return 0
