"""Errors of the paper's networks on bAbI, quoted for comparison with those of a run."""

from typing import NamedTuple

SOURCE = "Graves et al. 2016, Nature 538, Extended Data Table 1"
NOTES = (
    f"quoted from {SOURCE}: one network for all 20 tasks, en-10k, mean and standard deviation of "
    "20 runs; '-' marks cells that were not legible in our copy",
)
NOT_READ = "-"

# One row per task, then the mean and the number of failed tasks. Errors are in per cent.
_TABLE = """
    LSTM       NTM         DNC1        DNC2
    28.4±1.5   40.6±6.7    9.0±12.6    16.2±13.7
    56.0±1.5   56.3±1.5    39.2±20.5   47.5±17.3
    51.3±1.4   47.8±1.7    39.6±16.4   44.3±14.5
    0.8±0.5    -           0.4±0.7     0.4±0.3
    3.2±0.5    -           1.5±1.0     1.9±0.6
    15.2±1.5   18.4±1.6    6.9±7.5     11.1±7.1
    16.4±1.4   19.9±2.5    9.8±7.0     15.4±7.1
    17.7±1.2   18.5±4.9    5.5±5.9     10.0±6.6
    15.4±1.5   17.9±2.0    7.7±8.3     11.7±7.4
    28.7±1.7   25.7±7.3    9.6±11.4    14.7±10.8
    12.2±3.5   24.4±7.0    3.3±5.7     7.2±8.1
    5.4±0.6    21.9±6.6    5.0±6.3     10.1±8.1
    7.2±2.3    8.2±0.8     3.1±3.6     -
    55.9±1.2   44.9±13.0   11.0±7.5    -
    47.0±1.7   46.5±1.6    27.2±20.1   40.2±11.1
    53.3±1.3   53.8±1.4    53.6±1.9    54.7±1.3
    34.8±4.1   29.9±5.2    32.4±8.0    30.9±10.1
    5.0±1.4    4.5±1.3     4.2±1.8     4.3±2.1
    90.9±1.1   86.5±19.4   64.6±37.4   75.8±30.4
    1.3±0.4    1.4±0.6     0.0±0.1     0.0±0.0
    27.3±0.8   28.5±2.9    16.7±7.6    20.8±7.1
    17.1±1.0   17.3±0.7    11.2±5.4    14.0±5.0
"""


class Column(NamedTuple):
    """The errors of one network, in per cent, as they are printed."""

    name: str
    cells: tuple[str, ...]  # of tasks 1 to 20: "mean±deviation", or NOT_READ
    mean: str
    failed: str  # tasks with an error above 5 %

    def error(self, task: int) -> float | None:
        """The mean error of a task; None if it was not legible."""
        cell = self.cells[task - 1]
        return None if cell == NOT_READ else float(cell.partition("±")[0])


def _columns() -> tuple[Column, ...]:
    columns = zip(*(line.split() for line in _TABLE.strip().splitlines()), strict=True)
    return tuple(Column(name, tuple(cells), mean, failed) for name, *cells, mean, failed in columns)


COLUMNS = _columns()
