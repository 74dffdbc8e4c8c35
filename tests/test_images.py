"""Any picture a person has: modes, sizes, polarity, and files that are no pictures."""

from __future__ import annotations

import json
import os
import random
import resource
import struct
import subprocess
import sys
import time
import warnings
import zlib
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn
from hostile_pictures import all_pictures, ordinary_jpegs, saved
from PIL import Image

from fastnn import load
from fastnn.datasets import Dataset, draw
from fastnn.errors import ImageError
from fastnn.images import BOX, SIDE, decode, find_images, prepare_digit, prepare_plain, read, ready_digits
from fastnn.images.containers import orientation
from fastnn.images.recipes import _centre

CLEAR = MIDDLE = 17  # one with a pen thick enough for a picture of one bit, which lies where MNIST's digits do


@cache
def digits() -> np.ndarray:
    """Drawn when first asked for: kernels that were compiled while tests are collected would be by every worker."""
    return draw(200, seed=5)[0]


def picture(i: int = CLEAR, side: int = 200, dark: bool = True) -> Image.Image:
    """A digit, enlarged: dark ink on white paper, or light on black."""
    pixels = digits()[i].reshape(28, 28)
    return Image.fromarray(255 - pixels if dark else pixels).resize((side, side), Image.Resampling.BICUBIC)


def prepared(content: bytes) -> np.ndarray:
    return prepare_digit(decode(content)).pixels.astype(int)


@cache
def plain() -> np.ndarray:
    return prepared(saved(picture(), "PNG"))


def with_alpha(mode: str) -> Image.Image:
    """Ink on nothing, as a drawing page gives it: black, opaque where the ink is."""
    ink = 255 - np.asarray(picture())
    rgba = np.zeros((*ink.shape, 4), np.uint8)
    rgba[..., 3] = ink
    return Image.fromarray(rgba).convert(mode)


def sixteen_bit() -> Image.Image:
    return Image.fromarray(np.asarray(picture()).astype(np.uint16) * 257)


def transparent_palette() -> Image.Image:
    ink = np.asarray(picture()) < 128
    image = Image.fromarray(ink.astype(np.uint8), "P")
    image.putpalette([255, 0, 0, 0, 0, 0])
    image.info["transparency"] = 0
    return image


MODES = {
    "L png": lambda: saved(picture(), "PNG"),
    "1 png": lambda: saved(picture().convert("1"), "PNG"),
    "RGB png": lambda: saved(picture().convert("RGB"), "PNG"),
    "P png": lambda: saved(picture().convert("RGB").quantize(200), "PNG"),
    "P transparent png": lambda: saved(transparent_palette(), "PNG", transparency=0),
    "RGBA png": lambda: saved(with_alpha("RGBA"), "PNG"),
    "LA png": lambda: saved(with_alpha("LA"), "PNG"),
    "I;16 png": lambda: saved(sixteen_bit(), "PNG"),
    "L jpeg": lambda: saved(picture(), "JPEG", quality=90),
    "RGB jpeg": lambda: saved(picture().convert("RGB"), "JPEG", quality=90),
    "CMYK jpeg": lambda: saved(picture().convert("CMYK"), "JPEG", quality=90),
    "bmp": lambda: saved(picture(), "BMP"),
    "gif": lambda: saved(picture(), "GIF"),
    "animated gif": lambda: saved(picture(), "GIF", save_all=True, append_images=[picture(1)]),
    "webp": lambda: saved(picture().convert("RGB"), "WEBP", quality=90),
    "RGBA webp": lambda: saved(with_alpha("RGBA"), "WEBP", lossless=True),
}


@pytest.mark.parametrize("name", MODES)
def test_every_mode_gives_the_picture_of_the_plain_one(name: str) -> None:
    found = prepared(MODES[name]())
    assert np.abs(found - plain()).mean() < 8, name  # one-bit pictures have no grey edges
    assert np.corrcoef(found.ravel(), plain().ravel())[0, 1] > 0.97, name


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture(orientation: int, kind: str) -> None:
    turn = {
        1: (),
        2: (Image.Transpose.FLIP_LEFT_RIGHT,),
        3: (Image.Transpose.ROTATE_180,),
        4: (Image.Transpose.FLIP_TOP_BOTTOM,),
        5: (Image.Transpose.TRANSPOSE,),
        6: (Image.Transpose.ROTATE_90,),
        7: (Image.Transpose.TRANSVERSE,),
        8: (Image.Transpose.ROTATE_270,),
    }[orientation]
    image = picture()
    for step in turn:
        image = image.transpose(step)
    exif = Image.Exif()
    exif[0x0112] = orientation
    found = prepared(saved(image, kind, quality=95, exif=exif))
    assert np.abs(found - plain()).mean() < 4


@pytest.mark.parametrize("dark", [True, False])
@pytest.mark.parametrize("shape", [(28, 28), (200, 200), (33, 41), (700, 500), (64, 300)])
def test_polarity_size_and_place_do_not_matter(shape: tuple[int, int], dark: bool) -> None:
    """The digit lies anywhere in a picture of any shape, on paper that is not quite white."""
    side = min(shape) * 3 // 4
    paper, generator = 240 if dark else 15, np.random.default_rng(0)
    ink = np.asarray(picture(MIDDLE, side, dark=False)).astype(float) / 255
    canvas = np.full(shape, float(paper))
    top, left = (int(generator.integers(0, n - side + 1)) for n in shape)
    place = canvas[top : top + side, left : left + side]
    place += ink * ((20 if dark else 250) - paper)
    found = prepare_digit(canvas.astype(np.float32) / 255).pixels.astype(float)
    assert np.corrcoef(found.ravel(), digits()[MIDDLE].astype(float))[0, 1] > 0.85
    rows, columns = np.flatnonzero(found.max(axis=1) > 100), np.flatnonzero(found.max(axis=0) > 100)
    assert BOX - 3 <= max(np.ptp(rows), np.ptp(columns)) + 1 <= BOX + 1
    row, column = _centre(found)
    assert abs(row - 14) <= 1
    assert abs(column - 14) <= 1


def test_pictures_are_scaled_not_scrambled() -> None:
    """A tall line stays a tall line, whatever the picture's shape."""
    for shape in ((100, 40), (40, 100), (300, 301)):
        canvas = np.ones(shape, np.float32)
        canvas[10:-10, shape[1] // 2 - 1 : shape[1] // 2 + 2] = 0
        found = prepare_digit(canvas).pixels > 100
        assert found.any(axis=1).sum() >= 19
        assert found.any(axis=0).sum() <= 4


def test_only_what_is_as_mnist_is_comes_through_as_it_is() -> None:
    """Its centre of mass in the middle, 15 to 21 pixels long, on clean black or white."""
    good, small = plain().astype(np.float32).reshape(28, 28) / 255, np.zeros((28, 28), np.float32)
    small[7:21, 7:21] = good[::2, ::2]
    cases = {
        True: [good, 1 - good, np.roll(good, 1, 0), good * 0.5],
        False: [np.roll(good, 3, 0), np.roll(good, -3, 1), small, np.maximum(good, 0.1), good * 0],
    }
    for wanted, pictures in cases.items():
        ready, pixels = ready_digits(np.array(pictures))
        assert ready.tolist() == [wanted] * len(pictures)
        if wanted:
            assert (pixels[0] == plain().reshape(28, 28)).all()
            assert np.abs(pixels[1].astype(int) - pixels[0]).max() <= 1


def test_mnist_pictures_come_through(mnist: Dataset, tmp_path: Path) -> None:
    """5,000 test images as PNG files: at most 0.1 points below the arrays."""
    assert mnist.test
    x, y = mnist.test.x[::2], mnist.test.y[::2]
    pixels = np.empty_like(x)
    for i, row in enumerate(x):
        path = tmp_path / "digit.png"
        Image.fromarray(row.reshape(28, 28) if i % 2 else 255 - row.reshape(28, 28)).save(path, compress_level=1)
        pixels[i] = prepare_digit(read(path)).pixels.reshape(-1)
    model = load()
    right = [(model.predict(rows, engine="kernels") == y).mean() for rows in (x, pixels)]
    assert right[1] >= right[0] - 0.001
    assert (pixels == x).all(axis=1).mean() > 0.99


def test_enlarged_and_moved_mnist_is_still_read(mnist: Dataset) -> None:
    assert mnist.test
    generator = np.random.default_rng(0)
    pixels = []
    for row in mnist.test.x[:200]:
        side = int(generator.integers(60, 300))
        canvas = Image.new("L", (420, 400), 255)
        digit = Image.fromarray(255 - row.reshape(28, 28)).resize((side, side), Image.Resampling.BICUBIC)
        canvas.paste(digit, tuple(int(generator.integers(0, 400 - side)) for _ in range(2)))
        pixels.append(prepare_digit(decode(saved(canvas, "JPEG", quality=80))).pixels.reshape(-1))
    model = load()
    right = [(model.predict(x) == mnist.test.y[:200]).mean() for x in (mnist.test.x[:200], np.array(pixels))]
    assert right[1] >= right[0] - 0.01


@pytest.mark.parametrize("value", [0, 128, 255])
@pytest.mark.parametrize("prepare", [prepare_digit, prepare_plain])
def test_blank_pictures_get_an_answer_with_a_warning(prepare, value: int) -> None:  # type: ignore[no-untyped-def]
    found = prepare(np.full((50, 40), value / 255, np.float32))
    assert found.warning
    assert "blank" in found.warning
    assert (found.pixels == 0).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (2, 1), (3, 3), (1, 5000), (5000, 1), (28, 28), (29, 28)])
def test_strange_shapes(shape: tuple[int, int]) -> None:
    for seed in range(3):
        grey = np.random.default_rng(seed).random(shape).astype(np.float32)
        for prepare in (prepare_digit, prepare_plain):
            found = prepare(grey)
            assert found.pixels.shape == (SIDE, SIDE)
            assert found.pixels.dtype == np.uint8


def test_plain_pictures_keep_their_aspect_and_fashion_comes_through() -> None:
    grey = digits()[0].reshape(28, 28)
    assert (prepare_plain(grey.astype(np.float32) / 255).pixels == grey).all()
    wide = prepare_plain(np.pad(np.zeros((10, 50), np.float32), 5, constant_values=1)).pixels
    assert (wide.max(axis=1) > 0).sum() < 15
    assert (wide.max(axis=0) > 0).sum() > 20


def png(width: int, height: int, data: bytes = b"", chunks: bytes = b"") -> bytes:
    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunks + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


SHEET = Image.open(ROOT / "data" / "samples" / "3.png").convert("L")
GOOD_PNG, GOOD_JPEG = saved(SHEET, "PNG"), saved(SHEET, "JPEG", quality=90)
HOSTILE = {
    "empty": b"",
    "text": b"this is no picture",
    "half png": GOOD_PNG[: len(GOOD_PNG) // 2],
    "png header crc": GOOD_PNG[:20] + b"\xff" + GOOD_PNG[21:],
    "half jpeg": GOOD_JPEG[: len(GOOD_JPEG) // 2],
    "no pixels": png(0, 5),
    "missing data": png(50, 50, b"\0" * 10),
    "400 megapixels": png(20_000, 20_000),
    "81 megapixels": png(9_000, 9_000, b"\0" * 9_001),
    "2^31 wide": png(2**31 - 1, 1),
    "long and thin": png(16_000, 1, b"\0" * 16_001),
    "eps": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 100 100\n(/tmp/PWNED) (w) file\n",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "pdf": b"%PDF-1.4\n",
    "tiff": b"II*\0\x08\0\0\0\0\0\0\0",
    "pickle": b"\x80\x04\x95\x10\0\0\0\0\0\0\0\x8c\x02os.",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_pictures_are_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    canary = tmp_path / "gs"
    canary.write_text(f"#!/bin/sh\ntouch {tmp_path}/RAN\n")
    canary.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "digit.png"
    path.write_bytes(HOSTILE[name])
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ImageError, match=r"digit\.png: "):
        read(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32_768 * (
        1024 if sys.platform == "darwin" else 1
    )
    assert not (tmp_path / "RAN").exists()


def test_a_huge_text_chunk_is_refused() -> None:
    body = b"Comment\0\0" + zlib.compress(b"x" * 70_000_000)
    chunk = struct.pack(">I", len(body)) + b"zTXt" + body + struct.pack(">I", zlib.crc32(b"zTXt" + body))
    with pytest.raises(ImageError):
        decode(png(28, 28, (b"\0" * 29) * 28, chunk))


MEASURED = """
import json, os, re, sys
from pathlib import Path
from fastnn import images
from fastnn.errors import ImageError

def measure(path):
    said = ""
    try:
        found = images.read(path)
        images.prepare_digits(found)
        assert max(found.shape) <= 2_048, path
    except ImageError as error:
        said = str(error)
    status = Path("/proc/self/status").read_text()
    print(json.dumps([path.name, said, int(re.search(r"VmHWM:\\s+(\\d+)", status)[1]) // 1024]), flush=True)

for path in sorted(Path(sys.argv[1]).iterdir()):
    child = os.fork()  # each as if in a process of its own, without starting one
    if not child:
        try:
            measure(path)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak of memory is read from /proc")
def test_what_is_large_or_much_work_takes_little(tmp_path: Path) -> None:
    """At most 250 MB, with Python and NumPy; what is too much is refused by name."""
    wanted = {}
    for name, content, error in all_pictures():
        (tmp_path / name).write_bytes(content)
        wanted[name] = error
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", MEASURED, tmp_path],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert {name for name, *_ in found} == set(wanted), done.stderr
    for name, said, peak in found:
        assert (wanted[name] or "") in said, (name, said)
        assert bool(said) == (wanted[name] is not None), (name, said)
        assert peak < 250, (name, peak)


def test_ordinary_jpegs_are_read_whatever_else_is_in_them() -> None:
    files = dict(ordinary_jpegs())
    plain = decode(files["plain"])
    for name, content in files.items():
        found = decode(content)
        assert (found == plain).all() if name != "restarts" else np.abs(found - plain).max() < 0.02, name


def test_large_pictures_come_smaller_by_the_mean() -> None:
    """Whatever their mode; and those of 2,048 pixels as they are."""
    ramp = np.tile(np.linspace(0, 255, 4_100), (30, 1)).astype(np.uint8)
    ramp[7:19, 1_000:3_000] = 200
    wanted = np.pad(ramp, ((0, 0), (0, 1)), "edge")[:, :4_100].reshape(10, 3, -1)
    columns = [wanted[..., n : n + 3].mean(axis=(1, 2)) for n in range(0, 4_100, 3)]
    wanted = np.stack(columns, 1) / 255
    grey = Image.fromarray(ramp)
    clear = Image.merge("LA", (Image.new("L", grey.size), Image.eval(grey, lambda value: 255 - value)))
    deep = Image.fromarray(ramp.astype(np.uint16) * 257)
    for image in (grey, grey.convert("RGB"), grey.convert("P"), clear, clear.convert("RGBA"), deep):
        found = decode(saved(image, "PNG"))
        assert found.shape == (10, 1_367), image.mode
        assert np.abs(found - wanted).max() < 0.01, image.mode
    whole = grey.crop((0, 0, 2_048, 30))
    assert (decode(saved(whole, "PNG")) == np.asarray(whole, np.float32) / 255).all()


def test_large_pictures_are_turned_too() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = Image.new("L", (3_000, 2_400), 255)
    image.paste(0, (0, 0, 1_500, 1_200))  # the left upper part; upright it is the right one
    for kind in ("PNG", "JPEG", "WEBP"):
        found = decode(saved(image, kind, exif=exif))
        assert found.shape == (1_500, 1_200), kind
        assert found[:700, 650:].max() < 0.1, kind
        assert found[:, :550].min() > 0.9, kind


@pytest.mark.parametrize("order", ["<", ">"])
def test_orientation_is_found_wherever_pillow_finds_it(order: str) -> None:
    head = b"II*\0" if order == "<" else b"MM\0*"
    entries = [struct.pack(f"{order}HHII", tag, 4, 1, 9) for tag in (1, 2, 0x0113)]
    for turn in range(1, 9):
        ours = struct.pack(f"{order}HHIHH", 0x0112, 3, 1, turn, 0)
        tiff = head + struct.pack(f"{order}I", 12) + b"...." + struct.pack(f"{order}H", 4) + b"".join([*entries, ours])
        xmp = f'<x tiff:Orientation="{turn}"/>'.encode()
        text = f"\nexif\n{len(tiff):8}\n{tiff.hex()}\n"
        for info in ({"exif": b"Exif\0\0" + tiff}, {"exif": tiff}, {"xmp": xmp}, {"Raw profile type exif": text}):
            assert orientation(info) == turn, info
    for info in ({}, {"exif": "text"}, {"exif": head}, {"xmp": b"9"}, {"Raw profile type exif": "\n\n\nxyz"}):
        assert orientation(info) == 1, info


def test_reading_in_threads_leaves_the_filters_of_warnings(monkeypatch: pytest.MonkeyPatch) -> None:
    """The second thread begins while the first reads, and ends after it."""
    pillow, waits, before = Image.open, iter((0.1, 0.2)), list(warnings.filters)

    def slow(*args: object, **options: object) -> Image.Image:
        time.sleep(next(waits))
        return pillow(*args, **options)

    monkeypatch.setattr(Image, "open", slow)
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(decode, [GOOD_PNG, GOOD_JPEG]))
    assert list(warnings.filters) == before


def test_a_photo_of_50_megapixels_is_read() -> None:
    big = Image.new("L", (8_000, 6_200), 250)
    big.paste(picture(MIDDLE, 3_000), (2_000, 1_500))
    found = prepare_digit(decode(saved(big, "JPEG", quality=70))).pixels.astype(float)
    assert np.corrcoef(found.ravel(), digits()[MIDDLE].astype(float))[0, 1] > 0.85


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "BMP", "WEBP"])
def test_mutated_pictures_are_read_or_refused(kind: str) -> None:
    good = saved(picture(CLEAR, 40).convert("RGB"), kind)
    generator = random.Random(0)
    for _ in range(400):
        bad = bytearray(good)
        for _ in range(generator.randint(1, 5)):
            bad[generator.randrange(len(bad))] = generator.randrange(256)
        if generator.random() < 0.3:
            del bad[generator.randrange(len(bad)) :]
        try:
            found = prepare_digit(decode(bytes(bad))).pixels
        except ImageError:
            continue
        assert found.shape == (SIDE, SIDE)


def test_what_is_no_file(tmp_path: Path) -> None:
    for path, message in ((tmp_path / "none.png", "no such file"), (tmp_path, "not a file")):
        with pytest.raises(ImageError, match=message):
            read(path)
    (tmp_path / "big.png").touch()
    os.truncate(tmp_path / "big.png", 2**27)
    with pytest.raises(ImageError, match="Make it smaller"):
        read(tmp_path / "big.png")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe.png")
        with pytest.raises(ImageError, match="not a file"):
            read(tmp_path / "pipe.png")


def test_folders_of_pictures(tmp_path: Path) -> None:
    for name in ("b.PNG", "a.jpg", ".hidden.png", "notes.txt", "c.webp"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images([tmp_path])] == ["a.jpg", "b.PNG", "c.webp"]
    (tmp_path / "sub").mkdir()
    with pytest.raises(ImageError, match="no pictures in this folder"):
        find_images([tmp_path / "sub"])


def test_the_samples_are_read_right() -> None:
    found = load().predict_images(ROOT / "data" / "samples")
    assert [p.label for p in found] == list("0123456789")
    assert all(p.confidence > 0.9 and p.warning is None for p in found)


def test_one_bad_picture_does_not_lose_the_others(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"no")
    picture().save(tmp_path / "good.png")
    done = fastnn("predict", tmp_path, "--json")
    assert "bad.png: not a picture" in clean_error(done, 3)
    assert '"image": "' in done.stdout
    assert "good.png" in done.stdout


def test_a_ready_digit_is_traced_as_it_is() -> None:
    shown: dict[str, np.ndarray] = {}
    ready = prepare_digit(read(ROOT / "data" / "samples" / "3.png")).pixels
    again = prepare_digit((ready / 255).astype(np.float32), lambda step, image: shown.update({step: image}))
    assert (again.pixels == ready).all()
    np.testing.assert_array_equal(shown["as it is"], ready / 255)
