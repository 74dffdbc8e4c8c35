"""Photos and scans: degraded on purpose, read all the same; several digits in one picture; pictures about pictures."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn
from photos import _photographed, degraded, many, shrunk
from PIL import Image

from fastnn import load
from fastnn.datasets import Dataset, draw
from fastnn.images import decode, prepare_digit, prepare_digits
from fastnn.images.ink import blurred, find_ink, grown, paper_of, without_lines
from fastnn.images.recipes import PEN, SLANT, deskewed, pen_width, with_pen
from fastnn.images.segments import components
from fastnn.model.model import Model

SAMPLE = ROOT / "data" / "samples" / "3.png"


@pytest.fixture(scope="module")
def model() -> Model:
    return load()


def read_share(model: Model, digits: np.ndarray, labels: np.ndarray) -> tuple[float, float]:
    """Share of degraded digits that are read right: prepared as `predict` does, and merely shrunk."""
    prepared, small = [], []
    for n, pixels in enumerate(digits):
        photo = degraded(pixels.reshape(28, 28), n)
        prepared.append(prepare_digit(decode(photo.content)).pixels.reshape(-1))
        small.append(shrunk(photo).reshape(-1))
    right = [(model.predict(np.array(x), engine="numpy") == labels).mean() for x in (prepared, small)]
    return float(right[0]), float(right[1])


def test_photos_of_drawn_digits_are_read(model: Model) -> None:
    """As well as the digits themselves, which this net has never seen the like of."""
    x, y = draw(30, seed=11)
    clean = float((model.predict(x, engine="numpy") == y).mean())
    prepared, small = read_share(model, x, y)
    assert prepared >= clean - 0.05
    assert small < 0.6


@pytest.mark.long
def test_photos_of_mnist_are_read(model: Model, mnist: Dataset) -> None:
    assert mnist.test
    count = int(os.environ.get("FASTNN_PHOTOS", "500"))
    prepared, small = read_share(model, mnist.test.x[:count], mnist.test.y[:count])
    assert prepared >= 0.96
    assert small < 0.6


def test_paper_without_ink_is_blank() -> None:
    """Light, shadows, lines and grain are no digit."""
    found = 0
    for seed in range(20):
        random = np.random.default_rng([seed, 9])
        shape = tuple(random.integers(200, 900, 2))
        photo = _photographed(np.zeros(shape, np.float32), float(random.uniform(0.2, 0.9) * min(shape)), random)
        found += prepare_digit(decode(photo)).warning == "blank picture: the answer means nothing"
    assert found >= 19


@pytest.mark.parametrize("seed", range(8))
def test_components_are_scipys(seed: int) -> None:
    from scipy.ndimage import find_objects, label

    random = np.random.default_rng(seed)
    mask = random.random(tuple(random.integers(1, 70, 2))) < random.choice([0.05, 0.3, 0.5, 0.95])
    found, boxes = components(mask)
    wanted, count = label(mask, np.ones((3, 3)))
    assert len(boxes) == count
    places = {(down.start, down.stop, across.start, across.stop) for down, across in find_objects(wanted)}
    assert {tuple(box) for box in boxes.tolist()} == places
    for n, (down, across) in enumerate(find_objects(found + 1)):
        assert boxes[n].tolist() == [down.start, down.stop, across.start, across.stop]
    assert (found[~mask] == -1).all()
    assert len(np.unique(np.stack([found[mask], wanted[mask]]), axis=1).T) == count  # one name for each, both ways


def test_components_of_nothing_and_of_a_spiral() -> None:
    assert len(components(np.zeros((5, 7), bool))[1]) == 0
    spiral = np.zeros((61, 61), bool)
    at, step, way = np.array([0, 0]), np.array([0, 1]), 60
    for n in range(28):
        for _ in range(way):
            spiral[tuple(at)] = True
            at = at + step
        step = np.array([step[1], -step[0]])
        way -= 4 * (n % 2 and n > 1)
    assert len(components(spiral)[1]) == 1


@pytest.mark.parametrize("reach", [1, 2, 3, 5, 8])
def test_blurs_and_growth_are_scipys(reach: int) -> None:
    from scipy.ndimage import binary_dilation, gaussian_filter

    random = np.random.default_rng(reach)
    values = random.random((40, 61), np.float32)
    radius = reach / 3
    wanted = gaussian_filter(values, radius, mode="nearest", radius=reach)
    np.testing.assert_allclose(blurred(values, radius), wanted, atol=2e-6)
    mask = values > 0.995
    wanted = binary_dilation(mask, np.ones((2 * reach + 1, 2 * reach + 1)))
    assert (grown(mask, reach) == wanted).all()


@pytest.mark.parametrize("degrees", [-8, -1.5, 0, 3, 9])
@pytest.mark.parametrize("upright", [False, True])
def test_ruled_lines_go_and_strokes_stay(degrees: float, upright: bool) -> None:
    rows, columns = np.indices((240, 320))
    height = rows - np.tan(np.radians(degrees)) * (columns - 160)
    ink = np.where(np.abs((height % 40) - 20) < 1.5, 0.3, 0).astype(np.float32)
    stroke = (np.abs(columns - 150 - 0.3 * (rows - 120)) < 8) & (np.abs(rows - 120) < 80)
    ink[stroke] = 0.8
    found = without_lines(ink.T if upright else ink)
    found = found.T if upright else found
    assert (found[stroke] == np.float32(0.8)).all()
    assert (found[~stroke] > 0).mean() < 0.01
    assert (without_lines(np.where(stroke, np.float32(0.8), np.float32(0))) > 0).sum() == stroke.sum()


def test_light_and_the_edge_of_a_shadow_belong_to_the_paper() -> None:
    y, x = np.mgrid[-1:1:300j, -1:1:400j].astype(np.float32)
    light = (0.9 - 0.2 * x - 0.1 * y**2) * np.where(x + y > 0.3, 0.7, 1)
    stroke = (np.abs(x) < 0.06) & (np.abs(y) < 0.6)
    scene = np.where(stroke, 0.2 * light, light).astype(np.float32)
    assert np.quantile(np.abs(paper_of(scene) - light)[stroke], 0.9) < 0.05
    found = find_ink(scene)
    assert found
    assert (found.map[stroke] > 0.4).mean() > 0.99
    assert (found.map[~stroke] > 0.4).mean() < 0.02


@pytest.mark.parametrize("colour", [(1.0, 0.95, 0.1), (0.95, 0.5, 0.1), (0.1, 0.8, 0.9), (1.0, 0.6, 0.75)])
def test_ink_of_any_colour(colour: tuple[float, ...]) -> None:
    """Yellow on white is a sixteenth of the range in grey."""
    scene = np.full((200, 150, 3), 0.97, np.float32)
    stroke = np.zeros((200, 150), bool)
    stroke[50:150, 70:82] = True
    scene[stroke] = colour
    found = find_ink(scene)
    assert found
    assert ((found.map > 0.5) == stroke).mean() > 0.99


def test_what_leans_too_much_is_sheared_back_and_what_does_not_is_left() -> None:
    rows, columns = np.indices((80, 160))
    for slant in (-1.2, -0.4, 0.0, 0.5, 1.0):
        ink = (np.abs(columns - 80 - slant * (rows - 40)) < 4).astype(np.float32)
        found = deskewed(ink)
        r, c = (n.astype(float) for n in np.indices(found.shape))
        r, c = r - (r * found).sum() / found.sum(), c - (c * found).sum() / found.sum()
        assert (found * r * c).sum() / (found * r * r).sum() == pytest.approx(np.clip(slant, -SLANT, SLANT), abs=0.05)
        assert (found is ink) == (abs(slant) < SLANT)


@pytest.mark.parametrize("width", [4, 7, 12, 20, 30])
def test_pens_are_brought_to_mnists(width: int) -> None:
    rows, columns = np.indices((80, 80))
    ring = np.abs(np.hypot(rows - 40, columns - 40) - 24) < width / 2
    assert pen_width(ring.astype(np.float32)) == pytest.approx(width, rel=0.1, abs=0.4)
    found = pen_width(with_pen(ring.astype(np.float32))) / 4
    assert PEN[0] - 0.3 <= found <= PEN[1] + 0.3


@pytest.mark.parametrize(("source", "least"), [("strokes", 0.8), pytest.param("mnist", 0.95, marks=pytest.mark.long)])
def test_pages_of_digits_are_read_line_by_line(
    source: str, least: float, model: Model, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if source == "mnist":
        test = request.getfixturevalue("mnist").test
        x, y = test.x[:400], test.y[:400]
    else:
        x, y = draw(400, seed=12)
    clear = np.flatnonzero(model.predict_proba(x, engine="numpy")[np.arange(400), y] > 0.9)
    pages = digits = right = 0
    for seed in range(12):
        chosen = np.random.default_rng(seed).choice(clear, 1 + seed)
        (tmp_path / "page").write_bytes(many([x[n].reshape(28, 28) for n in chosen], seed).content)
        lines = model.predict_digits(tmp_path / "page")
        found = [[int(answer.label) for answer in line] for line in lines]
        wanted = [y[chosen[n : n + 5]].tolist() for n in range(0, len(chosen), 5)]
        pages += [len(line) for line in found] == [len(line) for line in wanted]
        digits += len(chosen)
        right += sum(a == b for f, w in zip(found, wanted, strict=False) for a, b in zip(f, w, strict=False))
    assert pages >= 10
    assert right >= least * digits


def test_boxes_are_where_the_ink_is() -> None:
    x, _ = draw(6, seed=3)
    page = many([one.reshape(28, 28) for one in x], 1)
    width, height = page.image.size
    found = [one.box for line in prepare_digits(decode(page.content)) for one in line]
    assert len(found) == 6
    for box, wanted in zip(found, page.boxes, strict=True):
        assert box
        pixels = np.array(box) * [width, height, width, height]
        assert np.abs(pixels - wanted).max() < 0.12 * height


def test_the_command_reads_pages_and_draws_what_it_did(tmp_path: Path) -> None:
    x, _ = draw(7, seed=3)
    (tmp_path / "page.jpg").write_bytes(many([one.reshape(28, 28) for one in x], 2).content)
    done = fastnn("predict", "page.jpg", "--many", "--annotate", "out.png", cwd=tmp_path)
    lines = done.stdout.splitlines()
    assert lines[0].startswith("page.jpg: 7 digits"), done.stderr
    assert [len(line.replace("?", "").strip()) for line in lines[1:]] == [5, 2]
    with Image.open(tmp_path / "out.png") as drawn:
        assert min(drawn.size) >= 640
        assert (np.asarray(drawn) == (0, 0x72, 0xB2)).all(axis=-1).sum() > 1_000
    event = json.loads(fastnn("predict", "page.jpg", "-m", "--json", cwd=tmp_path).stdout)
    assert [len(line) for line in event["lines"]] == [5, 2]
    assert set(event["lines"][0][0]) >= {"label", "confidence", "probabilities", "box"}
    assert all(0 <= n <= 1 for line in event["lines"] for one in line for n in one["box"])
    two = fastnn("predict", "page.jpg", "--many", "--top", 2, cwd=tmp_path).stdout
    assert two.count("%") == 21
    assert [
        len(one["probabilities"])
        for one in json.loads(fastnn("predict", "page.jpg", "--many", "--top", 2, "--json", cwd=tmp_path).stdout)[
            "lines"
        ][1]
    ] == [2, 2]
    Image.new("L", (200, 200), 255).save(tmp_path / "blank.png")
    assert fastnn("predict", "blank.png", "--many", cwd=tmp_path).stdout == "blank.png: no digit\n"


def test_the_command_explains(tmp_path: Path) -> None:
    (tmp_path / "one.png").write_bytes(degraded(draw(1, seed=4)[0].reshape(28, 28), 3).content)
    done = fastnn("predict", "one.png", "--explain", "steps.png", "--annotate", "box.png", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with Image.open(tmp_path / "steps.png") as strip:
        assert strip.width > 4 * strip.height
    with Image.open(tmp_path / "box.png") as box:
        assert box.format == "PNG"
    fastnn("predict", SAMPLE, "--explain", "ready.png", cwd=tmp_path)  # comes through as it is
    with Image.open(tmp_path / "ready.png") as ready:
        assert ready.width > 100


def test_what_does_not_go_together_is_said(tmp_path: Path) -> None:
    two = (SAMPLE, SAMPLE)
    assert "one digit" in clean_error(fastnn("predict", SAMPLE, "--many", "--explain", tmp_path / "a.png"), 2)
    assert "one picture at a time" in clean_error(fastnn("predict", *two, "--annotate", tmp_path / "a.png"), 2)
    assert "there is no folder" in clean_error(fastnn("predict", SAMPLE, "--annotate", tmp_path / "no" / "a.png"), 2)
    assert not list(tmp_path.iterdir())


def test_several_things_are_told_apart_for_digits_only(tmp_path: Path) -> None:
    model = load()
    other = {**model.metadata, "preprocessing": {"recipe": "plain"}}
    Model(model.network, model.parameters, other).save(tmp_path / "m.npz")
    line = clean_error(fastnn("predict", SAMPLE, "--many", "-w", tmp_path / "m.npz"), 3)
    assert "told apart for digits only" in line


@pytest.mark.parametrize("side", [36, 60, 120])
def test_a_small_digit_on_a_large_sheet_is_found(side: int, model: Model) -> None:
    found = []
    for digit in range(10):
        image = Image.new("L", (1000, 800), 255)
        with Image.open(ROOT / "data" / "samples" / f"{digit}.png") as sample:
            image.paste(sample.convert("L").resize((side, side), Image.Resampling.BICUBIC), (700, 500))
        prepared = prepare_digit(np.asarray(image, np.float32) / 255)
        found.append(int(model.predict(prepared.pixels.reshape(1, -1))[0]))
    assert sum(said == digit for digit, said in enumerate(found)) >= 9, found


def test_a_photo_goes_through_the_same_steps_whatever_its_size() -> None:
    x, _ = draw(1, seed=6)
    big = io.BytesIO()
    image = Image.fromarray(255 - x[0].reshape(28, 28)).resize((1500, 1500), Image.Resampling.BICUBIC)
    image.save(big, "PNG", compress_level=1)
    large = prepare_digit(decode(big.getvalue())).pixels.astype(float)
    small = prepare_digit(np.asarray(image.resize((300, 300)), np.float32) / 255).pixels.astype(float)
    assert np.corrcoef(large.ravel(), small.ravel())[0, 1] > 0.97
