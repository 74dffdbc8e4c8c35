"""What a user waits for: the command's start, a prediction, compilation with an empty cache and with a full one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "data" / "samples" / "3.png"


def run(*arguments: str, **env: str) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **env}
    subprocess.run([sys.executable, "-m", "fastnn", *arguments], env=environment, capture_output=True, check=True)


@pytest.mark.parametrize("arguments", [("--version",), ("--help",), ("predict", str(SAMPLE))])
def test_command(benchmark, arguments: tuple[str, ...]) -> None:  # type: ignore[no-untyped-def]
    benchmark.pedantic(lambda: run(*arguments), rounds=7, warmup_rounds=1)


@pytest.mark.parametrize("cache", ["empty", "full"])
def test_first_epoch_from_process_start(benchmark, cache: str, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    count = [0]

    def train() -> None:
        count[0] += cache == "empty"
        folder = tmp_path / str(count[0])
        run(
            "train", "--data", "strokes", "--epochs", "1", "-q", "-o", str(tmp_path / "m"), FASTNN_CACHE_DIR=str(folder)
        )

    train()
    benchmark.pedantic(train, rounds=3)


def test_strokes(benchmark) -> None:  # type: ignore[no-untyped-def]
    """20,000 digits drawn on one core."""
    from fastnn.datasets import draw

    draw(10)
    benchmark.pedantic(lambda: draw(20_000, threads=1), rounds=5)
