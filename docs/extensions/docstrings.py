"""Docstrings of dncx as reStructuredText.

They are written to be read in an editor: equations in Unicode, in which | and * are no markup, and
indented blocks that keep their lines.
"""

import re
from collections.abc import Iterator, Sequence
from typing import Any

from sphinx.application import Sphinx

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Example):\s*$")
# Code between backticks, or a character that reStructuredText would take as markup.
MARKUP = re.compile(r"`[^`]*`|[|*\\]|_(?!\w)")


def escaped(line: str) -> str:
    """A line in which only backticks are markup."""
    return MARKUP.sub(lambda match: match[0] if match[0][0] == "`" else f"\\{match[0]}", line)


def as_restructured_text(lines: Sequence[str]) -> Iterator[str]:
    """The lines of a docstring; napoleon then converts its sections."""
    in_section = in_block = in_example = False
    before = ""
    for line in lines:
        starts_paragraph, indented = not before.strip(), line.startswith(" ")
        if line.strip() and not indented:
            in_section, in_block = bool(SECTION.match(line)), False
        if line.lstrip().startswith(">>>"):
            in_example = True
        elif not line.strip():
            in_example = False
        if line.strip() and indented and starts_paragraph and not (in_section or in_block):
            in_block = True
            yield from ("::", "")
        yield line if in_block or in_example else escaped(line)
        before = line


def convert(
    app: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]
) -> None:
    """Converts a docstring in place."""
    lines[:] = as_restructured_text(lines)


def setup(app: Sphinx) -> dict[str, Any]:
    """Sphinx calls this."""
    # Before napoleon, whose priority is the default of 500.
    app.connect("autodoc-process-docstring", convert, priority=400)
    return {"version": "1", "parallel_read_safe": True}
