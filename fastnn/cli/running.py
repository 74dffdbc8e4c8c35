"""Running a training for the command: its progress, its checkpoints, signals, and what it leaves behind."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fastnn.cli import display
from fastnn.cli.display import note, print_json, say
from fastnn.cli.signals import Stopped, noted
from fastnn.errors import DivergedError, RunError, UsageError, printable

if TYPE_CHECKING:
    from fastnn.datasets.base import Dataset
    from fastnn.model.model import Model
    from fastnn.training.checkpoint import Checkpoints
    from fastnn.training.run import Epoch, Training
    from fastnn.training.settings import Settings


@dataclass(frozen=True)
class Outcome:
    """Where results go: the model file, the folder of checkpoints and how often, and how they are told."""

    out: Path
    checkpoint: Path | None = None
    checkpoint_every: float = 10.0
    resume: bool = False
    as_json: bool = False
    quiet: bool = False


def run_training(
    dataset: Dataset, settings: Settings, initial: Model | None, reporter: display.Reporter, outcome: Outcome
) -> None:
    """Train, tell, save; stopped by a signal or divergence, save what was learned."""
    from fastnn.training.checkpoint import Checkpoints, only_here
    from fastnn.training.run import Training

    with ExitStack() as stack:
        checkpoints = None
        if outcome.checkpoint:
            stack.enter_context(only_here(outcome.checkpoint))
            checkpoints = Checkpoints(outcome.checkpoint, outcome.checkpoint_every, _warn)
        if checkpoints and checkpoints.holds_a_run() and not outcome.resume:
            raise UsageError(
                f"--checkpoint {printable(outcome.checkpoint)}: holds a run; go on with it by --resume, or name "
                f"another folder"
            )
        run = Training(dataset, settings, on_progress=reporter.progress, initial=initial)
        stack.callback(run.close)
        if checkpoints and checkpoints.latest(run):
            if not outcome.quiet:
                note(f"going on after {run.state.epoch} epochs and {run.state.step:,} steps")
        elif outcome.resume and not outcome.quiet:
            note(f"no checkpoint in {printable(outcome.checkpoint)} yet; beginning anew")
        run.fingerprint  # noqa: B018 - hashed now, so that nobody waits for it at a signal
        _compile_shown(run, reporter)
        with noted() as raise_if_stopped:  # before, nothing is lost by leaving at once

            def rest(run: Training) -> None:
                raise_if_stopped()
                if checkpoints:
                    checkpoints.save_if_due(run)

            run.on_safe = rest
            try:
                _train(run, reporter, outcome, checkpoints)
            except DivergedError:  # the weights are those before the epoch that did
                _save_what_is_there(run, outcome.out, "diverged;")
                raise
            except Stopped:
                if checkpoints and checkpoints.save(run):
                    note(f"stopped after {run.state.epoch} epochs; the same command with --resume goes on from there")
                _save_what_is_there(run, outcome.out, "interrupted;")
                raise


def _warn(text: str) -> None:
    note(f"warning: {printable(text)}")


def _save_what_is_there(run: Training, out: Path, why: str) -> None:
    """Keep what was learned, if anything was."""
    if run.history:
        run.model().save(out)
        note(f"{why} what was learned in {len(run.history)} epochs is saved in {printable(out)}")


def _train(run: Training, reporter: display.Reporter, outcome: Outcome, checkpoints: Checkpoints | None) -> None:
    if outcome.as_json:
        print_json(_start_event(run))
    for epoch in run:
        reporter.epoch(epoch)
        if outcome.as_json:
            print_json({"event": "epoch", **_described(epoch)})
    if checkpoints:
        checkpoints.save(run)
    result = run.evaluate() if run.dataset.test else None
    model = run.model()
    model.save(outcome.out)
    seconds = sum(epoch.seconds for epoch in run.history)
    if outcome.as_json:
        print_json(
            {
                "event": "result",
                "seconds": seconds,
                "epochs": len(run.history),
                "test_loss": result and result.loss,
                "test_accuracy": result and result.accuracy,
                "weights": str(outcome.out),
                "sha256": model.sha256,
            }
        )
        return
    watch, epochs = run.state.watch, len(run.history)
    if epochs < run.settings.epochs and not outcome.quiet:
        note(f"stopped early: no better validation loss in {watch.since} epochs")
    data = run.dataset.name
    if result and result.accuracy is not None:
        right = f"reads {result.accuracy:.2%} of {result.examples:,} {data} test examples"
    elif result:
        right = f"has a loss of {result.loss:.4g} on {result.examples:,} {data} test examples"
    elif run.validation:
        best = run.history[watch.best_epoch - 1 if run.settings.restore_best else -1]
        score = f"a loss of {best.validation_loss:.4g}"
        if best.validation_accuracy is not None:
            score = f"{best.validation_accuracy:.2%} right"
        right = f"has {score} on {len(run.validation):,} validation examples (there are no test examples)"
    elif run.history[-1].accuracy is not None:
        right = f"reads {run.history[-1].accuracy:.2%} of the training examples (there are no test examples)"
    else:
        right = f"has a loss of {run.history[-1].loss:.4g} on the training examples (there are no test examples)"
    say(f"{run.network} {right} after {seconds:.2f} s of training; saved in {printable(outcome.out)}")
    if not outcome.quiet and run.dataset.image_shape:
        note(f"try: fastnn predict IMAGE --weights {printable(outcome.out)}")


def _described(epoch: Epoch) -> dict[str, Any]:
    """An epoch for JSON; what there is no validation for is left out."""
    return {k: v for k, v in vars(epoch).items() if v is not None or not k.startswith("validation")}


def _compile_shown(run: Training, reporter: display.Reporter) -> None:
    from fastnn.kernels.cache import unkept

    with display.counted_compilation(reporter) as compiled:
        _compile(run)
    reporter.compiled(run.compile_seconds, compiled[0], unkept())


def _compile(run: Training) -> None:
    """Compile what the run needs; where two cores are, its evaluation at the same time, in another process."""
    from fastnn.kernels.cache import cache_folder, folder_problem
    from fastnn.machine import available_threads
    from fastnn.tools.warmup import Compilation

    helper, evaluates = None, run.dataset.test or run.validation
    if evaluates and not run.evaluation_is_kept() and available_threads() > 1:
        helper = None if folder_problem(cache_folder()) else Compilation(f"evaluate {run.dataset.train.x.dtype}")
    try:
        run.compile()
        if helper:
            with suppress(RunError):  # then it is compiled here
                helper.wait()
        if evaluates:
            run.compile_evaluation()
    finally:
        if helper:
            helper.stop()


def _start_event(run: Training) -> dict[str, Any]:
    dataset: Dataset = run.dataset
    return {
        "event": "start",
        "data": dataset.name,
        "examples": len(run.train_split),
        "features": dataset.features,
        "classes": len(dataset.classes),
        "layers": list(run.network.sizes),
        "parameters": run.network.parameter_count,
        "batch_size": run.settings.batch_size,
        "optimizer": run.settings.optimizer,
        "threads": run.threads,
        "seed": run.settings.seed,
        "compile_seconds": run.compile_seconds,
    }
