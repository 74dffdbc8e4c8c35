"""The commands. Everything they do is a call from Python too; heavy imports wait until a command needs them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from fastnn.cli import display
from fastnn.cli.converting import convert
from fastnn.cli.display import note, print_json, say
from fastnn.cli.drawing import draw
from fastnn.cli.options import (
    DATA_HELP,
    DataOption,
    LabelOption,
    TestOption,
    WeightsOption,
    check_out,
    hidden_from,
    settings_from,
    share_or_place,
    with_settings,
)
from fastnn.cli.plotting import SplitOption, plot, report
from fastnn.cli.running import Outcome, run_training
from fastnn.errors import FastnnError, QualityError, RunError, UsageError, printable

app = typer.Typer(
    name="fastnn",
    help="Train and use multilayer perceptrons on a CPU, fast.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(plot, name="plot")

DEFAULT_OUT = Path("model.safetensors")
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON, one object a line, and nothing else on stdout.")]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", "-t", help="Threads; the fastest number by default. Never changes results.")
]


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


def _check_threads(threads: int | None) -> None:
    from fastnn.training.settings import Settings

    Settings(threads=threads)


@app.command()
@with_settings
def train(
    data: Annotated[
        str | None,
        typer.Option("--data", help=DATA_HELP),
    ] = None,
    label: LabelOption = None,
    test: TestOption = None,
    preset: Annotated[
        str | None, typer.Option("--preset", "-p", help="Settings to begin with: quick, good, best or fashion.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option("--config", "-c", help="TOML file of settings, over those of the preset.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Model file to write.")] = DEFAULT_OUT,
    initial: Annotated[
        Path | None,
        typer.Option(
            "--from",
            metavar="MODEL",
            help="Model file to begin from: its weights, layers, scaling and classes, for a warm start.",
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option("--checkpoint", help="Folder to keep the state of the run in, to go on after a stop.")
    ] = None,
    checkpoint_every: Annotated[
        float, typer.Option("--checkpoint-every", help="Seconds between two checkpoints, at least.")
    ] = 10.0,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint, to the same weights as without the stop.")
    ] = False,
    as_json: JsonOption = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but the result and errors.")] = False,
    **options: Any,
) -> None:
    """Train a classifier (of digits, or of anything) and save it.

    With no options: 784-256-10 on MNIST, or on drawn digits where there is no MNIST. Ctrl-C saves what was learned.
    A setting given here wins over the same in --config, and that over --preset. --from sets the layers.
    """
    from fastnn import datasets
    from fastnn.model.model import load
    from fastnn.training import configuration
    from fastnn.training.settings import Settings

    begun = configuration.preset(preset) if preset else configuration.Configuration(Settings())
    if config is not None:
        own = configuration.read(config, begun.settings)
        begun = configuration.Configuration(own.settings, own.data or begun.data)
    model = None if initial is None else load(initial)
    settings, validation = settings_from(options, begun.settings, model)
    check_out(out)
    if not (checkpoint_every >= 0):
        raise UsageError(f"--checkpoint-every {checkpoint_every}: expected seconds, at least 0")
    if resume and checkpoint is None:
        raise UsageError("--resume needs --checkpoint DIR, the folder of the run to go on with")
    numbers = settings.loss != "softmax"
    progress = display.progress_of(quiet)
    dataset = datasets.load(data or begun.data or "auto", label, numbers, share_or_place(test), validation, progress)
    if not quiet:
        note(f"data: {dataset.name}, {len(dataset.train):,} examples ({dataset.origin})")
    reporter = display.Reporter(settings.epochs, quiet)
    run_training(dataset, settings, model, reporter, Outcome(out, checkpoint, checkpoint_every, resume, as_json, quiet))


@app.command()
def predict(
    images: Annotated[
        list[Path], typer.Argument(readable=False, help="Pictures (PNG, JPEG, BMP, GIF, WebP), or folders of them.")
    ],
    weights: WeightsOption = None,
    top: Annotated[int | None, typer.Option(help="Show only the N most probable classes, for every picture.")] = None,
    many: Annotated[bool, typer.Option("--many", "-m", help="Read every digit of a picture, line by line.")] = False,
    annotate: Annotated[
        Path | None, typer.Option("--annotate", help="Write the picture with boxes around what was read, as PNG.")
    ] = None,
    explain: Annotated[
        Path | None, typer.Option("--explain", help="Write the steps from the picture to what the network saw, as PNG.")
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say which digit a picture shows, and how sure that is."""
    from fastnn.cli.reading import Asked, read_picture
    from fastnn.images import find_images
    from fastnn.model.model import load

    if top is not None and top < 1:
        raise UsageError(f"--top {top}: expected 1 or more")
    if many and explain:
        raise UsageError("--explain shows the steps of one digit; leave out --many")
    for path, option in ((annotate, "--annotate"), (explain, "--explain")):
        if path is not None:
            check_out(path, option)
    model = load(weights)
    paths = find_images(images)
    if len(paths) > 1 and (annotate or explain):
        raise UsageError(f"{'--annotate' if annotate else '--explain'}: one picture at a time; {len(paths)} were given")
    asked = Asked(top, many, annotate, explain, as_json, chart=len(paths) == 1 or top is not None)
    refused: FastnnError | None = None
    for path in paths:
        try:
            read_picture(model, path, asked)
        except FastnnError as error:
            if len(paths) == 1:
                raise
            note(f"error: {error}")  # one bad picture does not lose the others; the exit code tells
            refused = refused or error
    if refused is not None:
        raise typer.Exit(refused.exit_code)


@app.command()
def evaluate(
    data: DataOption = "auto",
    label: LabelOption = None,
    weights: WeightsOption = None,
    test: TestOption = None,
    split: SplitOption = None,
    min_accuracy: Annotated[
        float | None, typer.Option(help="Exit with code 4 when the accuracy (0 to 1) is below this.")
    ] = None,
    threads: ThreadsOption = None,
    as_json: JsonOption = False,
) -> None:
    """Loss, accuracy and confusion of a model on a data set."""
    from fastnn import datasets
    from fastnn.evaluation.predictions import chosen_part
    from fastnn.model.model import load

    if min_accuracy is not None and not 0 <= min_accuracy <= 1:
        raise UsageError(f"--min-accuracy {min_accuracy}: expected 0 to 1, for example 0.98")
    _check_threads(threads)
    model = load(weights)
    if min_accuracy is not None and model.loss != "softmax":
        raise UsageError(f"--min-accuracy: this model was trained by --loss {model.loss}, which has no right answers")
    numbers = model.loss != "softmax"
    dataset = datasets.load(data, label, numbers, share_or_place(test), progress=display.progress_of(as_json))
    part, examples = chosen_part(dataset, split)
    if model.loss == "softmax" and dataset.features == model.network.inputs:
        examples = datasets.relabelled(examples, dataset.classes, model.classes, dataset.name)
    result = model.evaluate(examples, threads=threads)
    if as_json:
        print_json(
            {
                "data": dataset.name,
                "split": part,
                "examples": result.examples,
                "loss": result.loss,
                "accuracy": result.accuracy,
                "per_class": result.per_class,
                "confusion": result.confusion.tolist(),
                "calibration_error": result.calibration_error,
            }
        )
    elif result.accuracy is None:
        say(f"{dataset.name}, {part}: loss {result.loss:.4g} on {result.examples:,} examples")
    else:
        say(
            f"{dataset.name}, {part}: {result.accuracy:.2%} of {result.examples:,} right, "
            f"loss {result.loss:.4f}, calibration error {result.calibration_error:.2%}"
        )
        say(display.confusion(result.confusion, model.classes))
    if min_accuracy is not None and result.accuracy is not None and result.accuracy < min_accuracy:
        raise QualityError(f"accuracy {result.accuracy:.4f} is below --min-accuracy {min_accuracy:g}")


app.command()(report)
app.command()(draw)


@app.command()
def gradcheck(
    seed: Annotated[int, typer.Option(help="Of the random networks.")] = 0,
    as_json: JsonOption = False,
) -> None:
    """Check every gradient: finite differences, reference and kernels against each other."""
    from fastnn.tools.gradcheck import check

    failed, rows = 0, []
    for result in check(seed):
        failed += not result.passed
        if as_json:
            print_json({**vars(result), "passed": result.passed})
        else:
            verdict = "ok" if result.passed else "MISSED"
            numbers = f"{result.error:.1e}", f"{result.bound:.0e}"
            rows.append([result.network, result.tensor, result.comparison, *numbers, verdict])
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
    from fastnn.model import store

    path = weights or store.shipped()
    stored = store.load(path)
    if as_json:
        print_json(
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
    warning = store.largest_weight_warning(stored)
    if warning:
        note(f"warning: {warning}")


app.command()(convert)


@app.command("data")
def data_command(as_json: JsonOption = False) -> None:
    """The data sets: where each was found, its size, and whether its files are the published ones."""
    from fastnn import datasets

    statuses = datasets.status()
    if as_json:
        for status in statuses:
            print_json(vars(status))
        return
    rows = [[s.name, s.place, f"{s.bytes / 1e6:.1f} MB" if s.bytes else "-", s.state, s.title] for s in statuses]
    say(display.table(["name", "where", "size", "state", "what"], [list(map(printable, row)) for row in rows], (2,)))


@app.command()
def doctor(as_json: JsonOption = False) -> None:
    """The machine, the kernels, the threads, the cache, the versions: what a bug report needs."""
    from fastnn.tools.doctor import facts

    sections = facts()
    if as_json:
        print_json(sections)
        return
    widest = max(len(name) for section in sections.values() for name in section)
    for title, section in sections.items():
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
    from fastnn.machine import available_threads
    from fastnn.tools.warmup import warm

    if jobs is not None and not 1 <= jobs <= 64:
        raise UsageError(f"--jobs {jobs}: expected 1 to 64")
    begin = time.perf_counter()
    for done in warm(jobs or available_threads()):
        if as_json:
            print_json(vars(done))
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
    from fastnn.training.settings import Settings

    Settings(hidden_from(hidden), batch_size=batch_size, threads=threads)  # refuses what can't be
    if phases:
        _phases(hidden_from(hidden), batch_size, threads, as_json)
    else:
        _table(threads, as_json)


def _phases(hidden: tuple[int, ...], batch_size: int, threads: int | None, as_json: bool) -> None:
    from fastnn.tools import bench

    rows = bench.phases(hidden, batch_size, threads)
    if as_json:
        for row in rows:
            print_json(vars(row))
        return
    header = ["phase", *(f"thread {t}, µs" for t in range(len(rows[0].microseconds))), "share"]
    cells = [[row.phase, *(f"{us:.2f}" for us in row.microseconds), f"{row.share:.0%}"] for row in rows]
    say(display.table(header, cells, right=range(1, len(header))))


def _table(threads: int | None, as_json: bool) -> None:
    from fastnn.tools import bench

    rows = []
    for row in bench.table(threads):
        if as_json:
            print_json(vars(row))
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
