"""`fastnn draw`: the drawing page and its server, or the page alone."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Annotated

import typer

from fastnn.cli.display import note, say
from fastnn.cli.options import check_out
from fastnn.cli.signals import noted
from fastnn.errors import UsageError, printable
from fastnn.files import atomic_write

if TYPE_CHECKING:
    from fastnn.model.model import Model

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def draw(
    weights: Annotated[
        list[Path] | None, typer.Option("--weights", "-w", help="Model files; the shipped MNIST model by default.")
    ] = None,
    host: Annotated[str, typer.Option(help="Address to serve on; others can reach 0.0.0.0.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port; 0 takes a free one.")] = 8000,
    allow_host: Annotated[
        list[str] | None, typer.Option("--allow-host", help="A name that the server may be called by; repeat for more.")
    ] = None,
    browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the page in the browser.")] = True,
    export: Annotated[
        Path | None, typer.Option("--export", help="Write a page that runs the model with no server, and end.")
    ] = None,
) -> None:
    """Open a page to draw digits on, to train nets and watch them; also answers POST /predict (see /openapi.json)."""
    if export is not None:
        _export(export, weights)
        return
    # before NumPy is imported: a second thread of its products waits by spinning, and takes a core from the clients
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from fastnn.web.app import application
    from fastnn.web.serving import bound, serve

    if not 0 <= port <= 65_535:
        raise UsageError(f"--port {port}: expected 0 to 65535")
    local = host in _LOOPBACK
    if not local and not allow_host:
        raise UsageError(f"--host {printable(host, 60)}: others could reach it; name what they call it by --allow-host")
    app = application(_models(weights), allow_host or (), training=local)
    listening = bound(host, port)
    address = f"http://{f'[{host}]' if ':' in host else host}:{listening.getsockname()[1]}/"
    if not local:
        note("warning: others can reach this server; put a proxy in front that ends slow connections")

    def ready() -> None:
        say(address)
        note("Ctrl-C ends it")
        if browser and _has_screen():
            import webbrowser

            Thread(target=webbrowser.open, args=(address,), daemon=True).start()

    with listening, noted():  # the server ends by itself, with the answers that it has begun
        serve(app, listening, ready)


def _has_screen() -> bool:
    """Whether a browser can open a window; one for the terminal would be in the way."""
    screens = (os.environ.get("DISPLAY"), os.environ.get("WAYLAND_DISPLAY"))
    return sys.platform in ("darwin", "win32") or any(screens)


def _export(path: Path, model_paths: list[Path] | None) -> None:
    from fastnn.web.export import page

    check_out(path, "--export")
    if model_paths and len(model_paths) > 1:
        raise UsageError("--export: one model a page")
    (name, model) = next(iter(_models(model_paths).items()))
    content = page(model, name).encode()
    with atomic_write(path) as file:
        file.write(content)
    say(f"{printable(path)}: {len(content) / 1e6:.1f} MB, {name}; open it in a browser")


def _models(paths: list[Path] | None) -> dict[str, Model]:
    """Models by the names of their files."""
    from fastnn.model.model import load

    if not paths:
        return {"mnist": load()}
    models: dict[str, Model] = {}
    for path in paths:
        name = path.stem if path.stem not in models else str(path)
        models[printable(name, 60)] = load(path)
    return models
