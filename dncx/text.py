"""Tables and paragraphs for people. No JAX here."""

import io
import textwrap
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_ENDLESS, _NARROWEST, _SHORT = 10_000, 80, 20  # characters


def table(
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    left: int = 0,
    width: int | None = _ENDLESS,
) -> str:
    """A table without lines.

    Args:
      header: a title for each column.
      rows: the cells.
      left: number of columns that are aligned to the left; the others are aligned to the right.
      width: characters per line, to which the cells are wrapped; None: the width of the terminal
        or COLUMNS, but at least 80.

    Returns:
      The lines.
    """
    shown = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for number, title in enumerate(header):
        words = [word for cell in (title, *(row[number] for row in rows)) for word in cell.split()]
        shown.add_column(
            Text(title),
            justify="left" if number < left else "right",
            overflow="fold",
            # A short word is not broken: rich takes width from all columns alike.
            min_width=min(_SHORT, max(map(len, words), default=0)),
        )
    for row in rows:
        shown.add_row(*map(Text, row))
    file = io.StringIO()
    console = Console(file=file, width=width, color_system=None)
    console.width = max(console.width, _NARROWEST)
    console.print(shown)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines())


def wrapped(text: str) -> str:
    """A paragraph in lines that fit the terminal, the later ones indented."""
    width = Console(file=io.StringIO()).width
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)
