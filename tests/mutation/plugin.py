"""Plugin for pytest: gather which tests run which lines, or run chosen tests in a chosen order on a mutant.

Told by the environment: ``MUTATION_GATHER`` is the file to write what was gathered to, ``MUTATION_PLAN`` the file that
says what to run, ``MUTATION_TOLD`` the one to write what came of it to.
"""

from __future__ import annotations

import faulthandler
import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest


def pytest_configure(config: pytest.Config) -> None:
    if "MUTATION_GATHER" in os.environ:
        config.pluginmanager.register(Gatherer(Path(os.environ["MUTATION_GATHER"])))
    if "MUTATION_PLAN" in os.environ:
        plan = json.loads(Path(os.environ["MUTATION_PLAN"]).read_text())
        config.pluginmanager.register(Chooser(plan["limits"], Path(os.environ["MUTATION_TOLD"])))
        if plan["kernels"]:
            keep_kernels(Path(plan["kernels"]), set(plan["stale"]))


def keep_kernels(warm: Path, stale: set[str]) -> None:
    """Copy the machine code that is still right to where the mutant, which has another fingerprint, looks for it."""
    try:
        from fastnn.kernels.cache import cache_folder, folder_problem

        folder = cache_folder()
        if folder_problem(folder) is None:
            for path in warm.rglob("*.bin"):
                if path.name.partition(".")[0] not in stale:
                    shutil.copy(path, folder)
    except Exception:  # the mutant can't be imported, say: the tests will show it
        return


class Chooser:
    """Run the tests of a plan in its order, each below its limit in seconds; those that fail are written down.

    A test that is late ends the process from a thread of its own: no handler would run within a kernel.
    """

    def __init__(self, limits: dict[str, float], told: Path) -> None:
        self._limits, self._told = limits, told
        self._failed: list[str] = []
        self._places = {test: place for place, test in enumerate(limits)}
        self._log = told.with_suffix(".late").open("w")

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        missing = self._places.keys() - {item.nodeid for item in items}
        renamed = {test.partition("[")[0] for test in missing}  # by a mutant of what a test's parameters come from
        found = [i for i in items if i.nodeid in self._places or i.nodeid.partition("[")[0] in renamed]
        items[:] = sorted(found, key=lambda item: self._places.get(item.nodeid, len(self._places)))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._told.write_text(json.dumps({"failed": self._failed, "running": item.nodeid}))
        faulthandler.dump_traceback_later(
            self._limits.get(item.nodeid, max(self._limits.values())), file=self._log, exit=True
        )
        result = yield
        faulthandler.cancel_dump_traceback_later()
        self._told.write_text(json.dumps({"failed": self._failed}))
        return result

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self._failed.append(report.nodeid)


class Gatherer:
    """Name each test and each shared fixture in the coverage of what it runs; note seconds and results.

    A fixture that tests share is a context of its own, or only the first of them would seem to run its lines.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._tests: dict[str, dict[str, Any]] = {}
        self._fixtures: dict[str, float] = {}
        self._shared = 0.0  # seconds of shared fixtures within the test that is running

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        uses = [
            name_of(definitions[-1])
            for definitions in item._fixtureinfo.name2fixturedefs.values()  # type: ignore[attr-defined]
            if definitions[-1].scope != "function"
        ]
        self._tests[item.nodeid] = {"seconds": 0.0, "passed": True, "shared": uses}
        self._shared, before = 0.0, time.perf_counter()
        switch(item.nodeid)
        result = yield
        switch("")
        self._tests[item.nodeid]["seconds"] = time.perf_counter() - before - self._shared
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: Any) -> Iterator[None]:
        if fixturedef.scope == "function":
            return (yield)
        test, name, before, inner = os.environ["PYTEST_CURRENT_TEST"], name_of(fixturedef), time.perf_counter(), 0.0
        inner, self._shared = self._shared, 0.0
        os.environ["PYTEST_CURRENT_TEST"] = name  # the context of processes that the fixture starts
        switch(name)
        try:
            return (yield)
        finally:
            seconds = time.perf_counter() - before
            self._fixtures[name] = max(seconds - self._shared, self._fixtures.get(name, 0.0))
            self._shared = inner + seconds
            os.environ["PYTEST_CURRENT_TEST"] = test
            switch(test.rpartition(" ")[0])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._tests[report.nodeid]["passed"] &= not report.failed

    def pytest_sessionfinish(self) -> None:
        self._path.write_text(json.dumps({"tests": self._tests, "fixtures": self._fixtures}))


def name_of(fixturedef: Any) -> str:
    """A name for a shared fixture, unlike any test's."""
    return f"fixture {fixturedef.baseid}::{fixturedef.argname}"


def switch(context: str) -> None:
    """What coverage records from here on belongs to `context`."""
    import coverage

    current = coverage.Coverage.current()
    if current is not None:
        current.switch_context(context)
