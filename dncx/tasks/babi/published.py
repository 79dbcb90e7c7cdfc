"""Errors of the paper's networks on bAbI, quoted to stand beside those of a run."""

from typing import NamedTuple

SOURCE = "Graves et al. 2016, Nature 538, Extended Data Table 1"
NOTES = (
    f"quoted from {SOURCE}: one network for all 20 tasks, en-10k",
    "*: not legible in the copy at hand, completed from memory; agrees with the printed mean",
    "best: mean and failed are printed so, but for the NTM's failed, which is counted; the cells "
    "are put together from fragments and memory. They agree with the printed means, but "
    "single cells are not verified (the LSTM's give 14 failed tasks)",
)

# Rows are tasks. Of 20 runs, the mean and standard deviation of the error in per cent.
_MEANS = """
    LSTM       NTM         DNC1        DNC2
    28.4±1.5   40.6±6.7    9.0±12.6    16.2±13.7
    56.0±1.5   56.3±1.5    39.2±20.5   47.5±17.3
    51.3±1.4   47.8±1.7    39.6±16.4   44.3±14.5
    0.8±0.5    0.9±0.8*    0.4±0.7     0.4±0.3
    3.2±0.5    1.9±0.8*    1.5±1.0     1.9±0.6
    15.2±1.5   18.4±1.6    6.9±7.5     11.1±7.1
    16.4±1.4   19.9±2.5    9.8±7.0     15.4±7.1
    17.7±1.2   18.5±4.9    5.5±5.9     10.0±6.6
    15.4±1.5   17.9±2.0    7.7±8.3     11.7±7.4
    28.7±1.7   25.7±7.3    9.6±11.4    14.7±10.8
    12.2±3.5   24.4±7.0    3.3±5.7     7.2±8.1
    5.4±0.6    21.9±6.6    5.0±6.3     10.1±8.1
    7.2±2.3    8.2±0.8     3.1±3.6     5.5±3.4*
    55.9±1.2   44.9±13.0   11.0±7.5    15.0±7.4*
    47.0±1.7   46.5±1.6    27.2±20.1   40.2±11.1
    53.3±1.3   53.8±1.4    53.6±1.9    54.7±1.3
    34.8±4.1   29.9±5.2    32.4±8.0    30.9±10.1
    5.0±1.4    4.5±1.3     4.2±1.8     4.3±2.1
    90.9±1.1   86.5±19.4   64.6±37.4   75.8±30.4
    1.3±0.4    1.4±0.6     0.0±0.1     0.0±0.0
    27.3±0.8   28.5±2.9    16.7±7.6    20.8±7.1
    17.1±1.0   17.3±0.7    11.2±5.4    14.0±5.0
"""

# Likewise of the one network, of 20, that was best in validation.
_BEST = """
    LSTM  NTM   DNC1  DNC2
    24.5  31.5  0.0   0.0
    53.2  54.5  1.3   0.4
    48.3  43.9  2.4   1.8
    0.4   0.0   0.0   0.0
    3.5   0.8   0.5   0.8
    11.5  17.1  0.0   0.0
    15.0  17.8  0.2   0.6
    16.5  13.8  0.1   0.3
    10.5  16.4  0.0   0.2
    22.9  16.6  0.2   0.2
    6.1   15.2  0.0   0.0
    3.8   8.9   0.1   0.0
    0.5   7.4   0.0   0.1
    55.3  24.2  0.3   0.4
    44.7  47.0  0.0   0.0
    52.6  53.6  52.4  55.1
    39.2  25.5  24.1  12.0
    4.8   2.2   4.0   0.8
    89.5  4.3   0.1   3.9
    1.3   1.5   0.0   0.0
    25.2  20.1  4.3   3.8
    15    15    2     2
"""


class Column(NamedTuple):
    """The errors of one network, in per cent, as they are printed."""

    name: str
    best: bool  # of the best of 20 runs, else the mean of them
    cells: tuple[str, ...]  # of tasks 1 to 20
    mean: str
    failed: str  # tasks with an error above 5 %

    @property
    def errors(self) -> tuple[float, ...]:
        """The cells as numbers, without the deviations."""
        return tuple(float(cell.partition("±")[0]) for cell in self.cells)


def _columns(table: str, best: bool) -> list[Column]:
    columns = zip(*(line.split() for line in table.strip().splitlines()), strict=True)
    return [Column(name, best, tuple(cells[:20]), *cells[20:]) for name, *cells in columns]


COLUMNS = (*_columns(_MEANS, best=False), *_columns(_BEST, best=True))
