"""The README and docs/: their examples run, their links lead somewhere, their commands and names exist."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from conftest import ROOT
from examples import PAGES, examples, run
from typer.testing import CliRunner

import fastnn
from fastnn.cli.app import app
from fastnn.training import configuration

DOCS = ROOT / "docs"
TEXTS = (*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "bench" / "README.md")
_LINK = re.compile(r"\]\(([^)\s#:]*)(#[^)\s]*)?\)")


def ids(paths: tuple[Path, ...]) -> list[str]:
    return [str(path.relative_to(ROOT)) for path in paths]


def without_code(text: str) -> str:
    return re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)


def anchors(path: Path) -> set[str]:
    """Of the headings of a page, as GitHub and MkDocs name them."""
    headings = re.findall(r"^#+ (.*)$", without_code(path.read_text("utf-8")), re.MULTILINE)
    plain = [re.sub(r"[^\w\s-]", "", heading.lower()).strip() for heading in headings]
    return {"#" + re.sub(r"\s+", "-", heading) for heading in plain}


WITH_EXAMPLES = tuple(p for p in PAGES if any(not e.about.startswith("not run: ") for e in examples(p)))


@pytest.mark.long
@pytest.mark.parametrize("page", WITH_EXAMPLES, ids=ids(WITH_EXAMPLES))
def test_the_examples_of_a_page_run(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    left = run(page, tmp_path)
    if left:
        pytest.skip("; ".join(left))


def test_every_example_is_sound_before_it_is_run() -> None:
    helps: dict[str, str] = {}
    seen = 0
    for example in (example for page in PAGES for example in examples(page)):
        if example.language == "python":
            compile(example.code, str(example), "exec")
        for arguments, _ in example.commands if example.language == "console" else ():
            command = " ".join(arguments[:2] if arguments[0] == "plot" else arguments[:1])
            if command not in helps:
                told = CliRunner().invoke(app, [*command.split(), "--help"], env={"COLUMNS": "200", "NO_COLOR": "1"})
                assert told.exit_code == 0, f"{example}: there is no fastnn {command}"
                helps[command] = told.output
            for option in (argument for argument in arguments if argument.startswith("--")):
                assert option in helps[command], f"{example}: fastnn {command} has no {option}"
            seen += 1
    assert seen > 20


def test_a_block_that_looks_like_an_example_is_one() -> None:
    """A comment apart from its block, or a word after ```python, would leave it out silently."""
    for page in PAGES:
        fences = re.findall(r"^\s*```(?:python|console|pycon|bash|sh).*$", page.read_text("utf-8"), re.MULTILINE)
        bash = 2 if page.name == "README.md" else 0  # .ci/run runs these
        assert len(fences) == len(list(examples(page))) + bash, page
        notes = re.findall(r"^<!-- (?:needs|not run).*$", page.read_text("utf-8"), re.MULTILINE)
        assert len(notes) == sum(bool(example.about) for example in examples(page)), page


@pytest.mark.parametrize("page", TEXTS, ids=ids(TEXTS))
def test_links_lead_somewhere(page: Path) -> None:
    for target, anchor in _LINK.findall(without_code(page.read_text("utf-8"))):
        path = (page.parent / target).resolve() if target else page
        assert path.exists(), f"{page.relative_to(ROOT)} links to {target}"
        if anchor and path.suffix == ".md":
            assert anchor in anchors(path), f"{page.relative_to(ROOT)} links to {target}{anchor}"


def test_the_readme_is_read_in_five_minutes() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= 160


def test_every_page_is_in_the_navigation() -> None:
    navigation = (ROOT / "mkdocs.yml").read_text("utf-8").partition("\nnav:\n")[2].partition("\n\n")[0]
    listed = set(re.findall(r"[\w/-]+\.md", navigation))
    there = {page.relative_to(DOCS).as_posix() for page in PAGES if DOCS in page.parents}
    assert there <= listed
    assert listed - there == {"measurements.md", "contributing.md", "changes.md"}  # made by docs/repository.py


def test_every_public_name_is_in_the_reference() -> None:
    text = "\n".join(page.read_text("utf-8") for page in (DOCS / "api").glob("*.md"))
    listed = set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))
    for name in fastnn.__all__:
        home, called = fastnn._HOMES.get(name), fastnn._ALIASES.get(name, name)
        if home and home != "fastnn.errors":  # listed as a whole
            assert f"{home}.{called}" in listed, f"fastnn.{name} is {home}.{called}"


def test_what_the_readme_says_of_presets_is_what_their_page_says() -> None:
    row = re.compile(r"^\| (`fastnn train.*?) \| (.*) \|$", re.MULTILINE)
    pages = {name: dict(row.findall((ROOT / name).read_text("utf-8"))) for name in ("README.md", "docs/presets.md")}
    assert len(pages["README.md"]) == len(configuration.presets()) == len(pages["docs/presets.md"])
    for command, said in pages["README.md"].items():
        _, accuracy, seconds = said.split(" | ")
        assert {accuracy, seconds} <= set(pages["docs/presets.md"][command].split(" | "))


def test_the_extra_for_docs_is_not_needed_by_users() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert all("," in bound and "<" in bound for bound in extras["docs"])  # each with an upper bound
    assert not any("mkdocs" in bound for name, bounds in extras.items() if name != "docs" for bound in bounds)
