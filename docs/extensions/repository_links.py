"""Links to files of the repository, for the site.

The pages in docs/ are also read in the repository, so they link to files outside docs/. The site
has pages for some of these files. The others are copied into the site, and the link downloads them.
A link to a folder becomes plain text.
"""

# pyright: reportMissingImports=false

import os
import re
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
# The page of the site that stands for a file outside docs/.
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "dncx/glossary.py": "api/glossary.md",
    "dncx/kernels/README.md": "kernels.md",
    "examples/from_pytorch_dnc.py": "moving-models.md#the-code",
    "examples/in_pytorch.py": "tutorials/in-pytorch.md#the-code",
    "examples/own_data.py": "examples.md#own-data-py",
    "examples/own_parts.py": "examples.md#own-parts-py",
    "examples/own_task.py": "examples.md#own-task-py",
}
LINK = re.compile(r"\[([^\]\[]+)\]\((?!\w+:|#)([^)#\s]+)(#[^)\s]*)?\)")


def rewritten(text: str, source: Path, page: Path) -> str:
    """The text of a file, with the links of the site.

    Args:
      text: the text.
      source: the folder of the file; links in the text are relative to it.
      page: the folder of the page that shows the text.
    """

    def link(match: re.Match[str]) -> str:
        words, target, anchor = match[1], match[2], match[3] or ""
        path = (source / target).resolve()
        if path.is_dir():
            return words
        if not path.is_file() or not path.is_relative_to(ROOT):
            return match[0]  # MyST reports it
        known = PAGES.get(str(path.relative_to(ROOT)))
        if known:
            target = (
                os.path.relpath(DOCS, page) + f"/{known}" + (anchor if "#" not in known else "")
            )
        elif path.is_relative_to(DOCS):
            target = os.path.relpath(path, page) + anchor
        else:
            target = "path:" + os.path.relpath(path, page)
        return f"[{words}]({target})"

    return LINK.sub(link, text)


def page_read(app: Sphinx, docname: str, source: list[str]) -> None:
    """Rewrites a page."""
    if app.env.doc2path(docname).suffix == ".md":
        folder = (DOCS / docname).parent
        source[0] = rewritten(source[0], folder, folder)


def file_included(app: Sphinx, path: Path, parent_docname: str, source: list[str]) -> None:
    """Rewrites a file that a page includes."""
    included = (DOCS / path).resolve()
    if included.suffix == ".md":
        source[0] = rewritten(source[0], included.parent, (DOCS / parent_docname).parent)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    app.connect("source-read", page_read)
    app.connect("include-read", file_included)
    return {"version": "1", "parallel_read_safe": True}
