"""The mutation campaign's machinery, on a project of one function: what is tested is noticed, what is not survives."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

pytest.importorskip("cosmic_ray", reason="needs the extra `mutation`")

from mutation import campaign, choosing, places, report

SOURCE = '''"""Two functions."""


def count(n: int | None) -> int:
    """How many there are."""
    total = 0
    while total < n:
        total += 1
    return total


def guess(n: int) -> int:
    return n * 2
'''
TESTS = """import pytest
from fastnn.small import count, guess

@pytest.fixture(scope="module")
def counted() -> int:
    return count(3)

def test_the_type(counted: int) -> None:
    assert type(counted) is int

def test_the_number(counted: int) -> None:
    assert counted == 3

def test_guess() -> None:
    guess(1)

def test_that_fails_anyway() -> None:
    assert count(1) == 0
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(ROOT / "tests" / "mutation", root / "tests" / "mutation")
    (root / "fastnn").mkdir()
    (root / "fastnn" / "__init__.py").write_text("")
    (root / "fastnn" / "small.py").write_text(SOURCE)
    (root / "tests" / "test_small.py").write_text(TESTS)
    return root


def mutant(root: Path, line: str, operator: str) -> places.Mutant:
    found = [
        place for place in places.places_of(root, "fastnn/small.py") if SOURCE.splitlines()[place.line - 1] == line
    ]
    (place, occurrence) = next((p, at) for p in found for name, at in p.changes if name == operator)
    made = places.make(root, place, operator, occurrence)
    assert made is not None
    return made


def test_what_is_tested_is_noticed_and_what_is_not_survives(project: Path, tmp_path: Path) -> None:
    wanted = [
        mutant(project, "    while total < n:", "ReplaceComparisonOperator_Lt_LtE"),
        mutant(project, "    return n * 2", "ReplaceBinaryOperator_Mul_Pow"),
    ]
    work, told = tmp_path / "work", []
    campaign.prepare(work, None)
    gathered = campaign.gather(project, work)
    assert (len(gathered.tests), gathered.failed) == (3, 1)
    campaign.run_all(project, work, gathered, wanted, 1, lambda one, result: told.append((one, result)))
    assert [result.outcome for _, result in told] == ["noticed", "survived"]
    assert told[0][1].test == "tests/test_small.py::test_the_number"  # through a fixture that another test has made
    assert (project / "fastnn" / "small.py").read_text() == SOURCE

    campaign.run_all(project, work, gathered, wanted, 1, lambda *_: pytest.fail("goes on where it stopped"))
    blamed = campaign.Result("noticed", "tests/test_small.py::test_that_fails_anyway", 1.0)
    gathered.tests[blamed.test] = {"seconds": 0.0, "shared": []}
    found = campaign.confirmed(project, work, gathered, [*told, (wanted[0], blamed)])
    assert [result.outcome for _, result in found] == ["noticed", "survived", "no tests"]
    known = {report.name_of(wanted[1]): report.Reason("equivalent", "for this test")}
    text = report.write(told, known, "Two")
    assert "1 of 2 mutants noticed (0 of them by a time-out), 0 survived, 1 equivalent: 50.0 %, 100.0 %" in text
    assert "-    return n * 2\n+    return n ** 2" in text


def test_an_endless_loop_is_timed_out(project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tree = campaign.Tree(project, tmp_path / "job")
    endless = mutant(project, "        total += 1", "NumberReplacer")
    endless = places.Mutant(endless.place, endless.operator, endless.was, endless.now, SOURCE.replace("+= 1", "+= 0"))
    names = ["tests/test_small.py::test_the_number"]
    gathered = choosing.Gathered({names[0]: {"seconds": 0.0, "shared": []}}, {}, {})
    (tmp_path / "kernels").mkdir()
    monkeypatch.setattr(campaign, "SLACK_PLAIN", 1.0)
    assert campaign.run_one(tree, endless, names, gathered).outcome == "timed out"


def test_nothing_is_drawn_where_a_change_means_nothing(tmp_path: Path) -> None:
    (tmp_path / "fastnn").mkdir()
    code = [
        "from typing import TYPE_CHECKING",
        "if TYPE_CHECKING:",
        "    limit = 1",
        "def f(x: int | None, *, y: float = 2.0) -> str | None:",
        "    z: int | None = y",
        "    if x:",
        "        raise ValueError(f'{x - 1}')",
    ]
    (tmp_path / "fastnn" / "small.py").write_text("\n".join(code) + "\n")
    drawn = places.draw(tmp_path, 100, 0, [])
    assert sorted(one.place.line for one in drawn) == [4, 6]
    assert {one.operator for one in drawn} <= {"NumberReplacer", "AddNot"}
    assert drawn == places.draw(tmp_path, 100, 0, [])
    assert [one.place.line for one in places.draw(tmp_path, 1, 0, [])] == [drawn[0].place.line]


def test_tests_that_share_a_costly_fixture_stay_together_and_the_soonest_come_first() -> None:
    own = {"a::1": 0.1, "b::1": 0.2, "b::2": 3.0, "c::1": 2.0, "c::2": 99.0}
    tests = {name: {"seconds": s, "shared": ["f"] if name[0] == "b" else []} for name, s in own.items()}
    gathered = choosing.Gathered(tests, {"f": 1.0}, {"fastnn/x.py": {5: set(own)}})
    place = places.Place("fastnn/x.py", 5, 0, (4, 6), False, ())
    assert choosing.choose(place, gathered) == ["a::1", "b::1", "b::2", "c::1"]


def test_every_test_of_the_table_of_kernels_exists() -> None:
    texts = {path.name: path.read_text() for path in (ROOT / "tests").glob("test_*.py")}
    for starts in (*choosing.KERNEL_TESTS.values(), choosing.READERS):
        for start in starts:
            file, _, name = start.removeprefix("tests/").partition("::")
            assert f"def {name}" in texts[file], start


def test_what_only_reads_the_package_is_chosen_too() -> None:
    tests = {name: {"seconds": 1.0, "shared": []} for name in ("a::1", "a::2", choosing.READERS[0])}
    gathered = choosing.Gathered(tests, {}, {"fastnn/x.py": {5: {"a::1"}}})
    place = places.Place("fastnn/x.py", 4, 0, (4, 6), False, ())
    assert choosing.choose(place, gathered) == [choosing.READERS[0], "a::1"]


def test_reasons_are_given_for_lines_that_exist() -> None:
    for (file, was, _), reason in report.reasons().items():
        assert was in (ROOT / file).read_text(), (file, was)
        assert reason.kind in ("equivalent", "accepted")
        assert reason.text
