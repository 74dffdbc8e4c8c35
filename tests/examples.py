"""The examples of the README and of docs/: found in their text, and run as a reader would.

Blocks of ```python and of ```console are examples, and are run; what stands in a comment right before one is about it:

    <!-- needs mnist -->             it is left out where there is no MNIST
    <!-- not run: the reason -->     it is never run

Those of a page run from top to bottom in one folder and one namespace. Of a console block the lines `$ fastnn …` are
run; each line of output that is shown must be among what the command says, but for numbers and bars; `…` stands for
anything.
"""

from __future__ import annotations

import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conftest import ROOT, fastnn

from fastnn.datasets.named import find

PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
_BLOCK = re.compile(
    r"^(?:<!-- (?P<about>[^\n]*?) -->\n)?```(?P<language>python|console)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)
_VARIES = re.compile(r"[█▉▊▋▌▍▎▏▁▂▃▄▅▆▇]+|[-+]?\d[\d.,:]*(?:e[-+]?\d+)?%?")


@dataclass(frozen=True)
class Example:
    """A block of a page.

    Attributes
    ----------
    page : Path
    line : int
        Of its first line, counted from 1.
    language : {"python", "console"}
    code : str
    about : str
        What the comment before it says.
    """

    page: Path
    line: int
    language: str
    code: str
    about: str = ""

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def commands(self) -> list[tuple[list[str], list[str]]]:
        """Of a console block: the arguments of each `$ fastnn …`, and the lines shown after it."""
        found: list[tuple[list[str], list[str]]] = []
        for line in self.code.splitlines():
            if line.startswith("$ "):
                program, *arguments = shlex.split(line.removeprefix("$ "), comments=True)
                assert program in ("fastnn", "curl"), f"{self}: {line}"
                found.append((arguments if program == "fastnn" else [], []))
            else:
                found[-1][1].append(line)
        return [(arguments, shown) for arguments, shown in found if arguments]


def examples(page: Path) -> Iterator[Example]:
    """The examples of a page, from top to bottom."""
    text = page.read_text("utf-8")
    for block in _BLOCK.finditer(text):
        line = text.count("\n", 0, block.start("code")) + 1
        yield Example(page, line, block["language"], block["code"], block["about"] or "")


def run(page: Path, folder: Path) -> list[str]:
    """Run the examples of a page in a folder, which is the current one; those that were left out, and why."""
    shutil.copytree(ROOT / "data" / "samples", folder / "data" / "samples")
    mnist = find("mnist")
    if mnist:
        (folder / "data" / "mnist").symlink_to(mnist[0].resolve().parent)
    names: dict[str, Any] = {"__name__": "example"}
    left: list[str] = []
    for example in examples(page):
        if example.about.startswith("not run: "):
            continue
        if example.about == "needs mnist" and not mnist:
            left.append(f"{example}: MNIST is not on this machine")
            continue
        assert example.about in ("", "needs mnist"), f"{example}: what does {example.about!r} mean?"
        if example.language == "python":
            code = "\n" * (example.line - 1) + example.code  # so that a traceback names the line of the page
            exec(compile(code, str(page), "exec"), names)
        else:
            _run_console(example, folder)
    return left


def _run_console(example: Example, folder: Path) -> None:
    for arguments, shown in example.commands:
        done = fastnn(*arguments, cwd=folder, FASTNN_DATA="")
        assert done.returncode == 0, f"{example}: fastnn {shlex.join(arguments)}\n{done.stderr}"
        said = [_pattern(line) for line in (done.stdout + done.stderr).splitlines()]
        for line in shown:
            wanted = re.escape(_pattern(line)).replace("…", ".*")
            found = any(re.fullmatch(wanted, one) for one in said)
            assert found, f"{example}: {line!r} is not what it says:\n{done.stdout}{done.stderr}"


def _pattern(line: str) -> str:
    """A line without what varies from run to run and machine to machine."""
    return " ".join(_VARIES.sub("#", line.replace(str(ROOT), "")).split())
