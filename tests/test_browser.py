"""The drawing page in a real browser: drawn on, dropped on, trained on; from the server and from a file."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, fastnn
from pens import Stroke, strokes_of
from test_web import serving

import fastnn as package
from fastnn.datasets import Dataset
from fastnn.datasets.strokes import _FORMS
from fastnn.model.model import Model

sync_api = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed (pip install playwright)")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="there is no Chromium on this machine (apt-get install chromium)"
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield found
        found.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with serving(tmp_path_factory.mktemp("page")) as (port, _):
        yield f"http://127.0.0.1:{port}/"


@pytest.fixture
def opened(browser: Any) -> Iterator[Callable[..., Any]]:
    """Open a page; nothing may go wrong in it, and nothing may be fetched from elsewhere."""
    contexts, wrong = [], list[str]()

    def open_page(address: str, **options: Any) -> Any:
        context = browser.new_context(**{"viewport": {"width": 1100, "height": 820}, **options})
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: wrong.append(request.url) if not _own(request.url, address) else None)
        page.goto(address)
        until(page, "document.querySelectorAll('#bars li').length === 10")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert wrong == []


def until(page: Any, expression: str, seconds: float = 10) -> None:
    """Wait; Playwright's own way needs what the page's policy forbids."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, (expression, page.locator("#verdict").inner_text())
        page.wait_for_timeout(20)


def _own(url: str, address: str) -> bool:
    return url.startswith((address, "data:", "blob:"))


def form(digit: int) -> list[Stroke]:
    """The pen's way through one form of a digit, in 0 to 1."""
    return _FORMS[digit][-1 if digit in (1, 4, 7) else 0]


def pen(
    page: Any, strokes: list[Stroke], box: tuple[float, float, float, float] = (0.25, 0.2, 0.75, 0.85), steps: int = 5
) -> None:
    """Draw with the mouse, into a part of the pad (left, top, right, bottom)."""
    pad = page.locator("#pad").bounding_box()
    for stroke in strokes:
        places = [
            (
                pad["x"] + pad["width"] * (box[0] + x * (box[2] - box[0])),
                pad["y"] + pad["height"] * (box[1] + y * (box[3] - box[1])),
            )
            for x, y in stroke
        ]
        page.mouse.move(*places[0])
        page.mouse.down()
        for place in places[1:]:
            page.mouse.move(*place, steps=steps)
        page.mouse.up()


def read(page: Any) -> str:
    """The digit that the page says, when it has stopped thinking."""
    page.wait_for_timeout(120)
    until(page, "!asking")
    return re.sub(r"^unsure, perhaps ", "", page.locator("#verdict").inner_text())


PLACES = {
    "middle": (0.25, 0.2, 0.75, 0.85),
    "top left": (0.03, 0.03, 0.18, 0.22),
    "top right": (0.82, 0.03, 0.97, 0.22),
    "bottom left": (0.03, 0.78, 0.18, 0.97),
    "bottom right": (0.82, 0.78, 0.97, 0.97),
    "everything": (0.03, 0.03, 0.97, 0.97),
}


@pytest.mark.parametrize("place", PLACES)
def test_each_digit_is_read_wherever_it_is_drawn(place: str, opened: Callable[..., Any], address: str) -> None:
    page, found = opened(address), []
    for digit in range(10):
        page.keyboard.press("Escape")
        pen(page, form(digit), PLACES[place], steps=(1, 4, 12)[digit % 3])  # fast and slow
        found.append(read(page))
    assert sum(said == str(digit) for digit, said in enumerate(found)) >= 9, found


def test_bars_and_pixels_and_blank(opened: Callable[..., Any], address: str) -> None:
    page = opened(address)
    assert page.locator("#verdict").inner_text() == "no digit"
    pen(page, form(3))
    assert read(page) == "3"
    assert page.locator("#bars li.best .name").inner_text() == "3"
    shares = [float(text.split()[0]) for text in page.locator("#bars .share").all_inner_texts()]
    assert sum(shares) == pytest.approx(100, abs=0.6)
    seen = page.evaluate("Array.from(seen.getContext('2d').getImageData(0, 0, 28, 28).data)")
    ink = 255 - np.array(seen).reshape(28, 28, 4)[..., 0]
    assert package.load().predict(ink.reshape(1, -1).astype(np.uint8))[0] == 3
    page.locator("#undo").click()
    assert read(page) == "no digit"
    pen(page, form(8))
    page.keyboard.press("Control+z")
    assert read(page) == "no digit"


def test_a_dropped_a_pasted_and_a_chosen_picture(opened: Callable[..., Any], address: str) -> None:
    page = opened(address)
    page.locator("#file").set_input_files(ROOT / "data" / "samples" / "7.png")
    until(page, "verdict.textContent === '7'")
    hand_over = """async ([kind, name, bytes]) => {
        const data = new DataTransfer();
        data.items.add(new File([new Uint8Array(bytes)], name));
        const event = kind === "drop" ? new DragEvent("drop", { dataTransfer: data, bubbles: true })
                                      : new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
        document.body.dispatchEvent(event);
    }"""
    for kind, digit in (("drop", 4), ("paste", 5)):
        page.evaluate(hand_over, [kind, "x.png", list((ROOT / "data" / "samples" / f"{digit}.png").read_bytes())])
        until(page, f"verdict.textContent === '{digit}'")


def test_a_late_answer_to_something_older_is_not_shown(opened: Callable[..., Any], address: str) -> None:
    page = opened(address)
    page.evaluate(
        """self.real = fastnnPredict;
        self.release = [];
        self.fastnnPredict = async pixels => {
            const found = await real(pixels);
            await new Promise(go => release.push(go));
            return found;
        }; 0"""
    )
    pen(page, form(3))
    until(page, "release.length === 1")  # the answer to the drawing is there, and held back
    page.locator("#file").set_input_files(ROOT / "data" / "samples" / "7.png")
    until(page, "verdict.textContent === '7'")
    page.evaluate("release.forEach(go => go()); 0")
    page.wait_for_timeout(200)
    assert page.locator("#verdict").inner_text() == "7"
    page.evaluate(
        """self.release = [];
        self.fastnnPredict = async () => {
            await new Promise(go => release.push(go));
            throw new Error("late");
        }; 0"""
    )
    pen(page, form(3))
    until(page, "release.length === 1")  # one that will fail
    page.locator("#file").set_input_files(ROOT / "data" / "samples" / "4.png")
    until(page, "verdict.textContent === '4'")
    page.evaluate("release.forEach(go => go()); 0")
    page.wait_for_timeout(200)
    assert page.locator("#verdict").inner_text() == "4"
    page.evaluate(
        """self.release = [];
        const decode = createImageBitmap;
        self.createImageBitmap = async file => {
            const found = await decode(file);
            await new Promise(go => release.push(go));
            return found;
        };
        self.fastnnPredict = real; 0"""
    )
    page.locator("#file").set_input_files(ROOT / "data" / "samples" / "5.png")
    until(page, "release.length === 1")  # decoded, and held back
    page.keyboard.press("Escape")
    page.evaluate("release.forEach(go => go()); 0")
    page.wait_for_timeout(200)
    assert page.evaluate("picture === null")
    assert page.locator("#verdict").inner_text() == "no digit"


def test_another_model_reads_the_same_picture_again(opened: Callable[..., Any], tmp_path: Path) -> None:
    shipped = package.load()
    named = {**shipped.metadata, "classes": list("abcdefghij")}
    Model(shipped.network, shipped.parameters, named).save(tmp_path / "letters.npz")
    Model(shipped.network, shipped.parameters, shipped.metadata).save(tmp_path / "digits.npz")
    with serving(tmp_path, "-w", "digits.npz", "-w", "letters.npz") as (port, _):
        page = opened(f"http://127.0.0.1:{port}/")
        page.locator("#file").set_input_files(ROOT / "data" / "samples" / "7.png")
        until(page, "verdict.textContent === '7'")
        page.get_by_label("Model").select_option("letters")
        until(page, "verdict.textContent === 'h'")
        assert page.locator("#bars li.best .name").inner_text() == "h"
        page.keyboard.press("Escape")
        pen(page, form(0))
        assert read(page) == "a"


def test_what_is_no_picture_is_said(browser: Any, address: str) -> None:
    page = browser.new_page()
    page.goto(address)
    page.locator("#file").set_input_files({"name": "x.png", "mimeType": "image/png", "buffer": b"no picture"})
    until(page, "verdict.textContent.includes('not a picture')")
    page.close()


def test_train_and_watch_and_draw_on_it(opened: Callable[..., Any], address: str) -> None:
    page = opened(address)
    page.get_by_role("tab", name="Train and watch").click()
    page.get_by_label("Hidden layers").fill("64")
    page.get_by_label("Epochs").fill("4")
    page.get_by_label("Data").select_option("strokes")
    page.get_by_role("button", name="Train").click()
    until(page, "state.textContent.includes('now draw on it')", seconds=90)
    assert page.evaluate("watched.length") == 4
    drawn = page.evaluate("Array.from(loss.getContext('2d').getImageData(0, 0, loss.width, loss.height).data)")
    assert np.count_nonzero(drawn) > 1_000
    assert "784-64-10, trained here" in page.locator("#model").input_value()
    page.get_by_role("tab", name="Draw").click()
    pen(page, form(0))
    assert read(page) == "0"
    page.get_by_role("tab", name="Train and watch").click()
    page.get_by_label("Epochs").fill("500")
    page.get_by_role("button", name="Train").click()
    until(page, "watched.length > 2", seconds=60)
    page.get_by_role("button", name="Stop").click()
    until(page, "state.textContent.startsWith('stopped')", seconds=10)


def test_on_a_phone_by_touch(opened: Callable[..., Any], address: str) -> None:
    page = opened(address, viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    session = page.context.new_cdp_session(page)
    pad = page.locator("#pad").bounding_box()
    for stroke in form(1):
        for n, (x, y) in enumerate(stroke):
            at = {"x": pad["x"] + pad["width"] * (0.3 + 0.4 * x), "y": pad["y"] + pad["height"] * (0.2 + 0.6 * y)}
            kind = "touchMove" if n else "touchStart"
            session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": [at]})
        session.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert read(page) == "1"
    assert page.evaluate("scrollY") == 0  # a finger draws, it does not scroll


def test_names_for_screen_readers_and_the_keyboard(opened: Callable[..., Any], address: str) -> None:
    page = opened(address)
    tree = page.locator("body").aria_snapshot()
    for said in ('tab "Draw" [selected]', 'button "Undo"', 'button "Clear"', 'slider "Pen width"', 'img "Drawing area'):
        assert said in tree, tree
    assert "status" in tree
    page.get_by_role("tab", name="Draw").focus()
    page.keyboard.press("ArrowRight")
    assert page.get_by_role("tab", name="Train and watch").get_attribute("aria-selected") == "true"
    assert page.locator("#train").is_visible()
    unnamed = page.evaluate(
        """[...document.querySelectorAll("button, input, select, canvas")].filter(one =>
            !one.labels?.length && !one.getAttribute("aria-label") && !one.textContent.trim()).map(one => one.id)"""
    )
    assert unnamed == []


def test_names_of_classes_are_text(browser: Any, tmp_path: Path) -> None:
    shipped = package.load()
    shipped.metadata["classes"] = ["<img src=x onerror=alert(1)>", *map(str, range(1, 10))]
    Model(shipped.network, shipped.parameters, shipped.metadata).save(tmp_path / "m.npz")
    done = fastnn("draw", "-w", "m.npz", "--export", "e.html", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    with serving(tmp_path, "-w", "m.npz") as (port, _):
        for address in (f"http://127.0.0.1:{port}/", (tmp_path / "e.html").as_uri()):
            page = browser.new_page()
            page.on("dialog", lambda dialog: pytest.fail("a class name was run"))
            page.goto(address)
            pen(page, form(0))
            until(page, "verdict.textContent.includes('<img')")
            assert page.locator("#bars img").count() == 0
            page.close()


def test_the_exported_page_reads_as_python_does(opened: Callable[..., Any], tmp_path: Path) -> None:
    x, y = package.draw_strokes(3_000, seed=4)
    model = package.train((x, y), (40, 30), epochs=3, activation=("gelu", "tanh"), validation=0.2)
    model.save(tmp_path / "m.npz")
    x, _ = package.draw_strokes(100, seed=5)  # others: the threshold is the confidence of one of those
    assert fastnn("draw", "-w", "m.npz", "--export", "e.html", cwd=tmp_path).returncode == 0
    page = opened((tmp_path / "e.html").as_uri())
    found = page.evaluate("rows => rows.map(row => Array.from(probabilities(row)))", x.tolist())
    wanted = model.predict_proba(x, engine="numpy")
    np.testing.assert_allclose(found, wanted, atol=1e-5)
    assert (np.argmax(found, axis=1) == wanted.argmax(axis=1)).all()
    answers = page.evaluate("rows => Promise.all(rows.map(fastnnPredict))", x.tolist())
    sure = wanted.max(axis=1) >= model.unsure_below
    assert [answer["verdict"] for answer in answers] == ["sure" if one else "unsure" for one in sure]
    assert not page.get_by_role("tab").count()


def test_the_exported_page_is_drawn_and_dropped_on(opened: Callable[..., Any], tmp_path: Path) -> None:
    assert fastnn("draw", "--export", "e.html", cwd=tmp_path).returncode == 0
    page = opened((tmp_path / "e.html").as_uri())
    for digit in (2, 7):
        page.keyboard.press("Escape")
        pen(page, form(digit))
        assert read(page) == str(digit)
    for digit in range(10):
        page.locator("#file").set_input_files(ROOT / "data" / "samples" / f"{digit}.png")
        until(page, f"verdict.textContent === '{digit}'")


def drawn_from(dataset: Dataset, count: int, page: Any) -> float:
    """Share of the digits of a test set that are read right when a pen draws them at random places and sizes."""
    random = np.random.default_rng(0)
    assert dataset.test
    right = 0
    for pixels, label in zip(dataset.test.x[:count], dataset.test.y[:count], strict=True):
        size = random.uniform(0.15, 0.9)
        left, top = random.uniform(0.02, 0.98 - size, 2)
        page.keyboard.press("Escape")
        pen(page, strokes_of(pixels.reshape(28, 28)), (left, top, left + size, top + size), steps=1)
        right += read(page) == str(label)
    return right / count


@pytest.mark.long
def test_pens_that_follow_mnist_are_read(mnist: Dataset, opened: Callable[..., Any], address: str) -> None:
    assert drawn_from(mnist, int(os.environ.get("FASTNN_PENS", "100")), opened(address)) >= 0.95
