"""Defaults and limits: what a call does unless told otherwise changes only where somebody means it."""

from __future__ import annotations

import sys

from conftest import ROOT

sys.path.insert(0, str(ROOT / "tests" / "golden"))
import defaults


def test_defaults_and_limits_are_the_written_ones() -> None:
    """Those that differ; `python tests/golden/defaults.py` writes them anew."""
    found, wanted = list(defaults.lines()), defaults.FILE.read_text(encoding="utf-8").splitlines()
    assert not set(found) ^ set(wanted)
    assert found == wanted
