"""The common style of figures: widths of a paper's columns, colours, fonts, reproducible files."""

import functools
import io
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.colors import Colormap, LinearSegmentedColormap, to_rgb
from matplotlib.figure import Figure

from dncx.errors import UsageError
from dncx.runs.files import write_whole

Width = Literal["single", "double"]
WIDTHS = {"single": 3.5, "double": 7.2}  # inches: 89 and 183 mm
DPI = 300

# The colours of Okabe and Ito, which colour-blind people can distinguish.
BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
BLUE, VERMILION, PURPLE = "#0072B2", "#D55E00", "#CC79A7"
LINES = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)
WRITE, READ, NEUTRAL = VERMILION, BLUE, "#666666"
SHADE = "0.92"

RC = {
    "font.family": "sans-serif",
    # All have the same character widths, except the last, which comes with matplotlib.
    "font.sans-serif": ["Arial", "Helvetica", "Liberation Sans", "DejaVu Sans"],
    "font.size": 7,
    "axes.titlesize": 8,
    "axes.titlelocation": "left",
    "axes.titlepad": 3,
    "axes.labelpad": 2,
    "axes.linewidth": 0.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.major.width": 0.5,
    "ytick.major.width": 0.5,
    "xtick.major.size": 2,
    "ytick.major.size": 2,
    "xtick.major.pad": 2,
    "ytick.major.pad": 2,
    "lines.linewidth": 1,
    "lines.markersize": 3,
    "legend.frameon": False,
    "legend.handlelength": 1.2,
    "legend.borderaxespad": 0.2,
    "image.aspect": "auto",
    # Not "none": viewers blur an image of few pixels when they enlarge it.
    "image.interpolation": "nearest",
    "figure.constrained_layout.h_pad": 0.02,
    "figure.constrained_layout.hspace": 0.0,
    "savefig.dpi": DPI,
    "svg.fonttype": "none",  # text stays text
    "svg.hashsalt": "dncx",
    "pdf.fonttype": 42,
}
styled = functools.partial(matplotlib.style.context, ["default", RC])
UNDATED = {
    "png": {"Software": None},
    "svg": {"Date": None, "Creator": None},
    "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
}


class Drawing(Figure):
    """A figure that keeps its style when it is saved, and that a notebook displays."""

    def savefig(self, fname: Any, **options: Any) -> None:
        """The same as in matplotlib."""
        with styled():
            super().savefig(fname, **options)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.savefig(file, dpi=DPI / 2)
        return file.getvalue()


def new(width: Width, height: float) -> Drawing:
    """An empty figure; the height is in inches."""
    return Drawing(figsize=(WIDTHS[width], height), layout="constrained")


def ramp(colour: str) -> Colormap:
    """From transparent (0) through a colour to a dark one (1): shading shows behind zeros."""
    red, green, blue = to_rgb(colour)
    dark = red * 0.3, green * 0.3, blue * 0.3
    return LinearSegmentedColormap.from_list(
        "", [(0, (red, green, blue, 0)), (0.7, (red, green, blue, 1)), (1, (*dark, 1))]
    )


def letter(*panels: Axes) -> None:
    """Letters a, b, c, ... above the left ends of panels."""
    for name, axes in zip(string.ascii_lowercase, panels, strict=False):
        axes.set_title(name, fontweight="bold", x=0)


def save(
    figure: Figure, stem: Path | str, formats: Sequence[str] = ("png", "svg", "pdf")
) -> list[Path]:
    """Writes a figure, the same bytes every time: PNG at 300 dpi, SVG and PDF with text as text.

    Args:
      figure: a matplotlib figure.
      stem: the path without the format: "figures/link" becomes figures/link.png and so on.
      formats: some of "png", "svg", "pdf".

    Returns:
      The files. Existing ones are replaced.

    Raises:
      UsageError: if a format is unknown, or the folder does not exist; nothing is written.
    """
    stem = Path(stem)
    unknown = set(formats) - set(UNDATED)
    if unknown:
        raise UsageError(f"{', '.join(sorted(unknown))}: must be one of {', '.join(UNDATED)}")
    if stem.suffix[1:] in UNDATED:
        raise UsageError(
            f"{stem}: pass it without {stem.suffix}, with formats=({stem.suffix[1:]!r},)"
        )
    if not stem.parent.is_dir():
        raise UsageError(f"{stem.parent} is not a folder")
    contents = {}
    for kind in formats:
        file = io.BytesIO()
        with styled():
            figure.savefig(file, format=kind, dpi=DPI, metadata=UNDATED[kind])
        contents[stem.with_name(f"{stem.name}.{kind}")] = file.getvalue()
    for path, content in contents.items():
        write_whole(path, content)
    return list(contents)
