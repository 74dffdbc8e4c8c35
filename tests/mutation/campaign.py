"""The campaign: gather what tests run, then try mutants in copies of the tree, several at once.

Nothing is written outside the work folder: there lie the copies of the tree, the data, the kernels' machine code, the
home folder and the temporary folder that the tests see. The network is behind a proxy that does not exist.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import queue
import resource
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from . import choosing
from .places import Mutant

MEMORY = 12 * 2**30  # bytes of address space: the suite reserves up to 8 GiB, most of it never touched
LEFT_BEHIND = (".git", ".venv", ".ci", "__pycache__", ".*_cache", ".hypothesis", ".benchmarks", "build", "dist")
# Too long, or of no use here: a browser, and this campaign.
IGNORED = ("tests/test_browser.py", "tests/test_mutation.py")
SLACK_PLAIN, SLACK_COMPILED = 20.0, 60.0  # seconds beyond five times its own that a test may take with a mutant
_RCFILE = """[run]
source = fastnn
patch = subprocess,fork
context = ${PYTEST_CURRENT_TEST-}
parallel = true
disable_warnings = no-data-collected,module-not-imported,module-not-measured,couldnt-parse,module-not-python
"""


@dataclass(frozen=True)
class Result:
    """What became of a mutant.

    `outcome` is ``noticed``, ``timed out`` (noticed as well), ``survived`` or ``no tests`` (survived as well);
    `test` the test that failed first.
    """

    outcome: str
    test: str
    seconds: float


class Tree:
    """A copy of the project that a job may break.

    Parameters
    ----------
    source : Path
        Root of the project.
    folder : Path
        Where the copy goes, with all that belongs to it.
    """

    def __init__(self, source: Path, folder: Path) -> None:
        self.folder, self.root = folder, folder / "tree"
        if not self.root.exists():
            shutil.copytree(source, self.root, ignore=shutil.ignore_patterns(*LEFT_BEHIND))
        self._times = itertools.count(10**9)

    def write(self, file: str, code: str) -> None:
        """Replace a file; its time is a new one, so that no bytecode of before is taken for it."""
        path, at = self.root / file, next(self._times)
        path.write_text(code, encoding="utf-8")
        os.utime(path, (at, at))

    def clean(self, kernels: Path | None = None) -> None:
        """Empty the folders that tests write to; machine code is copied from `kernels`."""
        for name in ("home", "tmp", "kernels"):
            shutil.rmtree(self.folder / name, ignore_errors=True)
            (self.folder / name).mkdir(parents=True)
        if kernels:
            shutil.copytree(kernels, self.folder / "kernels", dirs_exist_ok=True)

    def pytest(self, arguments: list[str], log: Path, limit: float | None, **more: str) -> int:
        """Run pytest on the copy, below `limit` seconds, if any; its exit code, or -SIGKILL when it was ended."""
        with log.open("w") as out:
            process = subprocess.Popen(
                [sys.executable, *arguments, "-q", "-n", "0", "-p", "tests.mutation.plugin", "-p", "no:cacheprovider"],
                cwd=self.root,
                env=self._environment() | more,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
            )
            try:
                return process.wait(limit)
            except subprocess.TimeoutExpired:
                return -signal.SIGKILL
            finally:
                try:
                    os.killpg(process.pid, signal.SIGKILL)  # what tests have left running, too
                except ProcessLookupError:
                    pass
                process.wait()

    def _environment(self) -> dict[str, str]:
        kept = {k: v for k, v in os.environ.items() if not k.startswith(("FASTNN_", "NUMBA_", "PYTEST_", "XDG_"))}
        nowhere = {f"{kind}_proxy": "http://127.0.0.1:9" for kind in ("http", "https", "HTTP", "HTTPS")}
        data = {"FASTNN_DATA": str(self.folder.parent / "data")} if (self.folder.parent / "data").is_dir() else {}
        return {
            **kept,
            **nowhere,
            **data,
            "CI": "1",  # Hypothesis makes the same examples every time
            "no_proxy": "127.0.0.1,localhost",
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "FASTNN_CACHE_DIR": str(self.folder / "kernels"),
            "PYTHONPATH": str(self.root),
        }


def prepare(work: Path, data: str | None) -> None:
    """Make the work folder, with a copy of the real data: a broken program may write into it."""
    work.mkdir(parents=True, exist_ok=True)
    if data and not (work / "data").exists():
        shutil.copytree(data, work / "data.part", copy_function=shutil.copyfile, dirs_exist_ok=True)
        (work / "data.part").rename(work / "data")


def state_of(root: Path) -> str:
    """A hash of all that results depend on: the package and its tests."""
    digest = hashlib.sha256()
    for path in sorted([*(root / "fastnn").rglob("*"), *(root / "tests").rglob("*.py")]):
        if path.is_file() and path.suffix != ".pyc" and "mutation" not in path.relative_to(root).parts:
            digest.update(path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]


def gather(source: Path, work: Path, tests: Sequence[str] = ()) -> choosing.Gathered:
    """Run the suite (or files of tests) once under coverage, with kernels of its own, unless that has been done."""
    tree = Tree(source, work / "gathering")
    kept = work / "gathered.json"
    if not kept.exists():
        folder = work / "coverage"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        rcfile = folder / "rc"
        rcfile.write_text(f"{_RCFILE}data_file = {folder / 'data'}\n")
        which = [*(f"--ignore={one}" for one in IGNORED), *tests]
        run = ["-m", "coverage", "run", "--rcfile", str(rcfile), "-m", "pytest", *which]
        part = work / "gathered.part"
        tree.clean()
        tree.pytest(run, work / "gather.log", None, MUTATION_GATHER=str(part))
        subprocess.run([sys.executable, "-m", "coverage", "combine", "-q", f"--rcfile={rcfile}"], check=True)
        shutil.rmtree(work / "kernels", ignore_errors=True)
        shutil.copytree(tree.folder / "kernels", work / "kernels")
        part.rename(kept)
    return choosing.read(json.loads(kept.read_text()), work / "coverage" / "data", tree.root)


def run_one(tree: Tree, mutant: Mutant, tests: list[str], gathered: choosing.Gathered) -> Result:
    """Try one mutant: does a test fail?"""
    if not tests:
        return Result("no tests", "", 0.0)
    original = (tree.root / mutant.place.file).read_text(encoding="utf-8")
    before = time.perf_counter()
    tree.write(mutant.place.file, mutant.code)
    try:
        code, events = _run(tree, tests, gathered, mutant, "-x")
    finally:
        tree.write(mutant.place.file, original)
    late = "running" in events and code in (1, -signal.SIGKILL)  # faulthandler's exit code, and ours
    outcome = {0: "survived", 5: "no tests"}.get(code, "timed out" if late else "noticed")
    test = next(iter(events.get("failed", [])), events.get("running", ""))
    return Result(outcome, test, time.perf_counter() - before)


def unreliable(tree: Tree, tests: list[str], gathered: choosing.Gathered) -> list[str]:
    """Those of `tests` that fail without a mutant as well, run once more: what they noticed counts for nothing."""
    return _run(tree, tests, gathered, None)[1].get("failed", []) if tests else []


def _run(
    tree: Tree, tests: list[str], gathered: choosing.Gathered, mutant: Mutant | None, *options: str
) -> tuple[int, dict[str, Any]]:
    """Run tests on a tree, in their order; pytest's exit code, and what the plugin told."""
    plan, told, warm = tree.folder / "plan.json", tree.folder / "told.json", tree.folder.parent / "kernels"
    slack = SLACK_COMPILED if mutant is None or mutant.place.compiled else SLACK_PLAIN
    # A mutant in kernels/ has another fingerprint, so that its machine code has another place: the plugin asks for it.
    elsewhere = mutant is not None and mutant.place.file.startswith("fastnn/kernels/")
    tree.clean(None if elsewhere else warm)
    limits = {test: slack + 5 * gathered.seconds(test) for test in tests}
    kept = {"kernels": str(warm) if elsewhere else "", "stale": stale(tree.root, mutant) if mutant else []}
    plan.write_text(json.dumps({"limits": limits, **kept}))
    told.unlink(missing_ok=True)
    files = list(dict.fromkeys(test.partition("::")[0] for test in tests))
    whole = 300 + 10 * sum(gathered.seconds(test) for test in tests)  # for what is endless outside tests
    variables = {"MUTATION_PLAN": str(plan), "MUTATION_TOLD": str(told)}
    code = tree.pytest(["-m", "pytest", "--tb=short", *options, *files], tree.folder / "log", whole, **variables)
    return code, json.loads(told.read_text()) if told.exists() else {}


def stale(root: Path, mutant: Mutant) -> list[str]:
    """Modules of kernels whose machine code a mutant makes wrong: those that use its module, when it is compiled.

    Nothing in host.py is, but the shape that it finds goes into all of them.
    """
    if not mutant.place.compiled and not mutant.place.file.endswith("/host.py"):
        return []
    folder, wrong, before = root / "fastnn" / "kernels", {Path(mutant.place.file).stem}, 0
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.py")}
    while len(wrong) > before:
        before = len(wrong)
        wrong |= {name for name, text in texts.items() if any(f"kernels.{other} import" in text for other in wrong)}
    return sorted(wrong)


def run_all(
    source: Path,
    work: Path,
    gathered: choosing.Gathered,
    mutants: list[Mutant],
    jobs: int,
    report: Callable[[Mutant, Result], None],
) -> None:
    """Try every mutant that the results in the work folder lack, `jobs` at once; `report` is told of each.

    Results are appended to ``results.jsonl`` as they come, so that a campaign that was stopped goes on.
    """
    known = dict(results(work))
    waiting: queue.SimpleQueue[Mutant] = queue.SimpleQueue()
    for mutant in mutants:
        if key(mutant) not in known:
            waiting.put(mutant)
    lock = threading.Lock()

    def job(number: int) -> None:
        tree = Tree(source, work / f"job-{number}")
        while True:
            try:
                mutant = waiting.get_nowait()
            except queue.Empty:
                return
            result = run_one(tree, mutant, choosing.choose(mutant.place, gathered), gathered)
            with lock, (work / "results.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key(mutant), **vars(result)}) + "\n")
                report(mutant, result)

    threads = [threading.Thread(target=job, args=(number,)) for number in range(jobs)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def confirmed(
    source: Path, work: Path, gathered: choosing.Gathered, found: list[tuple[Mutant, Result]]
) -> list[tuple[Mutant, Result]]:
    """The results, but nothing is noticed by a test that fails without a mutant too."""
    tests = sorted({result.test for _, result in found if result.test in gathered.tests})
    wrong = unreliable(Tree(source, work / "job-0"), tests, gathered)
    if wrong:
        print("fail without a mutant:", *wrong, sep="\n")
    return [
        (mutant, Result("no tests", result.test, result.seconds) if result.test in wrong else result)
        for mutant, result in found
    ]


def key(mutant: Mutant) -> str:
    """What names a mutant in the results."""
    place = mutant.place
    return f"{place.file}:{place.line}:{place.column} {mutant.operator} {mutant.now.strip()}"


def results(work: Path) -> Iterator[tuple[str, Result]]:
    """What was found so far: key and result of each mutant."""
    path = work / "results.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        found: dict[str, Any] = json.loads(line)
        yield found.pop("key"), Result(**found)
