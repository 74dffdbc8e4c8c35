"""What is installed and how: names, hints, versions, and what the wheel holds."""

from __future__ import annotations

import importlib.metadata
import re
import socket
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from conftest import ROOT
from hatchling.builders.wheel import WheelBuilder

from fastnn import distribution
from fastnn.errors import UsageError
from fastnn.tools import doctor
from fastnn.web.app import ASSETS

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_an_extra_is_added_to_what_is_installed_or_to_the_sources(monkeypatch: pytest.MonkeyPatch) -> None:
    def installed(name: str) -> str:
        if name != PROJECT["name"]:
            raise importlib.metadata.PackageNotFoundError(name)
        return "1.0"

    monkeypatch.setattr(importlib.metadata, "version", installed)
    assert distribution.to_install("web") == f'pip install "{PROJECT["name"]}[web]"'
    monkeypatch.setattr(distribution, "NAME", "something-else")
    assert distribution.to_install("web") == 'pip install ".[web]" in the folder of pyproject.toml'


def test_the_page_without_its_extra_says_what_to_run(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastnn.web import app, serving

    hint = re.escape(f"the page needs Starlette and uvicorn: {distribution.to_install('web')}") + "$"
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    with pytest.raises(UsageError, match=hint):
        app.application({})
    with socket.socket() as listening, pytest.raises(UsageError, match=hint):
        serving.serve(None, listening, lambda: None)


def test_no_hint_installs_the_project_of_others() -> None:
    """On PyPI `fastnn` is another one: nothing of ours may tell anyone to install it."""
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
    texts = [*pages, *(ROOT / "fastnn").rglob("*.py"), *(ROOT / "fastnn").rglob("*.html")]
    for path in texts:
        found = re.search(r"pip3? install [^\n`&]*\bfastnn(?!-)", path.read_text())
        assert not found, f"{path.relative_to(ROOT)}: {found}"


@pytest.mark.parametrize("version", ["0.69.0", "0.69.0rc1", "0.70.0dev0+12.g1a2b", "1.0.0"])
def test_a_newer_numba_is_told(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: version)
    told = doctor.facts()["versions"]["numba"]
    assert told.startswith(f"{version} is newer than what fastnn was tested with (0.68)")


@pytest.mark.parametrize("version", ["0.68.0", "0.68.12", "0.67.0", "missing"])
def test_other_versions_of_numba_are_only_named(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_version", lambda name: version)
    assert doctor.facts()["versions"]["numba"] == version


def test_numba_is_one_that_was_tested() -> None:
    """When this fails, all other failures may have this reason."""
    newer = distribution.newer_than_tested(importlib.metadata.version("numba"))
    assert newer is None, f"numba {newer}. Run all tests with it, then raise NEWEST_NUMBA and pyproject.toml's bound"
    major, minor = distribution.NEWEST_NUMBA
    bounds = next(found for found in PROJECT["dependencies"] if found.startswith("numba"))
    assert bounds.endswith(f",<{major}.{minor + 1}")


def test_the_wheel_holds_what_runs_and_nothing_else(tmp_path: Path) -> None:
    (wheel,) = WheelBuilder(str(ROOT)).build(directory=str(tmp_path), versions=["standard"])
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        entry_points = archive.read(next(name for name in names if name.endswith("entry_points.txt"))).decode()
    about = f"{PROJECT['name'].replace('-', '_')}-{doctor.__version__}.dist-info"
    code = {str(path.relative_to(ROOT)) for path in (ROOT / "fastnn").rglob("*.py")}
    page = {f"fastnn/web/{name}" for name, _ in ASSETS.values()} | {"fastnn/web/net.js"}  # of exported pages
    assert names == {
        *code,
        *page,
        "fastnn/py.typed",
        *(f"fastnn/training/presets/{name}.toml" for name in ("quick", "good", "best", "fashion")),
        *("fastnn/shipped/README.md", "fastnn/shipped/mnist.safetensors"),
        *(f"{about}/{name}" for name in ("METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE")),
    }
    assert entry_points.split() == ["[console_scripts]", "fastnn", "=", "fastnn.cli:main"]
