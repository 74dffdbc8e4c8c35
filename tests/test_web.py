"""The server: what it answers, what it refuses, and that bad clients do not hurt good ones."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import io
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from conftest import ROOT, clean_error, fastnn, make_dataset
from photos import many
from PIL import Image

import fastnn as package
from fastnn.cli.main import run
from fastnn.datasets import draw
from fastnn.errors import UsageError
from fastnn.images import decode, prepare_digit
from fastnn.model.model import Model, Prediction
from fastnn.training.run import Training
from fastnn.web import guards, resident, service, session
from fastnn.web.app import application
from fastnn.web.export import page
from fastnn.web.guards import MAX_BODY, RefusedError
from fastnn.web.metrics import Metrics
from fastnn.web.predict import content_of, described
from fastnn.web.resident import PredictedLines, Resident
from fastnn.web.service import Job, Service


def small_picture(size: tuple[int, int] = (28, 28), mode: str = "L", move: int = 0, name: str = "3.png") -> bytes:
    """A digit as the network takes it, or that enlarged, in colour or moved to the right."""
    with Image.open(ROOT / "data" / "samples" / name) as image:
        prepared = prepare_digit(np.asarray(image.convert("L"), np.float32) / 255).pixels
    out = io.BytesIO()
    Image.fromarray(np.roll(prepared, move, 1)).resize(size).convert(mode).save(out, "PNG")
    return out.getvalue()


SAMPLE = (ROOT / "data" / "samples" / "3.png").read_bytes()
LARGE = small_picture((90, 90))  # goes to the thread
SCHEMA = json.loads((ROOT / "fastnn" / "web" / "openapi.json").read_text())


@pytest.fixture(scope="module")
def model() -> Model:
    """Small and quick, of digits."""
    x, y = draw(6_000, seed=3)
    return package.train((x, y), 48, epochs=3, validation=0.1)


class Client:
    """Requests to an application without a socket."""

    def __init__(self, app: Any) -> None:
        self.app = app

    def __call__(self, method: str, path: str, **options: Any) -> httpx.Response:
        async def ask() -> httpx.Response:
            transport = httpx.ASGITransport(self.app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8000") as client:
                return await client.request(method, path, **options)

        return asyncio.run(ask())


@pytest.fixture(scope="module")
def ask(model: Model) -> Client:
    return Client(application({"digits": model, "shipped": package.load()}))


def pixels(**headers: str) -> dict[str, Any]:
    return {"headers": {"content-type": "application/json", **headers}}


# what it answers


def test_pictures_are_answered_as_predict_does(ask: Client, tmp_path: Path) -> None:
    (tmp_path / "3.png").write_bytes(SAMPLE)
    wanted = package.load().predict_image(tmp_path / "3.png")
    for kind in ("image/png", "application/octet-stream"):
        found = ask("POST", "/predict?model=shipped", content=SAMPLE, headers={"content-type": kind}).json()
        (one,) = found["predictions"]
        assert (one["label"], one["verdict"]) == (wanted.label, "sure")
        assert one["confidence"] == pytest.approx(wanted.confidence, abs=1e-5)
        assert one["probabilities"] == pytest.approx(wanted.probabilities, abs=1e-5)


def test_pixels_one_or_many(ask: Client, model: Model) -> None:
    x, _ = draw(5, seed=8)
    wanted = [model.classes[n] for n in model.predict(x)]
    for content in (x[0].tolist(), x[0].reshape(28, 28).tolist()):
        found = ask("POST", "/predict", json={"pixels": content}).json()
        assert [one["label"] for one in found["predictions"]] == wanted[:1]
    for content in (x.tolist(), x.reshape(-1, 28, 28).tolist()):
        found = ask("POST", "/predict?pixels=1", json={"pixels": content}).json()
        assert [one["label"] for one in found["predictions"]] == wanted
        seen = [np.frombuffer(base64.b64decode(one["pixels"]), np.uint8) for one in found["predictions"]]
        assert (np.array(seen) == x).all()
    blank = ask("POST", "/predict", json={"pixels": [0] * 784}).json()["predictions"][0]
    assert blank["verdict"] == "nothing"


def test_pages_are_read_line_by_line(ask: Client) -> None:
    x, _ = draw(7, seed=3)
    content = many([one.reshape(28, 28) for one in x], 2).content
    found = ask("POST", "/predict?many=1", content=content, headers={"content-type": "image/jpeg"}).json()
    assert found["lines"] == [5, 2]
    assert len(found["predictions"]) == 7
    assert all(len(one["box"]) == 4 for one in found["predictions"])


def test_several_things_are_told_apart_for_digits_only(model: Model) -> None:
    plain = {**model.metadata, "preprocessing": {"recipe": "plain"}}
    one = Client(application({"clothes": Model(model.network, model.parameters, plain)}))
    found = one("POST", "/predict?many=1", content=SAMPLE, headers={"content-type": "image/png"})
    assert found.status_code == 400
    assert "told apart for digits only" in found.json()["error"]
    found = one("POST", "/predict", content=SAMPLE, headers={"content-type": "image/png"})
    assert found.status_code == 200


def test_answers_are_as_described(ask: Client) -> None:
    assert ask("GET", "/openapi.json").json() == SCHEMA
    fields = SCHEMA["components"]["schemas"]["Prediction"]
    found = ask("POST", "/predict?pixels=1", content=SAMPLE, headers={"content-type": "image/png"}).json()
    assert set(found) == {"model", "lines", "predictions"}
    assert set(fields["required"]) <= set(found["predictions"][0]) <= set(fields["properties"])
    for path, methods in SCHEMA["paths"].items():
        for method in methods:
            assert ask(method.upper(), path).status_code != 404
    names = [one["name"] for one in ask("GET", "/models").json()["models"]]
    assert names == ["digits", "shipped"]
    assert ask("GET", "/healthz").json()["status"] == "ok"


def test_metrics_count_and_cannot_be_made_to_grow(model: Model) -> None:
    ask = Client(application({"digits": model}))
    ask("POST", "/predict", json={"pixels": [[0] * 784] * 3})
    for n in range(50):
        ask("GET", f"/nothing/{n}")
    ask("POST", "/predict", content=b"x", headers={"content-type": "image/png"})
    text = ask("GET", "/metrics").text
    assert 'fastnn_requests_total{path="/predict",status="200"} 1' in text
    assert 'fastnn_requests_total{path="/predict",status="400"} 1' in text
    assert 'fastnn_requests_total{path="other",status="404"} 50' in text
    assert "fastnn_pictures_total 3" in text
    assert len(text.splitlines()) < 40
    for line in text.splitlines():
        assert re.fullmatch(r"# (HELP|TYPE) \w+ .+|\w+(\{[^}]*\})? [0-9.e+-]+", line), line


def test_seconds_are_counted_up_to_their_bounds_and_all_of_them() -> None:
    counted = Metrics()
    for seconds in (0.0005, 0.001, 0.0011, 2.0, 2.1):
        counted.observe(seconds, 2)
    found = dict(line.rsplit(" ", 1) for line in counted.text(7).splitlines() if not line.startswith("#"))
    buckets = {name.split('"')[1]: int(count) for name, count in found.items() if "bucket" in name}
    assert [buckets[bound] for bound in ("0.001", "0.0025", "1", "2", "+Inf")] == [2, 3, 3, 4, 5]
    assert len(buckets) == 12
    assert (found["fastnn_predict_seconds_count"], found["fastnn_predict_seconds_sum"]) == ("5", "4.102600")
    assert (found["fastnn_pictures_total"], found["fastnn_waiting"]) == ("10", "7")


def test_what_is_said_of_a_picture() -> None:
    sure = Prediction("3", 0.75, {"3": 0.75}, "", None, "sure", (0.1234567, 0, 1, 0.5))
    odd = Prediction("4", 0.5, {"4": 0.5}, "", "tiny", "unsure")
    found = PredictedLines([[sure, odd], [odd]], np.arange(3 * 784, dtype=np.uint8).reshape(3, 784))
    said = described("m", found, with_pixels=True)
    assert (said["model"], said["lines"], len(said["predictions"])) == ("m", [2, 1], 3)
    assert said["predictions"][0]["box"] == [0.12346, 0, 1, 0.5]
    assert "warning" not in said["predictions"][0]
    assert said["predictions"][2] | {"pixels": ""} == {
        "label": "4", "confidence": 0.5, "verdict": "unsure", "probabilities": {"4": 0.5}, "warning": "tiny",
        "pixels": "",
    }  # fmt: skip
    assert base64.b64decode(said["predictions"][1]["pixels"]) == found.seen[1].tobytes()
    assert "pixels" not in described("m", found, with_pixels=False)["predictions"][0]


def test_pixels_of_every_shape_that_is_described() -> None:
    def taken(pixels: Any) -> np.ndarray:
        found = content_of("Application/JSON; charset=utf-8", json.dumps({"pixels": pixels}).encode())
        assert isinstance(found, np.ndarray)
        return found

    one = [0, 255, 0.5, 1.5, 254.6, *[7] * 779]
    assert taken(one)[0, :5].tolist() == [0, 255, 0, 2, 255]
    assert taken(one).dtype == np.uint8
    assert taken([one] * 256).shape == (256, 784)
    assert taken(np.reshape([one] * 2, (2, 28, 28)).tolist()).shape == (2, 784)
    deep = np.reshape([one] * 2, (1, 2, 28, 28)).tolist()
    for wrong in ([one] * 257, deep, one[:-1], [*one[:-1], -0.01], [*one[:-1], 255.01]):
        with pytest.raises(RefusedError) as raised:
            taken(wrong)
        assert raised.value.status == 400
    for kind in ("image/png", " IMAGE/Jpeg ;x", "application/octet-stream"):
        assert content_of(kind, b"body") == b"body"


# what it refuses


@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "image/png", 400),
        (b"garbage", "image/png", 400),
        (SAMPLE[:200], "image/png", 400),
        (b"x", "text/plain", 415),
        (b"x", "multipart/form-data", 415),
        (b"x", "", 415),
        (b"", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"{}", "application/json", 400),
        (b'{"pixels": []}', "application/json", 400),
        (b'{"pixels": "x"}', "application/json", 400),
        (b'{"pixels": [1, 2, 3]}', "application/json", 400),
        (b'{"pixels": [[1], [2, 3]]}', "application/json", 400),
        (json.dumps({"pixels": [256] * 784}).encode(), "application/json", 400),
        (json.dumps({"pixels": [-1] * 784}).encode(), "application/json", 400),
        (json.dumps({"pixels": [float("nan")] * 784}).encode(), "application/json", 400),
        (json.dumps({"pixels": [10**400] * 784}).encode(), "application/json", 400),
        (json.dumps({"pixels": [[0] * 784] * 257}).encode(), "application/json", 400),
        (json.dumps({"pixels": [None] * 784}).encode(), "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"pixels": ' + b"[" * 60_000 + b"]" * 60_000 + b"}", "application/json", 400),
        (b"\xff\xfe", "application/json", 400),
        (bytes(MAX_BODY + 1), "image/png", 413),
    ],
)
def test_bodies_that_are_not_as_described(content: bytes, kind: str, status: int, ask: Client) -> None:
    found = ask("POST", "/predict", content=content, headers={"content-type": kind})
    assert found.status_code == status, found.text
    assert set(found.json()) == {"error"}
    assert "Traceback" not in found.text
    assert "/work" not in found.text


def test_a_chunked_body_that_is_too_large(ask: Client) -> None:
    async def parts() -> Any:
        for _ in range(20):
            yield bytes(100_000)

    found = ask("POST", "/predict", content=parts(), headers={"content-type": "image/png"})
    assert found.status_code == 413


def guarded(parts: list[dict[str, Any]], *headers: tuple[bytes, bytes]) -> list[dict[str, Any]]:
    """What is sent by an application that tells how long a body was, for a request that comes in parts."""
    sent: list[dict[str, Any]] = []

    async def application(scope: Any, receive: Any, send: Any) -> None:
        body = await receive()
        await guards.respond(send, 200, {"length": len(body["body"]), "more": body["more_body"]})

    async def receive() -> dict[str, Any]:
        return parts.pop(0) if parts else await asyncio.sleep(60, {})

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "method": "POST",
        "path": "/x",
        "query_string": b"",
        "headers": [(b"host", b"localhost"), *headers],
    }
    asyncio.run(guards.Guards(application)(scope, receive, send))
    return sent


def test_a_body_of_exactly_the_limit_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "MAX_BODY", 10)
    for length, status in ((10, 200), (11, 413)):
        parts = [{"type": "http.request", "body": bytes(6), "more_body": True}]
        parts.append({"type": "http.request", "body": bytes(length - 6)})
        sent = guarded(parts)
        assert sent[0]["status"] == status
        if status == 200:
            assert json.loads(sent[1]["body"]) == {"length": 10, "more": False}
        else:
            assert (b"connection", b"close") in sent[0]["headers"]
        told = guarded([{"type": "http.request"}], (b"Content-Length", b"%d" % length))
        assert told[0]["status"] == status
    assert guarded([{"type": "http.request"}], (b"content-length", b"x"))[0]["status"] == 200


def test_a_body_that_takes_too_long_or_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guards, "BODY_SECONDS", 0.02)
    sent = guarded([{"type": "http.request", "body": b"half", "more_body": True}])
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert guarded([{"type": "http.disconnect"}]) == []


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"host": "evil.com"}, 400),
        ({"host": "localhost.evil.com"}, 400),
        ({"host": "127.0.0.1.evil.com:8000"}, 400),
        ({"host": ""}, 400),
        ({"host": "evil.com:80:8000"}, 400),
        ({"host": "[::1]:8000"}, 200),
        ({"host": "LOCALHOST:8000"}, 200),
        ({"origin": "http://evil.com"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://127.0.0.1:9999"}, 403),
        ({"origin": "https://127.0.0.1:8000"}, 403),
        ({"origin": "http://127.0.0.1:8000"}, 200),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "none"}, 200),
    ],
)
def test_requests_from_elsewhere(headers: dict[str, str], status: int, ask: Client) -> None:
    for method, path in (("GET", "/models"), ("POST", "/predict"), ("GET", "/")):
        body = {"json": {"pixels": [0] * 784}} if method == "POST" else {}
        found = ask(method, path, headers=headers, **body)
        assert found.status_code == status, (path, found.text)
        assert "access-control-allow-origin" not in found.headers


def test_a_link_from_elsewhere_opens_the_page_and_nothing_else(ask: Client) -> None:
    visit = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    assert ask("GET", "/", headers=visit).status_code == 200
    assert ask("GET", "/models", headers=visit).status_code == 403


def test_two_hosts_or_none_are_refused(model: Model) -> None:
    for hosts in ([], [b"127.0.0.1", b"evil.com"]):
        sent: list[dict[str, Any]] = []

        async def send(message: dict[str, Any], sent: list[dict[str, Any]] = sent) -> None:
            sent.append(message)

        headers = [(b"host", host) for host in hosts]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""}
        asyncio.run(application({"digits": model})(scope, None, send))
        assert sent[0]["status"] == 400


def test_a_name_can_be_allowed(model: Model) -> None:
    ask = Client(application({"digits": model}, ["digits.example"]))
    assert ask("GET", "/healthz", headers={"host": "digits.example"}).status_code == 200
    assert ask("GET", "/healthz", headers={"host": "other.example"}).status_code == 400


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/../../etc/passwd",
            "/%2e%2e/%2e%2e/etc/passwd",
            "/..%5c..%5cetc/passwd",
            "//etc/passwd",
            "/page.js/../app.py",
        ),
        *("/%00", "/page.js%00", "/static/..%2fapp.py", "/.git/config", "/predict/../app.py", "/page.html", "/app.py"),
        *("/openapi.json/", "/models/", "/%252e%252e/etc/passwd", "/....//etc/passwd", "/file:///etc/passwd"),
        *(
            f"/{up * 4}{name}"
            for up in (
                "../",
                "..%2f",
                "%2e%2e/",
                "%2e%2e%2f",
                "..%5c",
                "..\\",
                ".%2e/",
                "..;/",
                "%c0%ae%c0%ae/",
                "./../",
            )
            for name in ("etc/passwd", "proc/self/environ", "fastnn/web/app.py", "page.css/../app.py")
        ),
    ],
)
def test_no_file_but_the_few_is_ever_served(path: str, ask: Client) -> None:
    found = ask("GET", path)
    assert found.status_code == 404
    assert "root:" not in found.text
    assert set(found.json()) == {"error"}


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [("GET", "/predict", 405), ("PUT", "/predict", 405), ("DELETE", "/models", 405), ("POST", "/healthz", 405),
     ("POST", "/predict?model=none", 404), ("HEAD", "/", 200), ("OPTIONS", "/predict", 405)],
)  # fmt: skip
def test_methods_and_names(method: str, path: str, status: int, ask: Client) -> None:
    options = {"json": {"pixels": [0] * 784}} if method == "POST" else {}
    found = ask(method, path, **options)
    assert found.status_code == status
    if status >= 400:
        assert set(found.json()) == {"error"}


def test_every_answer_carries_the_headers(ask: Client) -> None:
    page = ask("GET", "/")
    assert {name: page.headers[name] for name in guards.HEADERS} == guards.HEADERS
    for found in (ask("GET", "/none"), ask("GET", "/models", headers={"host": "evil.com"}), ask("POST", "/predict")):
        for name in ("x-content-type-options", "cross-origin-resource-policy", "cache-control"):
            assert found.headers[name] == guards.HEADERS[name]
    assert "unsafe" not in guards.HEADERS["content-security-policy"]


# its limits


def test_too_many_wait_and_the_rest_is_answered(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "MOST_WAITING", 4)
    found = Service({"digits": model})
    slow = Resident.probabilities

    def slower(self: Resident, x: np.ndarray) -> np.ndarray:
        time.sleep(0.05)
        return slow(self, x)

    monkeypatch.setattr(service, "MOST_PREPARED", 1)
    monkeypatch.setattr(Resident, "probabilities", slower)

    async def rush() -> list[Any]:
        asked = (found.predict("digits", LARGE) for _ in range(20))
        return await asyncio.gather(*asked, return_exceptions=True)

    answers = asyncio.run(rush())
    found.close()
    refused = [one for one in answers if isinstance(one, RefusedError)]
    assert 10 <= len(refused) <= 16
    assert all(one.status == 503 and one.headers["retry-after"] == "1" for one in refused)
    assert all(one.lines for one in answers if not isinstance(one, RefusedError))


def test_what_goes_wrong_inside_is_told_and_the_next_is_answered(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    one, right, left = Client(application({"digits": model})), Resident.probabilities, [1, 1]

    def broken(self: Resident, x: np.ndarray) -> np.ndarray:
        if left:
            left.pop()
            raise MemoryError("no more")
        return right(self, x)

    monkeypatch.setattr(Resident, "probabilities", broken)
    for content in (small_picture(), LARGE):
        found = one("POST", "/predict", content=content, headers={"content-type": "image/png"})
        assert (found.status_code, found.json()) == (500, {"error": "something went wrong here"})
    for content in (small_picture(), LARGE):
        assert one("POST", "/predict", content=content, headers={"content-type": "image/png"}).is_success


def test_a_loop_that_ended_with_questions_left_holds_nobody_up(model: Model) -> None:
    found, loop = Service({"digits": model}), asyncio.new_event_loop()
    found._small.append(Job(found.models["digits"], small_picture(), loop=loop))  # and nobody will look at it
    loop.close()
    assert asyncio.run(asyncio.wait_for(found.predict("digits", small_picture()), 5)).lines
    found.close()


@pytest.mark.parametrize("content", [small_picture(), LARGE])
def test_a_model_that_is_dropped_answers_what_it_was_asked(content: bytes, model: Model) -> None:
    found = Service({"digits": model})

    async def ask() -> None:
        asked = asyncio.ensure_future(found.predict("digits", content))
        await asyncio.sleep(0)
        found.drop("digits")
        assert (await asked).lines
        with pytest.raises(RefusedError, match="no model of that name"):
            await found.predict("digits", content)

    asyncio.run(ask())
    found.close()


def test_an_answer_that_takes_too_long_is_refused_and_the_next_is_given(
    model: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "SECONDS", 0.1)
    found, right = Service({"digits": model}), Resident.probabilities
    naps = [0.5]

    def sleepy(self: Resident, x: np.ndarray) -> np.ndarray:
        time.sleep(naps.pop() if naps else 0)
        return right(self, x)

    monkeypatch.setattr(Resident, "probabilities", sleepy)

    async def twice() -> None:
        with pytest.raises(RefusedError, match="no answer in time"):
            await found.predict("digits", LARGE)
        await asyncio.sleep(0.6)
        assert (await found.predict("digits", LARGE)).lines

    asyncio.run(twice())
    found.close()


def test_the_resident_answers_as_the_model_whatever_the_batch(model: Model) -> None:
    x, _ = draw(64, seed=1)
    scaling = np.linspace(0, 90, 784), np.linspace(100, 200, 784)
    scaled = Model(model.network, model.parameters, model.metadata, scaling)
    for one in (model, package.load(), scaled):
        found, wanted = Resident(one).probabilities(x), one.predict_proba(x, engine="numpy")
        np.testing.assert_allclose(found, wanted, atol=2e-5)
        assert (found.argmax(1) == wanted.argmax(1)).all()


def test_what_is_small_is_answered_at_once(model: Model, monkeypatch: pytest.MonkeyPatch) -> None:
    one, picture = Resident(model), small_picture()
    product = 784 * 48 + 48 * 10
    monkeypatch.setattr(resident, "SMALL_PRODUCT", 3 * product)
    for rows, is_small in ((1, True), (3, True), (4, False)):
        assert one.is_small(np.zeros((rows, 784), np.uint8)) is is_small
    monkeypatch.setattr(resident, "SMALL_BYTES", len(picture))
    assert one.is_small(picture)
    assert not one.is_small(picture + b"x")
    assert not one.is_small(LARGE)
    assert not one.is_small(small_picture((28, 29)))
    monkeypatch.setattr(resident, "SMALL_PRODUCT", product)
    assert one.is_small(picture)
    monkeypatch.setattr(resident, "SMALL_PRODUCT", product - 1)
    assert not one.is_small(picture)


def test_products_are_cut_to_what_is_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    w = random.standard_normal((30, 10)).astype(np.float32)
    for most in (1, 299, 300, 600, 1_500):
        monkeypatch.setattr(resident, "_SMALL_TO_BLAS", most)
        for rows in (1, 2, 4, 5, 7):
            a = random.standard_normal((rows, 30)).astype(np.float32)
            np.testing.assert_allclose(resident._product(a, w), a @ w, rtol=1e-4, atol=1e-5)


def test_small_pictures_are_answered_together_and_each_by_its_own(model: Model) -> None:
    """Ready ones, others of the same size, damaged ones and pixels, all at once, as each alone."""
    coloured = Image.new("RGB", (28, 28), (250, 240, 200))
    coloured.paste((40, 60, 160), (12, 4, 16, 24))
    red = io.BytesIO()
    coloured.save(red, "PNG")
    contents = [
        *(small_picture(name=f"{n}.png") for n in range(10)),
        *(small_picture(move=4), small_picture(mode="RGB"), small_picture()[:60], small_picture()[:-30]),
        *(red.getvalue(), draw(1, seed=5)[0], LARGE, small_picture((28, 28), "1")),
    ]
    found = Service({"digits": model})
    taken = [found.models["digits"].is_small(content) for content in contents]
    assert taken == [True] * 16 + [False, True]
    assert not found.models["digits"].is_small(small_picture() + bytes(9_000))
    large = Resident(package.load())
    assert [large.is_small(np.zeros((n, 784), np.uint8)) for n in (1, 2, 3, 256)] == [True, True, False, False]

    async def ask(some: list[bytes | np.ndarray]) -> list[Any]:
        return await asyncio.gather(*(found.predict("digits", one) for one in some), return_exceptions=True)

    together = asyncio.run(ask(contents * 3))
    alone = [asyncio.run(ask([one]))[0] for one in contents]
    found.close()
    for one, wanted in zip(together, alone * 3, strict=True):
        assert type(one) is type(wanted)
        if isinstance(one, Exception):
            assert str(one) == str(wanted)
        else:
            assert (one.seen == wanted.seen).all()
            (said,), (expected,) = one.lines[0], wanted.lines[0]
            assert said.label == expected.label
            assert said.confidence == pytest.approx(expected.confidence, abs=1e-5)
    failed = [n for n, one in enumerate(alone) if isinstance(one, Exception)]
    assert failed == [12, 13]
    for n, content in enumerate(contents):
        if isinstance(content, bytes) and n not in failed:
            assert (alone[n].seen == prepare_digit(decode(content)).pixels.ravel()).all()


# a real server


@contextlib.contextmanager
def serving(folder: Path, *arguments: object) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    command = [sys.executable, "-m", "fastnn", "draw", "--port", "0", "--no-open", *map(str, arguments)]
    running = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert running.stdout and running.stderr
    try:
        port = int(re.search(r":(\d+)/", running.stdout.readline()).group(1))  # type: ignore[union-attr]
        yield port, running
    finally:
        running.terminate()
        running.wait(15)
        running.stdout.close()
        running.stderr.close()


@pytest.fixture(scope="module")
def port(model: Model, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    folder = tmp_path_factory.mktemp("server")
    model.save(folder / "digits.safetensors")
    with serving(folder, "--weights", "digits.safetensors") as (found, _):
        yield found


def raw(port: int, content: bytes, wait: float = 8.0) -> bytes:
    """What comes back until the connection ends."""
    with socket.create_connection(("127.0.0.1", port), wait) as connection:
        connection.sendall(content)
        found = b""
        try:
            while part := connection.recv(65_536):
                found += part
        except (TimeoutError, ConnectionError):
            pass
        return found


HEAD = b"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: image/png\r\nConnection: close\r\n"


@pytest.mark.parametrize(
    ("content", "statuses"),
    [
        (HEAD + b"Content-Length: 2000000\r\n\r\n", (413,)),
        (HEAD + b"Content-Length: -5\r\n\r\n", (400,)),
        (HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", (400,)),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + b"20000\r\n" + bytes(0x20000) * 9, (400, 413)),
        (HEAD + b"X-Long: " + b"x" * 100_000 + b"\r\n\r\n", (400, 431)),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", (400,)),
        (b"GET / HTTP/1.1\r\nConnection: close\r\n\r\n", (400,)),
        (b"nonsense\r\n\r\n", (400,)),
        (b"GET /../../etc/passwd HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", (404,)),
        (b"GET /page.js/..\\..\\app.py HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (404,)),
        (b"GET file:///etc/passwd HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n", (404,)),
    ],
)  # fmt: skip
def test_bytes_that_are_no_good_request(content: bytes, statuses: tuple[int, ...], port: int) -> None:
    found = raw(port, content)
    assert not found or int(found.split(b" ", 2)[1]) in statuses, found[:200]
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_slow_bodies_are_ended_and_others_answered_meanwhile(port: int) -> None:
    """50 half heads, 50 half bodies, 100 that say nothing; a good client does not notice."""
    slow = [socket.create_connection(("127.0.0.1", port)) for _ in range(200)]
    for n, one in enumerate(slow):
        one.sendall((b"POST /predict HT", HEAD + b"Content-Length: 500\r\n\r\nhalf", b"", b"")[n % 4])
    body = {"pixels": [0] * 784}
    with httpx.Client() as client:
        for _ in range(25):
            assert client.post(f"http://127.0.0.1:{port}/predict", json=body).status_code == 200
    halves = slow[1::4]
    for one in halves:
        one.settimeout(60)
        assert b" 408 " in one.recv(4_096)
    for one in slow:
        one.close()
    assert httpx.get(f"http://127.0.0.1:{port}/healthz").status_code == 200


def test_a_server_answers_to_the_names_it_was_given(model: Model, tmp_path: Path) -> None:
    model.save(tmp_path / "m.npz")
    names = ("--allow-host", "digits.example", "--allow-host", "two.example")
    with serving(tmp_path, "--weights", "m.npz", *names) as (port, _):
        for host, status in (("digits.example", 200), ("two.example:80", 200), ("other.example", 400)):
            found = httpx.get(f"http://127.0.0.1:{port}/healthz", headers={"host": host})
            assert found.status_code == status, host


def test_more_than_it_can_do_is_refused_politely_and_the_rest_answered(port: int) -> None:
    """100 connections that ask for pictures to be prepared as fast as they are answered, while 40 may wait."""
    content = HEAD.replace(b"Connection: close\r\n", b"") + b"Content-Length: %d\r\n\r\n" % len(LARGE) + LARGE
    heads: list[bytes] = []

    async def client(until: float) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        while time.monotonic() < until:
            writer.write(content)
            heads.append(await reader.readuntil(b"\r\n\r\n"))
            length = re.search(rb"content-length: (\d+)", heads[-1])
            assert length
            await reader.readexactly(int(length.group(1)))
        writer.close()

    async def rush() -> None:
        until = time.monotonic() + 2
        await asyncio.gather(*(client(until) for _ in range(100)))

    asyncio.run(rush())
    statuses = Counter(int(head.split(b" ", 2)[1]) for head in heads)
    assert set(statuses) == {200, 503}
    assert statuses[200] > 50
    assert all(b"retry-after: 1" in head for head in heads if b" 503 " in head[:20])
    assert httpx.post(
        f"http://127.0.0.1:{port}/predict", content=LARGE, headers={"content-type": "image/png"}
    ).is_success


def test_eight_at_once_get_their_own_answers(port: int, model: Model) -> None:
    x, _ = draw(40, seed=2)
    wanted = [model.classes[n] for n in model.predict(x)]
    found: dict[int, str] = {}

    def client(first: int) -> None:
        with httpx.Client() as one:
            for n in range(first, len(x), 8):
                answer = one.post(f"http://127.0.0.1:{port}/predict", json={"pixels": x[n].tolist()}).json()
                found[n] = answer["predictions"][0]["label"]

    threads = [threading.Thread(target=client, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[n] for n in range(len(x))] == wanted


def test_a_net_is_trained_and_then_answers(port: int) -> None:
    base = f"http://127.0.0.1:{port}"
    asked = {
        "hidden": "20",
        "epochs": "2",
        "batch_size": "64",
        "optimizer": "sgd",  # by the kernel that has trained `model`
        "learning_rate": "",
        "data": "strokes",
    }
    assert httpx.post(f"{base}/train", json=asked).status_code == 202
    assert httpx.post(f"{base}/train", json=asked).status_code == 409
    with httpx.stream("GET", f"{base}/train/events", timeout=120) as stream:
        events = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert [event["event"] for event in events] == ["start", "epoch", "epoch", "done"]
    assert events[1]["loss"] > events[2]["loss"]
    assert events[2]["test_accuracy"] > 0.5
    names = [one["name"] for one in httpx.get(f"{base}/models").json()["models"]]
    assert names == ["digits", events[-1]["model"]]
    found = httpx.post(f"{base}/predict", params={"model": names[1]}, json={"pixels": [0] * 784})
    assert found.json()["model"] == names[1]
    httpx.post(f"{base}/train", json={**asked, "epochs": "500"})
    with httpx.stream("GET", f"{base}/train/events", timeout=60) as stream:
        lines = []
        for line in stream.iter_lines():
            if '"epoch": 2' in line:
                httpx.post(f"{base}/train/stop", json={})
            lines.append(line)
    assert '"text": "stopped: ' in "".join(lines)


def test_the_oldest_net_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    kept, dropped = list[str](), list[str]()
    monkeypatch.setattr(session, "MOST_MODELS", 1)
    monkeypatch.setattr(session, "load", lambda name: make_dataset(60, 784, 10))
    found = session.TrainingSession(lambda name, model: kept.append(name), dropped.append)
    for _ in range(3):
        found.start({"hidden": "4", "epochs": "1"})
        assert found._thread
        found._thread.join(60)
    assert [name[-1] for name in kept] == ["1", "2", "3"]
    assert dropped == kept[:2]


def heard(found: session.TrainingSession) -> list[dict[str, Any]]:
    """All events of a training, as a listener gets them."""

    async def listen() -> list[str]:
        return [line async for line in found.events()]

    lines = asyncio.run(listen())
    assert all(line.startswith("data: ") and line.endswith("\n\n") for line in lines)
    return [json.loads(line[6:]) for line in lines]


def test_what_is_told_of_a_training(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = dict[str, Model]()
    data = make_dataset(60, 784, 10)
    monkeypatch.setattr(session, "load", lambda name: data)
    found = session.TrainingSession(kept.__setitem__, kept.__delitem__)
    assert heard(found) == []
    assert not found.busy
    found.start({"hidden": "4 3", "epochs": " 3 ", "optimizer": "", "batch_size": "8", "learning_rate": "0.01"})
    start, *epochs, done = heard(found)
    assert start["event"] == "start"
    assert start["text"].startswith("784-4-3-10 on small: ")
    assert [(one["event"], one["epoch"], one["epochs"]) for one in epochs] == [("epoch", n, 3) for n in (1, 2, 3)]
    assert all({"loss", "accuracy", "test_accuracy", "seconds", "text"} <= set(one) for one in epochs)
    (name,) = kept
    assert (done["event"], done["model"]) == ("done", name) == ("done", "784-4-3-10, trained here 1")
    assert f"784-4-3-10 reads {epochs[-1]['test_accuracy']:.2%} of the test examples after " in done["text"]
    settings = kept[name].metadata["training"]
    assert (settings["epochs"], settings["batch_size"], settings["learning_rate"]) == (3, 8, 0.01)
    assert heard(found)[-1] == done  # whoever comes late hears all of it
    data = replace(data, test=None)
    found.start({"hidden": "", "epochs": "1"})
    *_, epoch, done = heard(found)
    assert epoch["test_accuracy"] is None
    assert done["text"].startswith("784-10 trained after ")
    assert [name[-1] for name in kept] == ["1", "2"]


def test_a_training_that_is_stopped_or_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[str]()
    monkeypatch.setattr(session, "load", lambda name: make_dataset(60, 784, 10))
    found = session.TrainingSession(lambda name, model: kept.append(name), kept.remove)
    tell, told = Training.compile, [0]

    def stop_after(self: Training) -> None:
        if told[0] == 0:
            found.stop()
        tell(self)

    monkeypatch.setattr(Training, "compile", stop_after)
    found.start({"epochs": "500", "hidden": "4"})
    assert heard(found)[-1] == {"event": "failed", "text": "stopped before the first epoch was over"}
    told[0] = 1
    found.start({"epochs": "2", "hidden": "4", "learning_rate": "1e30"})
    assert (heard(found)[-1]["event"], "diverged" in heard(found)[-1]["text"]) == ("failed", True)
    monkeypatch.setattr(session, "load", lambda name: make_dataset(60, 783, 10))
    found.start({"epochs": "2", "hidden": "4"})
    assert heard(found)[-1] == {"event": "failed", "text": "auto: not pictures of 28x28"}
    assert kept == []
    monkeypatch.setattr(session, "load", lambda name: make_dataset(60, 784, 10))
    found.start({"epochs": "500", "hidden": "4"})
    found.close()
    assert not found.busy
    session.TrainingSession(lambda name, model: None, kept.remove).close()  # nothing was ever trained


def test_a_training_that_is_stopped_later_keeps_what_was_learned(monkeypatch: pytest.MonkeyPatch) -> None:
    kept = list[str]()
    monkeypatch.setattr(session, "load", lambda name: make_dataset(60, 784, 10))
    found = session.TrainingSession(lambda name, model: kept.append(name), kept.remove)
    record, refused = Training._record, threading.Event()

    def stop_after_two(self: Training) -> Any:
        if self.state.epoch == 2:
            assert refused.wait(30)  # or it could end before the other is asked for
            found.stop()
        return record(self)

    monkeypatch.setattr(Training, "_record", stop_after_two)
    found.start({"epochs": "500", "hidden": "4"})
    with pytest.raises(RefusedError) as raised:
        found.start({"epochs": "500", "hidden": "4"})
    refused.set()
    assert raised.value.status == 409
    *_, done = heard(found)
    assert done["text"].startswith("stopped: 784-4-10 reads ")
    assert len(kept) == 1


def test_how_many_may_listen_and_how_much_may_be_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    found = session.TrainingSession(lambda name, model: None, lambda name: None)
    monkeypatch.setattr(session, "MOST_LISTENERS", 1)
    found.events()
    found._listeners = 1
    with pytest.raises(RefusedError) as raised:
        found.events()
    assert (raised.value.status, raised.value.headers) == (503, {"retry-after": "5"})
    assert session._settings({"epochs": "500", "hidden": "1,1,1,1,1,1"})[0].epochs == 500
    for asked in ({"epochs": "501"}, {"hidden": "1,1,1,1,1,1,1"}, {"hidden": "1", "x": ""}, {"data": "digits.npz"}):
        with pytest.raises(UsageError):
            session._settings(asked)
    assert session._settings({}) == (package.Settings(hidden=()), "auto")
    adam = {"optimizer": "adam", "learning_rate": "", "hidden": "20"}
    assert session._settings(adam) == (package.Settings(hidden=(20,), optimizer="adam"), "auto")
    monkeypatch.setattr(session, "MOST_PARAMETERS", 785 * 5 + 6 * 10)
    assert session._settings({"hidden": "5", "data": "strokes"})[1] == "strokes"
    monkeypatch.setattr(session, "MOST_PARAMETERS", 785 * 5 + 6 * 10 - 1)
    with pytest.raises(UsageError, match="parameters here"):
        session._settings({"hidden": "5"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": "0"}, "epochs=0: expected"),
        ({"epochs": "501"}, "at most 500 epochs"),
        ({"hidden": "9000,9000"}, "parameters here"),
        ({"hidden": "x"}, "is not a number"),
        ({"optimizer": "magic"}, "optimizer='magic': expected"),
        ({"data": "/etc"}, "expected one of auto"),
        ({"checkpoint": "/tmp"}, "expected hidden"),
        ({"learning_rate": "nan"}, "learning_rate=nan: expected"),
    ],
)
def test_trainings_that_cannot_be(change: dict[str, str], message: str, ask: Client) -> None:
    found = ask("POST", "/train", json={"hidden": "8", **change})
    assert found.status_code == 400
    assert message in found.json()["error"]
    assert "--" not in found.json()["error"]  # whoever asks has no command line


def test_training_needs_json_and_is_not_offered_to_others(model: Model, ask: Client) -> None:
    assert ask("POST", "/train", content=b"{}", headers={"content-type": "text/plain"}).status_code == 415
    shut = Client(application({"digits": model}, training=False))
    assert shut("POST", "/train", json={}).status_code == 404
    assert shut("GET", "/models").json()["train"] is None


# the command


@pytest.mark.parametrize(("number", "codes"), [(signal.SIGTERM, (143, -15)), (signal.SIGINT, (130, -2))])
def test_a_signal_ends_it_at_once(number: int, codes: tuple[int, ...], tmp_path: Path) -> None:
    with serving(tmp_path) as (port, running):
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
        running.send_signal(number)
        assert running.wait(60) in codes
        assert running.stderr
        assert "Traceback" not in running.stderr.read()


def test_what_the_command_refuses(model: Model, tmp_path: Path) -> None:
    taken = socket.socket()
    taken.bind(("127.0.0.1", 0))
    taken.listen()
    with taken:
        line = clean_error(fastnn("draw", "--port", taken.getsockname()[1], "--no-open"), 1)
    assert "take another one by --port" in line
    assert "name what they call it by --allow-host" in clean_error(fastnn("draw", "--host", "0.0.0.0"), 2)
    assert "expected 0 to 65535" in clean_error(fastnn("draw", "--port", 70_000), 2)
    other = package.train((np.random.default_rng(0).random((50, 5)), np.arange(50) % 2), 4, epochs=1)
    other.save(tmp_path / "t.npz")
    assert "pictures of 28x28" in clean_error(fastnn("draw", "-w", tmp_path / "t.npz"), 3)
    assert "pictures of 28x28" in clean_error(
        fastnn("draw", "-w", tmp_path / "t.npz", "--export", tmp_path / "e.html"), 3
    )
    assert "no such file" in clean_error(fastnn("draw", "-w", tmp_path / "none"), 3)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["t.npz"]


def test_an_exported_page_is_whole_and_asks_nobody(model: Model, tmp_path: Path) -> None:
    model.metadata["classes"] = ["<script>alert(1)</script>", *map(str, range(1, 10))]
    text = page(model, "digits")
    assert "<script>alert" not in text
    assert text.count("<script>") == 3
    assert not re.search(r'(src|href)="(?!data:)', text)
    assert "default-src 'none'" in text
    encoded = re.search(r'id="weights">([^<]+)<', text)
    assert encoded
    tensors = np.frombuffer(base64.b64decode(encoded[1]), "<f4")
    assert (tensors == np.concatenate([tensor.ravel() for tensor in model.parameters])).all()
    model.metadata["classes"] = list(map(str, range(10)))
    model.save(tmp_path / "m.npz")
    done = fastnn("draw", "-w", "m.npz", "--export", "page.html", cwd=tmp_path)
    assert "page.html: " in done.stdout, done.stderr
    assert (tmp_path / "page.html").stat().st_size > 100_000


def test_the_page_is_small() -> None:
    names = ("page.html", "page.css", "page.js", "digit.js")
    assert sum((ROOT / "fastnn" / "web" / name).stat().st_size for name in names) < 60_000


def test_pictures_of_all_sizes_up_to_the_limit(ask: Client) -> None:
    out = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (280, 280), np.uint8)).save(out, "PNG")
    found = ask("POST", "/predict", content=out.getvalue(), headers={"content-type": "image/png"})
    assert found.status_code == 200


def test_what_the_command_serves(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Where, for whom, and whether a browser is opened: stand-ins for what would serve."""
    from fastnn.web import app, serving

    done: list[Any] = []

    def serve(application: Any, listening: socket.socket, ready: Callable[[], None]) -> None:
        ready()

    def bound(host: str, port: int) -> socket.socket:
        done.append((host, port))
        return serving_on(host)

    def serving_on(host: str) -> socket.socket:
        found = socket.socket(socket.AF_INET)
        found.bind(("127.0.0.1", 0))
        return found

    monkeypatch.setattr(serving, "serve", serve)
    monkeypatch.setattr(serving, "bound", bound)
    monkeypatch.setattr(
        app, "application", lambda models, hosts, training: done.append((list(models), hosts, training))
    )
    monkeypatch.setattr("webbrowser.open", lambda address: done.append("browser"))
    monkeypatch.setenv("OPENBLAS_NUM_THREADS", "1")  # what the command would set for good
    for name in ("DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    for options, wanted in (
        ([], [(["mnist"], (), True), ("127.0.0.1", 8_000)]),
        (["--port", "65535", "--host", "::1"], [(["mnist"], (), True), ("::1", 65_535)]),
        (["--port", "0", "--host", "0.0.0.0", "--allow-host", "a"], [(["mnist"], ["a"], False), ("0.0.0.0", 0)]),
    ):
        done.clear()
        assert run(["draw", *options]) == 0
        assert done == wanted
        said = capsys.readouterr()
        assert said.out.startswith("http://[::1]:" if "::1" in options else f"http://{wanted[1][0]}:")
        assert said.out.endswith("/\n")
        assert ("others can reach this server" in said.err) is ("a" in options)
    for port in ("-1", "65536"):
        assert run(["draw", "--port", port]) == 2
        assert f"--port {port}" in capsys.readouterr().err
    assert run(["draw", "--host", "0.0.0.0"]) == 2
    if sys.platform == "linux":
        for name in ("DISPLAY", "WAYLAND_DISPLAY"):
            with monkeypatch.context() as inside:
                inside.setenv(name, ":0")
                for option, opened in (("--open", True), ("--no-open", False)):
                    done.clear()
                    assert run(["draw", option]) == 0
                    deadline = time.monotonic() + 5
                    while opened and "browser" not in done and time.monotonic() < deadline:
                        time.sleep(0.01)
                    assert ("browser" in done) is opened
