"""The server under load: rate and latency beside a bare Starlette handler, pens that move, bad clients, memory.

python bench/serving.py [rate|pens|overload|attack|memory …]     (all of it by default: three minutes; Linux)

`python bench/serving.py paint` needs Playwright and Chromium besides.
"""

from __future__ import annotations

import asyncio
import io
import json
import re
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

import fastnn
from fastnn.datasets import draw
from fastnn.images import prepare_digit

BARE = """
import io, socket, sys
import numpy as np, uvicorn
from PIL import Image
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route
from fastnn.web.serving import LIMITS

async def predict(request):
    picture = np.asarray(Image.open(io.BytesIO(await request.body())), np.float32) / 255
    return JSONResponse({"sum": float(picture.sum())})

found = socket.socket(proto=socket.IPPROTO_TCP)
found.bind(("127.0.0.1", 0))
print(f"http://127.0.0.1:{found.getsockname()[1]}/", flush=True)
uvicorn.Server(uvicorn.Config(Starlette(routes=[Route("/predict", predict, methods=["POST"])]), **LIMITS)).run([found])
"""


class Server:
    """A process that serves; its port and its memory."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen([sys.executable, *command], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.port = int(re.search(r":(\d+)/", self.process.stdout.readline()).group(1))  # type: ignore[union-attr]
        time.sleep(1)

    @property
    def megabytes(self) -> float:
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(re.search(r"VmRSS:\s+(\d+)", status).group(1)) / 1024  # type: ignore[union-attr]

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *error: object) -> None:
        self.process.terminate()
        self.process.wait(10)


def request(body: bytes, kind: str) -> bytes:
    head = f"POST /predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def png(side: int = 28) -> bytes:
    """A digit that lies as MNIST's do, so that it comes through as it is; enlarged, it is prepared."""
    pictures = draw(100, seed=3)[0].reshape(-1, 28, 28)
    digit = next(one for one in pictures if (prepare_digit(one.astype(np.float32) / 255).pixels == one).all())
    out = io.BytesIO()
    Image.fromarray(digit).resize((side, side)).save(out, "PNG")
    return out.getvalue()


async def one_client(port: int, content: bytes, until: float, took: list[float], pause: float = 0.0) -> None:
    """Requests one after the other on one connection; seconds of each that was answered by 200."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    while time.perf_counter() < until:
        begin = time.perf_counter()
        writer.write(content)
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(re.search(rb"content-length: (\d+)", head).group(1))  # type: ignore[union-attr]
        await reader.readexactly(length)
        took.append(time.perf_counter() - begin if b" 200 " in head[:20] else float("nan"))
        if pause:
            await asyncio.sleep(max(0.0, pause - (time.perf_counter() - begin)))
    writer.close()


def load(port: int, content: bytes, clients: int, seconds: float, pause: float = 0.0) -> np.ndarray:
    took: list[float] = []

    async def all_of_them() -> None:
        until = time.perf_counter() + seconds
        await asyncio.gather(*(one_client(port, content, until, took, pause) for _ in range(clients)))

    asyncio.run(all_of_them())
    return np.array(took)


def said(took: np.ndarray, seconds: float) -> str:
    good = took[np.isfinite(took)]
    p50, p95, p99 = 1e3 * np.percentile(good, [50, 95, 99])
    shares = f"p50 {p50:.1f}, p95 {p95:.1f}, p99 {p99:.1f} ms"
    return f"{len(good) / seconds:,.0f}/s, {shares}, {len(good) / len(took):.2%} answered"


def rate(command: list[str]) -> None:
    content, ours, bare, seconds = request(png(), "image/png"), [], [], 4.0
    for _ in range(3):
        for kind, found in (("bare", bare), ("fastnn", ours)):
            with Server(*(["-c", BARE] if kind == "bare" else command)) as server:
                load(server.port, content, 8, 1.0)
                took = load(server.port, content, 8, seconds)
                found.append(len(took) / seconds)
                print(f"8 connections, {kind}: {said(took, seconds)}", flush=True)
    print(f"rate beside a bare handler that decodes the same PNG: {np.median(np.array(ours) / np.array(bare)):.0%}")
    with Server(*command) as server:
        print(
            "280x280 PNG, 8 connections:", said(load(server.port, request(png(280), "image/png"), 8, seconds), seconds)
        )


def pens(command: list[str]) -> None:
    body = json.dumps({"pixels": draw(1, seed=3)[0][0].tolist()}).encode()
    with Server(*command) as server:
        load(server.port, request(body, "application/json"), 2, 1.0)
        took = load(server.port, request(body, "application/json"), 20, 6.0, 1 / 30)
        print("20 pens, 30 moves/s each:", said(took, 6.0), flush=True)


def attack(command: list[str]) -> None:
    """One good client in ten is oversize, one sends garbage; 50 connections never finish what they send."""
    good, seconds = request(png(), "image/png"), 6.0
    oversize = request(b"", "image/png").replace(b"Content-Length: 0", b"Content-Length: 2000000")
    took: list[float] = []

    async def bad(port: int, content: bytes, until: float) -> None:
        while time.perf_counter() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(content)
            await asyncio.wait([asyncio.ensure_future(reader.read(4_096))], timeout=1)
            writer.close()
            await asyncio.sleep(0.01)

    async def slow(port: int, until: float) -> None:
        while time.perf_counter() < until:
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            for byte in good[:-1]:
                if time.perf_counter() >= until or reader.at_eof():
                    break
                writer.write(bytes([byte]))
                await asyncio.sleep(0.2)
            writer.close()

    async def everybody(port: int) -> None:
        until = time.perf_counter() + seconds
        clients = [one_client(port, good, until, took, 0.02) for _ in range(8)]
        garbage = request(b"garbage", "image/png")
        await asyncio.gather(
            *clients, bad(port, oversize, until), bad(port, garbage, until), *(slow(port, until) for _ in range(50))
        )

    with Server(*command) as server:
        before = server.megabytes
        asyncio.run(everybody(server.port))
        print(f"under attack: {said(np.array(took), seconds)}, memory {server.megabytes - before:+.1f} MB", flush=True)


def overload(command: list[str]) -> None:
    """140 clients, about five times too many; one that is refused asks again after 50 ms."""
    content, seconds = request(png(280), "image/png"), 6.0
    with Server(*command) as server:
        capacity = len(load(server.port, content, 8, 2.0)) / 2
        took = load(server.port, content, 140, seconds, 0.05)
        after = load(server.port, content, 1, 1.0)
        asked = len(took) / seconds
        print(f"{asked:,.0f}/s asked for of {capacity:,.0f}/s: {said(took, seconds)}", flush=True)
        print("one client right after:", said(after, 1.0))


def paint(command: list[str]) -> None:
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    with Server(*command) as server, sync_playwright() as playwright:
        browser, found = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"]), []
        for _ in range(9):
            page = browser.new_page()
            page.goto(f"http://127.0.0.1:{server.port}/")
            page.wait_for_timeout(300)
            found.append(page.evaluate("performance.getEntriesByName('first-contentful-paint')[0].startTime"))
            page.close()
        print(f"first paint: {found[0]:.0f} ms in a new browser, {np.median(found):.0f} ms after", flush=True)


def memory(command: list[str]) -> None:
    content = request(png(), "image/png")
    with Server(*command) as server:
        load(server.port, content, 8, 3.0)
        before, done = server.megabytes, 0
        while done < 100_000:
            done += len(load(server.port, content, 8, 5.0))
        print(f"memory over {done:,} requests: {server.megabytes - before:+.1f} MB", flush=True)


def main() -> None:
    benches = {"rate": rate, "pens": pens, "overload": overload, "attack": attack, "memory": memory, "paint": paint}
    chosen = sys.argv[1:] or [name for name in benches if name != "paint"]
    with tempfile.TemporaryDirectory() as folder:
        path = str(Path(folder, "digits.safetensors"))
        fastnn.train("strokes", epochs=2).save(path)
        print("784-256-10:")
        command = ["-m", "fastnn", "draw", "--no-open", "--port", "0", "--weights", path]
        for name in chosen:
            benches[name](command)
    if "pens" in chosen:
        print("784-1536-1536-10, the shipped model:")
        pens(["-m", "fastnn", "draw", "--no-open", "--port", "0"])


if __name__ == "__main__":
    main()
