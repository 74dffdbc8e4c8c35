"""The comparison with other libraries: its sides do the same work, and the pages show what was measured."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from peers import harness, report, works

ROOT = Path(__file__).resolve().parent.parent
RESULTS = json.loads((ROOT / "bench" / "peers" / "results.json").read_text())


def test_both_of_our_own_sides_do_the_same_work(benchmark) -> None:  # type: ignore[no-untyped-def]
    """From the same weights, in processes of their own: the same loss, as near as another shuffle allows."""
    work = works.Work("tabular", (20, 64, 64, 2), 256, epochs=2)
    found = {}

    def ask() -> None:
        with tempfile.TemporaryDirectory() as folder:
            question = works.write(work, Path(folder))
            for name in ("fastnn", "NumPy"):
                side = harness.start(name, None, 1)
                assert side
                found[name] = side.ask(question)
                side.close()

    benchmark.pedantic(ask, rounds=1)
    assert all(len(answer["seconds"]) == 2 for answer in found.values())
    assert found["fastnn"]["loss"] == pytest.approx(found["NumPy"]["loss"], rel=0.02)
    assert found["fastnn"]["accuracy"] == pytest.approx(found["NumPy"]["accuracy"], abs=0.02)


def test_a_side_that_is_not_there_or_fails_loses_nothing(tmp_path: Path) -> None:
    assert harness.start("JAX jitted scan", None, 1) is None
    side = harness.start("NumPy", None, 1)
    assert side
    bad = {"data": "nowhere.npz", "start": "", "sizes": [1, 2], "batch": 1, "rate": 0.1, "epochs": 1}
    assert "FileNotFoundError" in side.ask(bad)["error"]
    assert "FileNotFoundError" in side.ask(bad)["error"]
    side.close()


def test_the_works_are_what_they_say() -> None:
    x = works._one_hot(200)["x"]
    assert x.shape == (200, 2000)
    assert (x.sum(axis=1) == 20).all()
    table = works._tabular(500)
    assert 0.3 < table["y"].mean() < 0.7
    assert np.isfinite(table["x"]).all()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        ("README.md", lambda: report.short_table(RESULTS["table"]["rows"])),
        ("docs/speed.md", lambda: report.table(RESULTS["table"]["rows"])),
        ("docs/speed.md", lambda: report.until_table(RESULTS["until"])),
        ("bench/README.md", lambda: report.grid_table(RESULTS["grid"]["rows"])),
        ("bench/README.md", lambda: report.about(RESULTS)),
    ],
)
def test_the_pages_show_what_was_measured(file: str, text) -> None:  # type: ignore[no-untyped-def]
    assert text() in (ROOT / file).read_text()


def test_every_side_reached_the_same() -> None:
    """Equal work means equal accuracy: within three points on every line (scikit-learn's two classes apart)."""
    for row in RESULTS["table"]["rows"]:
        reached = [s["accuracy"] for name, s in row["sides"].items() if row["sizes"][-1] > 2 or name != "scikit-learn"]
        assert max(reached) - min(reached) < 0.03, row["work"]
