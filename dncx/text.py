"""Tables and paragraphs for people. No JAX here."""

import io
import textwrap
from collections.abc import Sequence

from rich.cells import cell_len
from rich.console import Console
from rich.table import Table
from rich.text import Text

_ENDLESS, _NARROWEST, _SHORT, _GAP = 10_000, 80, 20, 2  # characters


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
    console = Console(file=io.StringIO(), width=width, color_system=None)
    console.width = max(console.width, _NARROWEST)
    shown = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), header_style="")
    columns = [[title, *(row[number] for row in rows)] for number, title in enumerate(header)]
    for number, size in enumerate(_widths(columns, console.width)):
        justify = "left" if number < left else "right"
        shown.add_column(Text(header[number]), justify=justify, overflow="fold", width=size)
    for row in rows:
        shown.add_row(*map(Text, row))
    with console.capture() as lines:
        console.print(shown)
    return "\n".join(line.rstrip() for line in lines.get().splitlines())


def _widths(columns: Sequence[Sequence[str]], width: int) -> list[int]:
    """Widths of columns that fit in a line; rich's own may not, and it cuts what is beyond.

    The columns with the most space to give are narrowed, and short words are broken only if
    nothing else helps.
    """
    sizes = [max(map(cell_len, cells), default=0) for cells in columns]
    words = [[word for cell in cells for word in cell.split()] for cells in columns]
    least = [min(_SHORT, max(map(cell_len, found), default=0)) for found in words]
    while sum(sizes) + _GAP * (len(sizes) - 1) > width and max(sizes) > 1:
        spare = [size - small for size, small in zip(sizes, least, strict=True)]
        given = spare if max(spare) > 0 else sizes
        sizes[given.index(max(given))] -= 1
    return sizes


def wrapped(text: str) -> str:
    """A paragraph in lines that fit the terminal, the later ones indented."""
    width = Console(file=io.StringIO()).width
    return textwrap.fill(text, width, subsequent_indent="  ", break_on_hyphens=False)
