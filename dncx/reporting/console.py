"""What training tells people."""

import sys
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dncx.reporting.output import Output


class Reporter:
    """Prints reports: under a progress bar on a terminal, as plain lines elsewhere; or nothing."""

    def __init__(self, total: int, quiet: bool = False):
        self._output: Any = Output(sys.stdout) if sys.stdout else None  # there need not be any
        self.console = Console(file=self._output, highlight=False, soft_wrap=True, quiet=quiet)
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self.console,
            disable=quiet or not self.console.is_terminal,
            transient=True,
        )
        self.bar = self.progress.add_task("training", total=total)

    def __enter__(self) -> "Reporter":
        self.progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def nobody_reads(self) -> bool:
        """Whether the terminal, or what read the reports, has gone away."""
        return self._output is not None and self._output.lost

    def say(self, text: str) -> None:
        """A line, or several."""
        self.console.print(text, markup=False)

    def advance(self, iteration: int) -> None:
        """Moves the bar."""
        self.progress.update(self.bar, completed=iteration)
