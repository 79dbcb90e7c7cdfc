"""Docstrings of dncx as reStructuredText. Needs no other package, so that the tests can call it."""

import re
from collections.abc import Iterable, Iterator, Sequence

SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields|Example):\s*$")
# Code between backticks, or a character that reStructuredText would take as markup.
MARKUP = re.compile(r"`[^`]*`|[|*\\]|_(?!\w)")
# "N." alone would begin a list.
LETTER = re.compile(r"^(\s*(?:[\w, ]+: )?[A-Z])\.")
# Names of arguments that the next line continues, at the indentation of a section's entries.
NAMES = re.compile(r"  (\*{0,2}\w+, )*\*{0,2}\w+,$")


def escaped(line: str) -> str:
    """A line in which only backticks are markup."""
    line = MARKUP.sub(lambda match: match[0] if match[0][0] == "`" else f"\\{match[0]}", line)
    return LETTER.sub(r"\1\\.", line)


def as_restructured_text(lines: Sequence[str]) -> Iterator[str]:
    """The lines of a docstring; napoleon then converts its sections."""
    lines = list(with_whole_names(lines))
    in_section = in_block = in_example = False
    before = ""
    for line in lines:
        starts_block, indented = not before.strip() or before.endswith(":"), line.startswith(" ")
        if line.strip() and not indented:
            in_section, in_block = bool(SECTION.match(line)), False
        if line.lstrip().startswith(">>>"):
            in_example = True
        elif not line.strip():
            in_example = False
        if line.strip() and indented and starts_block and not (in_section or in_block):
            in_block = True
            yield from ("", "::", "")
        yield line if in_block or in_example else escaped(line)
        before = line


def with_whole_names(lines: Iterable[str]) -> Iterator[str]:
    """The lines, with the names of arguments that are described together in one line.

    Napoleon reads names up to the end of a line only.
    """
    names = ""
    for line in lines:
        line, names = (f"{names} {line.lstrip()}" if names else line), ""
        if NAMES.match(line):
            names = line
        else:
            yield line
    if names:
        yield names
