"""Pictures at the edge: the largest that is read and the first that is not, modes of numbers, ink that just counts."""

from __future__ import annotations

import io
import struct
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hostile_pictures import chunk, saved
from PIL import Image, ImageColor, ImageDraw, ImageFont

from fastnn.errors import ImageError
from fastnn.images import containers, decode, decoding, drawing, prepare_plain, ready_digits
from fastnn.images.containers import header
from fastnn.images.ink import Ink, without_lines
from fastnn.images.recipes import _fitted, deskewed
from fastnn.images.segments import Piece, all_digits, one_digit, pieces_of


def frame(kind: int, *shares: int) -> bytes:
    """Of a JPEG of 10 x 10 samples; of each component its share, down and across."""
    parts = b"".join(bytes((name, share, 0)) for name, share in enumerate(shares))
    return b"\xff" + struct.pack(">BHBHHB", kind, 8 + len(parts), 8, 10, 10, len(shares)) + parts


def scan(*names: int) -> bytes:
    """12 bytes for one component, 2 more for each other: a header, and two bytes of pixels."""
    return b"\xff\xda" + struct.pack(">HB", 6 + 2 * len(names), len(names)) + b"".join(
        bytes((name, 0)) for name in names
    ) + b"\0\x3f\0" + b"ab"  # fmt: skip


def gif(blocks: bytes, colours: int = 0) -> bytes:
    """A file up to its picture, with so many bits of colours."""
    flags = 0x80 | (colours - 1) if colours else 0
    return b"GIF89a" + bytes(4) + bytes((flags, 0, 0)) + bytes(3 * 2**colours if colours else 0) + blocks + b","


def bmp(kind: int, width: int, height: int, size: int = 40) -> bytes:
    return b"BM" + bytes(12) + struct.pack("<Iii", size, width, height) + bytes(4) + struct.pack("<I", kind) + bytes(66)


PNG = b"\x89PNG\r\n\x1a\n"
LIMITS = {  # what a file holds: the limit that lets it pass, while one less does not
    "a JPEG's segments": ("MAX_SEGMENTS", 4, b"\xff\xd8" + b"\xff\xfe\0\2" * 3),
    "segments between scans": ("MAX_SEGMENTS", 5, b"\xff\xd8" + frame(0xC2, 17) + scan(0) + b"\xff\xfe\0\2" * 3),
    "scans": ("MAX_SCANS", 3, b"\xff\xd8" + frame(0xC2, 17) + scan(0) * 3),
    "scans of a part each": ("MAX_SCANS", 2, b"\xff\xd8" + frame(0xC0, 17, 17) + scan(0) + scan(1)),
    "coefficients": ("MAX_COEFFICIENTS", 150, b"\xff\xd8" + frame(0xC2, 0x22, 0x11, 0x11) + scan(0, 1, 2)),
    "samples of all scans": ("MAX_VISITED", 350, b"\xff\xd8" + frame(0xC2, 0x22, 0x21) + scan(0, 1) + scan(0) * 2),
    "bytes of a JPEG's pixels": ("MAX_CODED", 36, b"\xff\xd8" + frame(0xC6, 17) + scan(0) * 3),
    "chunks": ("MAX_CHUNKS", 3, PNG + chunk(b"teSt", b"x") * 3),
    "bytes of a PNG's pixels": ("MAX_CODED", 9, PNG + chunk(b"IDAT", b"1234") + chunk(b"IDAT", b"12345")),
    "pixels of the first frame": (
        "MAX_CODED", 5, PNG + chunk(b"fdAT", b"12345") + chunk(b"fcTL", b"") + chunk(b"fdAT", b"123"),
    ),
    "bytes of text": ("MAX_TEXT", 10, PNG + b"".join(chunk(k, b"a" * n) for n, k in enumerate(
        (b"teSt", b"tEXt", b"zTXt", b"iTXt", b"iCCP")))),
    "international texts": ("MAX_NOTES", 2, PNG + chunk(b"iTXt", b"") * 2 + chunk(b"tEXt", b"")),
    "what is left of a cut PNG": ("MAX_CODED", 6, PNG + struct.pack(">I4s", 900, b"IDAT") + b"123456"),
    "a WebP": ("MAX_WEBP", 20, b"RIFF" + bytes(16)),
    "odd bytes of a GIF": ("MAX_BLOCKS", 3, gif(b"xyz")),
    "blocks of a GIF": ("MAX_BLOCKS", 4, gif(b"!\xfe\2ab\1c\0!\xfe\0", 3)),
    "samples of a run-length BMP": ("MAX_RLE_PIXELS", 600, bmp(1, 20, -30)),
    "the same of sixteen colours": ("MAX_RLE_PIXELS", 600, bmp(2, 20, 30, 124)),
    "bytes of a run-length BMP": ("MAX_RLE_BYTES", 100, bmp(1, 2, 3)),
}  # fmt: skip


@pytest.mark.parametrize("name", LIMITS)
def test_what_is_at_a_limit_passes_and_one_more_does_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    limit, least, content = LIMITS[name]
    monkeypatch.setattr(containers, limit, least)
    header(content)
    monkeypatch.setattr(containers, limit, least - 1)
    with pytest.raises(ImageError):
        header(content)


@pytest.mark.parametrize(
    ("limits", "content"),
    [
        (("MAX_SCANS", "MAX_SEGMENTS"), b"\xff\xd8" + frame(0xC0, 17, 17) + scan(0, 1) * 9),
        (("MAX_CODED",), PNG + chunk(b"IDAT", b"") + chunk(b"tEXt", b"12")),
        (("MAX_TEXT",), PNG + chunk(b"IDAT", b"12345")),
        (("MAX_RLE_PIXELS", "MAX_RLE_BYTES"), bmp(0, 20, 30)),
        (("MAX_RLE_PIXELS", "MAX_RLE_BYTES"), bmp(1, 20, 30, 12)),
        (("MAX_RLE_PIXELS", "MAX_RLE_BYTES"), bmp(1, 20, 30)[:33]),
        (("MAX_BLOCKS",), gif(b"")),
        (("MAX_BLOCKS",), gif(b"", 8)),
        (("MAX_WEBP",), b"GIF8" + bytes(9)),
    ],
)
def test_what_a_limit_is_not_about_passes(
    limits: tuple[str, ...], content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is in the first scan, the pixels are those of another frame, nothing is run-length coded."""
    for limit in limits:
        monkeypatch.setattr(containers, limit, 2 if limit == "MAX_SEGMENTS" else 0)
    header(content)


@pytest.mark.parametrize(
    ("kind", "size", "fits"),
    [
        ("PNG", (4_000, 4_000), True),
        ("PNG", (4_001, 4_000), False),
        ("JPEG", (10_000, 10_000), True),
        ("JPEG", (10_000, 10_001), False),
        ("PNG", (16_384, 900), True),
        ("PNG", (900, 16_385), False),
        ("GIF", (5_000, 1), True),
        ("GIF", (1, 5_001), False),
        ("BMP", (1, 1), True),
        ("BMP", (0, 1), False),
        ("BMP", (1, 0), False),
    ],
)
def test_sizes_at_their_limits(kind: str, size: tuple[int, int], fits: bool) -> None:
    image: Any = SimpleNamespace(format=kind, size=size)
    if fits:
        decoding._check_size(image)
    else:
        with pytest.raises(ImageError):
            decoding._check_size(image)


@pytest.mark.parametrize(
    ("size", "scale"),
    [
        ((2_048, 2_047), 1),
        ((2_048, 2_048), 2),
        ((100, 2_049), 2),
        ((4_095, 3_071), 2),
        ((4_096, 4_096), 4),
        ((6_145, 10), 4),
        ((8_191, 9_000), 4),
        ((8_192, 9_000), 8),
        ((14_337, 90), 8),
    ],
)
def test_a_jpeg_is_decoded_at_the_first_scale_that_is_small_enough(size: tuple[int, int], scale: int) -> None:
    asked: list[tuple[str, tuple[int, int]]] = []
    for mode, wanted in (("L", "L"), ("RGB", "RGB"), ("CMYK", "RGB")):
        image: Any = SimpleNamespace(size=size, mode=mode, draft=lambda *given: asked.append(given))
        decoding._draft(image)
        assert asked.pop() == (wanted, (size[0] // scale, size[1] // scale))


def test_a_picture_that_is_small_enough_is_not_copied() -> None:
    image = Image.new("L", (2_048, 3))
    assert decoding._reduced(image) is image
    assert decoding._reduced(image.resize((2_049, 3))).size == (1_025, 2)


@pytest.mark.parametrize(("top", "full"), [(0.5, 1), (1, 1), (1.5, 255), (255, 255), (256, 65_535), (65_535, 65_535),
                                           (65_536, 65_536), (1e6, 1e6)])  # fmt: skip
def test_numbers_of_any_range_are_brought_to_one(top: float, full: float) -> None:
    values = np.array([[top, 0, -1, top / 2]], np.float32)
    np.testing.assert_allclose(
        decoding._values(Image.fromarray(values)), [[top / full, 0, 0, top / 2 / full]], rtol=1e-6
    )


def test_sixteen_bits_go_from_black_to_white() -> None:
    values = np.array([[0, 1, 32_768, 65_535]], np.uint16)
    np.testing.assert_allclose(decode(saved(Image.fromarray(values), "PNG")), values / 65_535, rtol=1e-6)


@pytest.mark.parametrize(
    ("ink", "alpha", "is_the_shape"),
    [(255, 0, True), (243, 0, True), (238, 0, False), (255, 243, False), (255, 238, True), (0, 0, False)],
)
def test_the_shape_is_in_the_transparency_where_colours_have_none(ink: int, alpha: int, is_the_shape: bool) -> None:
    """Ink of this grey on paper of this opacity: with less than 0.06 of the range there is nothing to see."""
    pixels = np.full((4, 5, 2), (255, alpha), np.uint8)
    pixels[1:3, 2] = ink, 255
    wanted = np.where(pixels[..., 1] == 255, 0, 1 - alpha / 255) if is_the_shape else np.full((4, 5), 1.0)
    if not is_the_shape:
        wanted[1:3, 2] = ink / 255
    found = decode(saved(Image.fromarray(pixels, "LA"), "PNG"))
    np.testing.assert_allclose(found, wanted, atol=1e-6)


def test_channels_that_are_the_same_become_one() -> None:
    grey = np.repeat(np.arange(12, dtype=np.uint8).reshape(3, 4, 1), 3, axis=2)
    assert decode(saved(Image.fromarray(grey), "PNG")).shape == (3, 4)
    for channel in (1, 2):
        colours = grey.copy()
        colours[2, 3, channel] += 2
        assert decode(saved(Image.fromarray(colours), "PNG")).shape == (3, 4, 3)


def bars(*places: tuple[slice, slice]) -> np.ndarray:
    """Full ink there, in pictures of their own    (N, 28, 28)"""
    out = np.zeros((len(places), 28, 28), np.float32)
    for picture, place in zip(out, places, strict=True):
        picture[place] = 1
    return out


def test_ready_is_what_is_15_to_21_long_and_at_most_one_and_a_half_from_the_middle() -> None:
    within = slice(12, 16)
    wanted = {True: [(7, 22), (4, 25), (8, 24), (5, 21)], False: [(7, 21), (3, 25), (9, 25), (4, 20)]}
    for is_ready, ends in wanted.items():
        for first, last in ends:
            upright, level = np.s_[first:last, within], np.s_[within, first:last]
            for grey in (bars(upright, level), 1 - bars(upright, level)):
                assert ready_digits(grey)[0].tolist() == [is_ready] * 2, (first, last)
    faint = bars(*[np.s_[6:22, 12:16]] * 2) * np.array([15, 16], np.float32)[:, None, None] / 255
    assert ready_digits(faint)[0].tolist() == [False, True]
    tail = bars(*[np.s_[7:21, 12:16]] * 2)
    tail[:, 21, 12:16] = np.array([0.25, 0.2499])[:, None]  # of full ink: what counts as drawn
    assert ready_digits(tail)[0].tolist() == [True, False]


def test_ready_is_what_has_clean_paper_in_more_than_half_of_its_first_row() -> None:
    grey = bars(*[np.s_[6:22, 12:16]] * 4)
    for row, clean in enumerate((28, 15, 14)):
        grey[row, 0, clean:] = 0.001
    grey[3, 27] = 0.001
    assert ready_digits(grey)[0].tolist() == [True, True, False, True]


def test_what_is_cut_out_begins_where_a_quarter_of_the_ink_is() -> None:
    ink = np.zeros((9, 9), np.float32)
    ink[2:7, 3:6] = 0.25
    ink[4, 4] = 1
    assert _fitted(ink, 20).shape == (20, 12)
    assert _fitted(ink * np.float32(0.99), 20).shape == (20, 20)
    assert _fitted(ink * np.float32(0.2), 20) is not None
    assert (_fitted(ink * np.float32(0.2), 20) == ink * np.float32(0.2)).all()
    line = np.zeros((100, 3), np.float32)
    line[:, 1] = 1
    assert _fitted(line, 20).shape == (20, 1)
    assert _fitted(line.T, 20).shape == (1, 20)


def test_lines_are_looked_for_in_pictures_of_60_pixels_a_side() -> None:
    for height, goes in ((60, True), (59, False)):
        for value, is_line in ((0.25, True), (0.02, False)):
            ink = np.zeros((height, 200), np.float32)
            ink[30] = value
            assert without_lines(ink).any() != (goes and is_line)
            assert without_lines(ink.T).any() != (goes and is_line)


@pytest.mark.parametrize("upright", [False, True])
@pytest.mark.parametrize(("degrees", "goes"), [(-11.2, False), (-10, True), (-9.7, True), (10, True), (11.2, False)])
def test_lines_of_ten_degrees_go_and_those_of_eleven_stay(degrees: float, goes: bool, upright: bool) -> None:
    rows, columns = np.indices((240, 480))
    height = rows - np.tan(np.radians(degrees)) * (columns - 240)
    ink = np.where(np.abs((height % 60) - 30) < 1, 0.3, 0).astype(np.float32)
    found = without_lines(ink.T if upright else ink)
    left = (found > 0).sum() / (ink > 0).sum()
    assert left < 0.2 if goes else left == 1


@pytest.mark.parametrize(("first", "last", "goes"), [(0, 200, True), (0, 197, True), (0, 190, False), (1, 200, False)])
def test_a_line_begins_and_ends_at_the_edges(first: int, last: int, goes: bool) -> None:
    ink = np.zeros((100, 200), np.float32)
    ink[40, first:last] = 0.25
    assert without_lines(ink).any() != goes
    ink[40, first:last] = 0.25
    ink[38:43, 90:100] = 0.374  # half as strong again is a stroke: this is less
    assert without_lines(ink).any() != goes
    ink[38:43, 90:100] = 0.376
    assert without_lines(ink)[38:43, 90:100].all()


@pytest.mark.parametrize("shape", [(1, 50), (50, 1), (1, 1)])
def test_a_line_of_one_pixel_leans_nowhere(shape: tuple[int, int]) -> None:
    line = np.ones(shape, np.float32)
    assert deskewed(line) is line


def at(top: float, left: float, height: float, width: float, mass: float = 1.0, name: int = 0) -> Piece:
    return Piece(int(top), int(top + height), int(left), int(left + width), mass, (name,))


def test_dust_is_less_than_three_hundredths_of_the_heaviest_and_ink_two_fifths_of_full() -> None:
    ink = np.zeros((30, 60), np.float32)
    ink[2:12, 2:22] = 0.5  # 100 in all
    ink[15:18, 2:4] = 0.5  # 3
    ink[20:23, 2:4] = 0.49  # less
    ink[25, 2:22] = 0.4
    ink[27, 2:52] = 0.399
    _, pieces = pieces_of(Ink(ink, 1.0))
    assert sorted((piece.top, piece.height) for piece in pieces) == [(2, 10), (15, 3), (25, 1)]
    assert [piece.top for piece in pieces] == [2, 25, 15]  # heaviest first


@pytest.mark.parametrize("place", [np.s_[0:5, 4:9], np.s_[4:9, 0:5], np.s_[15:20, 4:9], np.s_[4:9, 15:20]])
def test_what_is_faint_and_at_an_edge_is_no_ink(place: tuple[slice, slice]) -> None:
    ink = np.zeros((20, 20), np.float32)
    ink[place] = 1
    assert len(pieces_of(Ink(ink, 0.25))[1]) == 1
    assert not pieces_of(Ink(ink, 0.2499))[1]
    ink[10:13, 10:13] = 1
    assert len(pieces_of(Ink(ink, 0.2499))[1]) == 2


def test_the_digit_is_the_heaviest_that_does_not_hang_on_an_edge() -> None:
    shape = (100, 100)
    inside, hanging = at(20, 40, 40, 20, 10.0, 1), at(0, 2, 20, 10, 100.0, 0)
    assert one_digit([hanging, inside], shape).names == (1,)
    light = at(20, 40, 40, 20, 9.9, 1)
    assert one_digit([hanging, light], shape).names == (0,)
    assert one_digit([hanging], shape).names == (0,)
    for edge in (at(0, 10, 5, 5), at(10, 0, 5, 5), at(95, 10, 5, 5), at(10, 95, 5, 5)):
        assert one_digit([edge, at(40, 40, 9, 9, 0.5, 1)], shape).names == (1,)
    for near in (at(1, 10, 5, 5), at(10, 1, 5, 5), at(94, 10, 5, 5), at(10, 94, 5, 5)):
        assert one_digit([near, at(40, 40, 9, 9, 0.5, 1)], shape).names == (0,)


def test_pieces_nearer_than_a_quarter_of_the_digit_belong_to_it() -> None:
    shape, digit = (200, 200), at(50, 50, 40, 20, 10.0, 0)
    near = [at(50, 80, 9, 9, 5.0, 1), at(31, 50, 9, 9, 5.0, 1), at(98, 76, 9, 9, 5.0, 1)]  # 10, 10, and 6 and 8 away
    far = [at(50, 81, 9, 9, 5.0, 1), at(30, 50, 9, 9, 5.0, 1), at(99, 76, 9, 9, 5.0, 1)]
    for other in near:
        assert one_digit([digit, other], shape).names == (0, 1)
    for other in far:
        assert one_digit([digit, other], shape).names == (0,)
    chain = [digit, at(50, 92, 9, 9, 3.0, 2), at(50, 80, 9, 9, 2.0, 1)]  # near what is near
    found = one_digit(chain, shape)
    assert (found.names, found.top, found.bottom, found.left, found.right) == ((0, 1, 2), 50, 90, 50, 101)
    assert found.mass == 15
    assert (found.height, found.width, found.size) == (40, 51, 51)
    assert one_digit([digit, at(45, 191, 9, 9, 3.0, 1)], shape).names == (0,)
    hanging = at(50, 72, 9, 128, 3.0, 1)
    assert one_digit([digit, hanging], shape).names == (0,)
    assert one_digit([hanging, at(62, 150, 9, 50, 2.0, 2)], shape).names == (1, 2)  # all hang


def test_lines_of_a_page_are_told_apart_by_the_middles_of_digits() -> None:
    shape = (1_000, 1_000)
    page = [at(100, 300, 100, 50, 9.0, 1), at(159, 100, 100, 50, 9.0, 2), at(251, 200, 100, 50, 9.0, 3)]
    assert [[p.names[0] for p in line] for line in all_digits(page, shape)] == [[2, 1], [3]]
    page[1] = at(160, 100, 100, 50, 9.0, 2)
    assert [[p.names[0] for p in line] for line in all_digits(page, shape)] == [[1], [2], [3]]


def test_small_pieces_of_a_page_are_digits_parts_or_dust() -> None:
    """In hundredths of the height of its digits, of which the first is one."""
    shape, digit = (1_000, 1_000), at(200, 200, 100, 50, 90.0, 0)

    def names(*others: Piece) -> list[tuple[int, ...]]:
        return sorted(p.names for line in all_digits([digit, *others], shape) for p in line)

    assert names(at(200, 400, 35, 20, 1.0, 1)) == [(0,), (1,)]
    assert names(at(200, 400, 34, 20, 1.0, 1)) == [(0,)]
    assert names(at(250, 255, 12, 5, 1.0, 1)) == [(0, 1)]
    assert names(at(250, 255, 11, 5, 1.0, 1)) == [(0,)]
    for gap, joined in ((29, True), (30, False)):
        assert ((0, 1) in names(at(300 + gap, 210, 64, 30, 1.0, 1))) is joined
    for gap, joined in ((14, True), (15, False)):
        assert ((0, 1) in names(at(230, 250 + gap, 64, 30, 1.0, 1))) is joined
    assert (0, 1) not in names(at(230, 255, 65, 30, 1.0, 1))
    for left, joined in ((236, False), (234, True)):  # half of a width of 30 must be above the other
        assert ((0, 1) in names(at(320, left, 64, 30, 1.0, 1))) is joined


def test_what_hangs_on_the_edge_of_a_page_is_a_digit_where_it_is_small() -> None:
    shape, digit = (200, 1_000), at(60, 200, 80, 50, 90.0, 0)
    assert [[p.names[0] for p in line] for line in all_digits([digit, at(0, 400, 99, 50, 9.0, 1)], shape)] == [[1], [0]]
    assert [[p.names[0] for p in line] for line in all_digits([digit, at(0, 400, 100, 50, 9.0, 1)], shape)] == [[0]]
    assert all_digits([at(0, 400, 100, 50, 90.0, 1)], shape) == []


def test_plain_pictures_are_turned_fitted_and_put_in_the_middle() -> None:
    scene = np.full((40, 20), 0.9, np.float32)
    scene[10:30, 5:15] = 0.4
    scene[20:30, 5:15] = 0.65
    found = prepare_plain(scene).pixels.astype(int)
    assert (found[:, :7] == 0).all()
    assert (found[:, 21:] == 0).all()
    assert abs(found[12, 13] - 255) <= 4
    assert abs(found[17, 13] - 128) <= 4
    np.testing.assert_allclose(prepare_plain(1 - scene).pixels, found, atol=1)
    ready = np.zeros((28, 28), np.float32)
    ready[3:, 3:] = 0.4
    assert (prepare_plain(ready).pixels == np.rint(255 * ready)).all()
    ready[0, :14] = 0.5
    assert (prepare_plain(ready).pixels == np.rint(255 * ready)).all()
    ready[0] = 0.51
    assert (prepare_plain(ready).pixels != np.rint(255 * ready)).any()
    low = np.zeros((30, 30), np.float32)
    low[10:20, 10:20] = 15 / 255
    assert prepare_plain(low).warning
    assert not prepare_plain(low * 2).warning
    assert prepare_plain(np.eye(3, 90, dtype=np.float32)).pixels.any()


def opened(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def is_of(colour: str, pixels: np.ndarray) -> np.ndarray:
    return (np.abs(pixels - np.array(ImageColor.getrgb(colour))) < 2).all(axis=-1)


def size_of(text: str, points: float) -> tuple[float, float]:
    """Width and height of a text in the font of marks."""
    place = ImageDraw.Draw(Image.new("L", (1, 1))).textbbox((0, 0), text, ImageFont.load_default(points))
    return place[2], place[3]


def test_marks_are_drawn_around_what_was_read() -> None:
    """A picture of 100 x 200 is enlarged 6.4 times; boxes lie 6 pixels outside, 3 wide, texts above or else below."""
    marks = [drawing.Mark((0.25, 0.5, 0.75, 0.75), "3 99%"), drawing.Mark((0.5, 0.01, 0.6, 0.2), "4", sure=False)]
    found = opened(drawing.annotated(np.full((100, 200), 0.5), marks))
    assert found.shape == (640, 1_280, 3)
    sure, unsure = is_of(drawing.SURE, found), is_of(drawing.UNSURE, found)
    left, top, right, bottom = 314, 314, 966, 486
    rows, columns = np.flatnonzero(sure[:, 900]), np.flatnonzero(sure[420])
    assert rows.tolist() == [*range(top, top + 3), *range(bottom - 2, bottom + 1)]
    assert columns.tolist() == [*range(left, left + 3), *range(right - 2, right + 1)]
    assert (found[top + 3 : bottom - 2, left + 3 : right - 2] == 128).all()
    above = np.flatnonzero(sure[:top, left])
    assert above.max() == top - 1
    wide, high = size_of("3 99%", 0.22 * 160)
    assert len(above) == high + 4
    assert np.ptp(np.flatnonzero(sure[above.min()])) == wide + 6
    assert not unsure[:, : 640 - 7].any()
    below = np.flatnonzero(unsure[:, 634])  # there is no room above
    assert below.max() == 134 + size_of("4", 0.22 * 121.6)[1] + 4
    colours = opened(drawing.annotated(np.full((700, 650, 3), (1.0, 0.0, 0.5)), []))
    assert colours.shape == (700, 650, 3)
    assert (colours == (255, 0, 128)).all()


def test_texts_of_marks_stay_in_the_picture() -> None:
    for box in ((0.0, 0.0, 1.0, 1.0), (0.95, 0.9, 1.0, 1.0), (0.0, 0.95, 0.02, 1.0)):
        found = opened(drawing.annotated(np.ones((640, 640)), [drawing.Mark(box, "seven")]))
        filled = is_of(drawing.SURE, found).sum(axis=1)
        assert filled.max() > 30  # the ground of the text
        white = (found == 255).all(axis=-1)
        assert white.any()


def test_steps_stand_side_by_side_below_each_other_their_names() -> None:
    stripes = np.tile(np.array([[0.0], [1.0]]), (180, 36))
    steps = [("one", np.zeros((90, 45))), ("two", stripes), ("a long name for it", np.zeros((9, 90)))]
    found = opened(drawing.strip(steps))
    assert found.shape[0] == 180 + 2 * 12 + 24
    dark = (found[102] == 0).all(axis=-1)
    grey = (found[102] == 128).all(axis=-1)
    first = np.flatnonzero(dark[:110])
    assert (first.min(), np.ptp(first) + 1) == (12, 90)  # twice as large
    assert np.flatnonzero((found[:, 50] == 0).all(axis=-1))[[0, 179]].tolist() == [12, 191]
    assert grey.sum() == 18
    last = np.flatnonzero(dark[110:]) + 110
    assert np.ptp(last) + 1 == 324  # as wide as may be: 1.8 times the height
    column = (found[:, last[0] + 9] == 0).all(axis=-1)
    assert column[:200].sum() == 32
    assert found.shape[1] - 1 - last.max() == 12
    assert (found[204:] < 128).any(axis=(0, 2)).sum() > 60  # the names
    name = round(ImageDraw.Draw(Image.new("L", (1, 1))).textlength("two", ImageFont.load_default(15)))
    assert found.shape[1] == 4 * 12 + 90 + name + 324
    assert np.asarray(drawing._image(np.array([[-0.5, 0.0, 0.2, 1.0, 1.5]]))).tolist() == [[0, 0, 51, 255, 255]]
