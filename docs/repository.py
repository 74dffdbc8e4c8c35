"""What MkDocs has to know of the repository around docs/.

Pages link to files of the repository as it is right there, so that they can be read without a build. In the site, what
lies outside of docs/ is either a page of its own (`PAGES`), or a picture that is taken along, or no link but its text.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File

ROOT = Path(__file__).resolve().parent.parent
PAGES = {  # files of the repository, and the pages that they become
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changes.md",
    "bench/README.md": "measurements.md",
    "tests/mutation/README.md": "mutation.md",
    "weights/README.md": "shipped-weights.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s#]+)(#[^)\s]*)?\)")
_DRAWING = re.compile(r'<img alt="([^"]*)" src="[^"]*?images/([\w-]+\.svg)" ?/?>')


def _home(page: str) -> str:
    """Where the text of a page lies in the repository."""
    return next((home for home, name in PAGES.items() if name == page and home != "README.md"), f"docs/{page}")


def _in_site(target: str) -> str | None:
    """What a file of the repository is called in the site, if it is there."""
    if target.startswith("docs/"):
        return target.removeprefix("docs/")
    return PAGES.get(target) or (target if target.endswith(".png") else None)


def on_files(files: Any, config: Any) -> Any:
    """Add the pages and pictures that lie elsewhere."""
    for home, name in PAGES.items():
        if home != "README.md":
            files.append(File.generated(config, name, abs_src_path=str(ROOT / home)))
    for picture in sorted((ROOT / "bench").rglob("*.png")):
        files.append(File.generated(config, picture.relative_to(ROOT).as_posix(), abs_src_path=str(picture)))
    return files


def on_page_markdown(markdown: str, page: Any, **rest: Any) -> str:
    """Links as they are right in the repository → as they are right in the site."""
    here = page.file.src_uri

    def in_site(link: re.Match[str]) -> str:
        mark, text, target, anchor = link.group(1), link.group(2), link.group(3), link.group(4) or ""
        if ":" in target:
            return link.group()
        path = posixpath.normpath(posixpath.join(posixpath.dirname(_home(here)), target))
        found = _in_site(path)
        if found is not None:
            return f"{mark}[{text}]({posixpath.relpath(found, posixpath.dirname(here) or '.')}{anchor})"
        return text if (ROOT / path).exists() else link.group()  # what is nowhere is left for the build to complain of

    return _LINK.sub(in_site, markdown)


def on_page_content(html: str, **rest: Any) -> str:
    """Put drawings into the page itself, where they follow its colours."""

    def inline(image: re.Match[str]) -> str:
        svg = (ROOT / "docs" / "images" / image.group(2)).read_text("utf-8")
        return f'<div class="drawing">{svg}</div>'

    return _DRAWING.sub(inline, html)
