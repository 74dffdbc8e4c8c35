"""The commands. Everything they do is a call from Python too; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
import os
from contextlib import suppress
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fastnn.cli import display
from fastnn.cli.display import note, say
from fastnn.errors import DivergedError, FastnnError, QualityError, RunError, UsageError, printable

if TYPE_CHECKING:
    from fastnn.datasets.base import Dataset
    from fastnn.training import Training

app = typer.Typer(
    name="fastnn",
    help="Train and use multilayer perceptrons on a CPU, fast.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

DEFAULT_OUT = Path("model.safetensors")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, and nothing else on stdout.")]
DataOption = Annotated[
    str, typer.Option("--data", help="auto, mnist, fashion-mnist, strokes, or a folder of IDX or .npy files.")
]
WeightsOption = Annotated[
    Path | None, typer.Option("--weights", "-w", help="Model file; the shipped MNIST model by default.")
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", "-t", help="Threads; the fastest number by default. Never changes results.")
]


class SplitName(StrEnum):
    """Which part of a data set."""

    test = "test"
    train = "train"


def _version(value: bool) -> None:
    if value:
        from fastnn import __version__

        say(__version__)
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks with errors.")] = False,
) -> None:
    """Train and use multilayer perceptrons on a CPU, fast."""


def _print_json(event: dict[str, Any]) -> None:
    say(json.dumps(event, allow_nan=False))


def _hidden(text: str) -> tuple[int, ...]:
    parts = [part.strip() for part in text.split(",")] if text.strip() not in ("", "none") else []
    if not all(part.isdecimal() for part in parts):
        raise UsageError(f"--hidden {printable(text)!r}: expected widths like 128 or 256,128,64 (or none)")
    return tuple(map(int, parts))


def _check_threads(threads: int | None) -> None:
    from fastnn.training import Settings

    Settings(threads=threads)


def _check_out(path: Path) -> None:
    """A result that can't be written is better known before training than after."""
    if path.is_dir():
        raise UsageError(f"--out {printable(path)}: this is a folder; name a file in it")
    if not path.parent.is_dir():
        raise UsageError(f"--out {printable(path)}: there is no folder {printable(path.parent)}")
    if not os.access(path.parent, os.W_OK):
        raise RunError(f"--out {printable(path)}: the folder {printable(path.parent)} can't be written")


@app.command()
def train(
    data: DataOption = "auto",
    hidden: Annotated[str, typer.Option(help="Units of each hidden layer: 128 or 256,128,64 or none.")] = "128",
    epochs: Annotated[int, typer.Option("--epochs", "-e", help="Passes over the training set.")] = 12,
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Examples in a step.")] = 16,
    lr: Annotated[float, typer.Option(help="Learning rate of the first epoch.")] = 0.2,
    lr_decay: Annotated[float, typer.Option(help="d in lr / (1 + d * epoch).")] = 0.2,
    init: Annotated[str, typer.Option(help="Initial weights: he or glorot.")] = "he",
    input_mode: Annotated[
        str, typer.Option("--input", help="How the first layer reads its input: dense, sparse, or the faster (auto).")
    ] = "auto",
    seed: Annotated[int, typer.Option("--seed", "-s", help="Names the run: same seed, same weights.")] = 0,
    threads: ThreadsOption = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")] = DEFAULT_OUT,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result and errors.")] = False,
) -> None:
    """Train a digit classifier and save it.

    With no options: 784-128-10 on MNIST, or on drawn digits where there is no MNIST. Ctrl-C saves what was learned.
    """
    from fastnn import datasets
    from fastnn.cli.main import Terminated, listen_for_termination
    from fastnn.training import Settings, Training

    settings = Settings(_hidden(hidden), epochs, batch_size, lr, lr_decay, seed, threads, init, input_mode)
    _check_out(out)
    dataset = datasets.load(data)
    if not quiet:
        note(f"data: {dataset.name}, {len(dataset.train):,} examples ({dataset.origin})")
    reporter = display.Reporter(settings.epochs, quiet)
    run = Training(dataset, settings, on_progress=reporter.progress)
    listen_for_termination()
    try:
        _train(run, reporter, out, as_json, quiet)
    except DivergedError:  # the weights are those before the epoch that did
        _save_what_is_there(run, out, "diverged;")
        raise
    except (KeyboardInterrupt, Terminated):  # between two calls of a kernel
        _save_what_is_there(run, out, "interrupted;")
        raise
    finally:
        run.close()


def _save_what_is_there(run: Training, out: Path, why: str) -> None:
    """Keep what was learned, if anything was."""
    if run.history:
        run.model().save(out)
        note(f"{why} what was learned in {len(run.history)} epochs is saved in {printable(out)}")


def _train(run: Training, reporter: display.Reporter, out: Path, as_json: bool, quiet: bool) -> None:
    with display.counted_compilation(reporter) as compiled:
        _compile(run)
    reporter.compiled(run.compile_seconds, compiled[0])
    if as_json:
        _print_json(_start_event(run))
    for epoch in run:
        reporter.epoch(epoch)
        if as_json:
            _print_json({"event": "epoch", **vars(epoch)})
    result = run.evaluate() if run.dataset.test else None
    model = run.model()
    model.save(out)
    seconds = sum(epoch.seconds for epoch in run.history)
    if as_json:
        _print_json(
            {
                "event": "result",
                "seconds": seconds,
                "epochs": len(run.history),
                "test_loss": result and result.loss,
                "test_accuracy": result and result.accuracy,
                "weights": str(out),
                "sha256": model.sha256,
            }
        )
        return
    sizes = "-".join(map(str, run.network.sizes))
    if result:
        right = f"{result.accuracy:.2%} of {result.examples:,} {run.dataset.name} test examples"
    else:
        right = f"{run.history[-1].accuracy:.2%} of the training examples (there are no test examples)"
    say(f"{sizes} reads {right} after {seconds:.2f} s of training; saved in {printable(out)}")
    if not quiet:
        note(f"try: fastnn predict IMAGE --weights {printable(out)}")


def _compile(run: Training) -> None:
    """Compile what the run needs; where two cores are, its evaluation at the same time, in another process."""
    from fastnn.kernels.cache import cache_folder, folder_problem
    from fastnn.kernels.host import available_threads
    from fastnn.warmup import Job

    helper = None
    if run.dataset.test and not run.evaluation_is_kept() and available_threads() > 1:
        helper = None if folder_problem(cache_folder()) else Job(f"evaluate {run.dataset.train.x.dtype}")
    try:
        run.compile()
        if helper:
            with suppress(RunError):  # then it is compiled here
                helper.wait()
        if run.dataset.test:
            run.compile_evaluation()
    finally:
        if helper:
            helper.stop()


def _start_event(run: Training) -> dict[str, Any]:
    dataset: Dataset = run.dataset
    return {
        "event": "start",
        "data": dataset.name,
        "examples": len(dataset.train),
        "features": dataset.features,
        "classes": len(dataset.classes),
        "layers": list(run.network.sizes),
        "parameters": run.network.parameter_count,
        "batch_size": run.settings.batch_size,
        "optimizer": "sgd",
        "threads": run.threads,
        "seed": run.settings.seed,
        "compile_seconds": run.compile_seconds,
    }


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(readable=False, help="Pictures (PNG, JPEG, BMP, GIF, WebP), or folders of them.")
    ],
    weights: WeightsOption = None,
    top: Annotated[int | None, typer.Option(help="Show only the N most probable classes, for every picture.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which digit a picture shows, and how sure that is."""
    from fastnn.images import find_images
    from fastnn.model import load

    if top is not None and top < 1:
        raise UsageError(f"--top {top}: expected 1 or more")
    model = load(weights)
    paths = find_images(images)
    refused: FastnnError | None = None
    for path in paths:
        try:
            answer = model.predict_image(path)
        except FastnnError as error:
            if len(paths) == 1:
                raise
            note(f"error: {error}")  # one bad picture does not lose the others; the exit code tells
            refused = refused or error
            continue
        if as_json:
            event = {k: v for k, v in vars(answer).items() if not (k == "warning" and v is None)}
            best = sorted(answer.probabilities.items(), key=lambda item: -item[1])[:top]
            keep = {name for name, _ in best}
            event["probabilities"] = {k: v for k, v in answer.probabilities.items() if k in keep}
            _print_json({"image": event.pop("image"), **event})
        else:
            shown = printable(answer.image)
            say(display.prediction(answer, shown, top, chart=len(paths) == 1 or top is not None))
    if refused is not None:
        raise typer.Exit(refused.exit_code)


@app.command()
def evaluate(
    data: DataOption = "auto",
    weights: WeightsOption = None,
    split: Annotated[SplitName, typer.Option(help="Which examples.")] = SplitName.test,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Exit with code 4 when the accuracy (0 to 1) is below this.")
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Loss, accuracy and confusion of a model on a data set."""
    from fastnn import datasets
    from fastnn.model import load

    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise UsageError(f"--min-accuracy {min_accuracy}: expected 0 to 1, for example 0.98")
    _check_threads(threads)
    model = load(weights)
    dataset = datasets.load(data)
    examples = dataset.train if split is SplitName.train or dataset.test is None else dataset.test
    result = model.evaluate(examples, threads=threads)
    if as_json:
        _print_json(
            {
                "data": dataset.name,
                "split": split.value,
                "examples": result.examples,
                "loss": result.loss,
                "accuracy": result.accuracy,
                "per_class": result.per_class,
                "confusion": result.confusion.tolist(),
            }
        )
    else:
        say(
            f"{dataset.name}, {split.value}: {result.accuracy:.2%} of {result.examples:,} right, loss {result.loss:.4f}"
        )
        header = ["true \\ said", *map(printable, model.classes), "right"]
        rows = [
            [name, *(str(n) if n else "." for n in row), f"{result.per_class.get(name, 0):.1%}"]
            for name, row in zip(model.classes, result.confusion, strict=True)
        ]
        say(display.table(header, rows, right=range(1, len(header))))
    if min_accuracy is not None and result.accuracy < min_accuracy:
        raise QualityError(f"accuracy {result.accuracy:.4f} is below --min-accuracy {min_accuracy:g}")


@app.command()
def gradcheck(
    seed: Annotated[int, typer.Option(help="Of the random networks.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check every gradient: finite differences, reference and kernels against each other."""
    from fastnn.gradcheck import check

    failed, rows = 0, []
    for found in check(seed):
        failed += not found.passed
        if as_json:
            _print_json({**vars(found), "passed": found.passed})
        else:
            verdict = "ok" if found.passed else "MISSED"
            rows.append(
                [found.network, found.tensor, found.comparison, f"{found.error:.1e}", f"{found.bound:.0e}", verdict]
            )
    if not as_json:
        say(display.table(["network", "tensor", "comparison", "error", "bound", ""], rows, right=(3, 4)))
    if failed:
        raise RunError(f"{failed} gradients miss their bounds")


@app.command()
def show(
    weights: Annotated[Path | None, typer.Argument(help="Model file; the shipped one by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """What is in a model file: layers, classes, how it was trained."""
    from fastnn import weights as files

    path = weights or files.shipped()
    stored = files.load(path)
    if as_json:
        _print_json(
            {
                "file": str(path),
                "layers": list(stored.network.sizes),
                "parameters": stored.network.parameter_count,
                "dtype": str(stored.parameters[0].dtype),
                "sha256": stored.sha256,
                "metadata": stored.metadata,
            }
        )
        return
    say(f"{printable(path)}: {stored.network.parameter_count:,} parameters, {stored.parameters[0].dtype}")
    rows = [
        [str(i), f"{layer.inputs:,}", f"{layer.units:,}", layer.activation]
        for i, layer in enumerate(stored.network.layers)
    ]
    say(display.table(["layer", "inputs", "units", "activation"], rows, right=(0, 1, 2)))
    for key, value in stored.metadata.items():
        if key not in ("layers", "activations"):
            say(f"{printable(key)}: {printable(json.dumps(value, ensure_ascii=False), 500)}")
    say(f"sha256: {stored.sha256}")
    warning = files.largest_weight_warning(stored)
    if warning:
        note(f"warning: {warning}")


@app.command("data")
def data_command(as_json: JsonOption = False) -> None:
    """The data sets: where each was found, its size, and whether its files are the published ones."""
    from fastnn import datasets

    found = datasets.status()
    if as_json:
        for status in found:
            _print_json(vars(status))
        return
    rows = [[s.name, s.place, f"{s.bytes / 1e6:.1f} MB" if s.bytes else "-", s.state, s.title] for s in found]
    say(display.table(["name", "where", "size", "state", "what"], [list(map(printable, row)) for row in rows], (2,)))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """The machine, the kernels, the threads, the cache, the versions: what a bug report needs."""
    from fastnn.doctor import facts

    found = facts()
    if as_json:
        _print_json(found)
        return
    widest = max(len(name) for section in found.values() for name in section)
    for title, section in found.items():
        say(title)
        for name, value in section.items():
            say(f"  {name.ljust(widest)}  {printable(value)}")


@app.command()
def warmup(
    jobs: Annotated[int | None, typer.Option("--jobs", "-j", help="Processes at once; one a core by default.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Compile all kernels now, so that no later run has to: for images, tests and machines shared by many."""
    import time

    from fastnn.kernels.cache import cache_folder
    from fastnn.kernels.host import available_threads
    from fastnn.warmup import warm

    if jobs is not None and not 1 <= jobs <= 64:
        raise UsageError(f"--jobs {jobs}: expected 1 to 64")
    begin = time.perf_counter()
    for done in warm(jobs or available_threads()):
        if as_json:
            _print_json(vars(done))
        else:
            note(f"{done.job}: {done.seconds:.1f} s")
    if not as_json:
        say(f"all kernels are compiled, in {time.perf_counter() - begin:.1f} s; kept in {printable(cache_folder())}")


@app.command()
def bench(
    phases: Annotated[bool, typer.Option("--phases", help="Where the time of one training step goes.")] = False,
    hidden: Annotated[str, typer.Option(help="Hidden layers of the step that --phases looks into.")] = "128",
    batch_size: Annotated[int, typer.Option("--batch-size", "-b", help="Its examples.")] = 64,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """How fast this machine is, and fastnn on it, beside the same work in NumPy. Takes about ten seconds."""
    from fastnn.training import Settings

    Settings(_hidden(hidden), batch_size=batch_size, threads=threads)  # refuses what can't be
    if phases:
        _phases(_hidden(hidden), batch_size, threads, as_json)
    else:
        _table(threads, as_json)


def _phases(hidden: tuple[int, ...], batch_size: int, threads: int | None, as_json: bool) -> None:
    from fastnn import bench

    rows = bench.phases(hidden, batch_size, threads)
    if as_json:
        for row in rows:
            _print_json(vars(row))
        return
    header = ["phase", *(f"thread {t}, µs" for t in range(len(rows[0].microseconds))), "share"]
    cells = [[row.phase, *(f"{us:.2f}" for us in row.microseconds), f"{row.share:.0%}"] for row in rows]
    say(display.table(header, cells, right=range(1, len(header))))


def _table(threads: int | None, as_json: bool) -> None:
    from fastnn import bench

    rows = []
    for row in bench.table(threads):
        if as_json:
            _print_json(vars(row))
            continue
        ratio = f"{row.numpy_ratio:.1f}x" if row.numpy_ratio else "-"
        rows.append([row.work, _seconds(row.seconds), f"{row.gflops:,.0f}", f"{row.share:.0%}", ratio])
    if rows:
        header = ["work", "time", "GFLOP/s", "of the peak", "faster than NumPy"]
        say(display.table(header, rows, right=(1, 2, 3, 4)))
        say("\nEpochs count the operations of dense input; sparse input skips most, so more than 100 % is possible.")


def _seconds(seconds: float) -> str:
    if not seconds:
        return "-"
    if seconds < 1e-3:
        return f"{seconds * 1e6:.0f} µs"
    return f"{seconds * 1e3:.1f} ms" if seconds < 1 else f"{seconds:.2f} s"
