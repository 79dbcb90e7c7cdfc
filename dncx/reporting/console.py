"""Printed output of training."""

import os
import sys
import time
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from dncx.reporting.output import Output, replace_unprintable

_SECONDS = 2.0  # between reports on a terminal: a person reads no faster
_CUT = " ..."


class Reporter:
    """Prints reports, on a terminal together with a progress bar; prints nothing if quiet.

    A terminal shows at most one report every two seconds, with samples that fit its width. A file,
    a pipe or a notebook gets all reports in full, as plain lines.
    """

    def __init__(self, total: int, quiet: bool = False):
        replace_unprintable(sys.stdout)
        self._output: Any = Output(sys.stdout) if sys.stdout else None  # a daemon has none
        # Without these two, rich would take a pipe for a terminal if FORCE_COLOR is set, and would
        # write HTML in a notebook.
        self.console = Console(
            file=self._output,
            force_terminal=_is_terminal(sys.stdout),
            force_jupyter=False,
            highlight=False,
            soft_wrap=True,
            quiet=quiet,
        )
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
        self._total = total
        self._last_report = -_SECONDS

    def __enter__(self) -> "Reporter":
        return self

    def __exit__(self, *_: object) -> None:
        self.progress.stop()

    def nobody_reads(self) -> bool:
        """Whether the terminal was closed, or the program that read the reports has exited."""
        return self._output is not None and self._output.lost

    def say(self, text: str) -> None:
        """Prints one or several lines."""
        self.console.print(text, markup=False)

    def report(self, text: str, sample: str, iteration: int) -> None:
        """Prints a report and a sample, unless the last one was just printed on a terminal."""
        if self.console.is_terminal:
            now = time.monotonic()
            if now - self._last_report < _SECONDS and iteration < self._total:
                return
            self._last_report = now
            sample = "\n".join(self._cut(line) for line in sample.splitlines())
        self.say(f"{text}\n{sample}")

    def show_bar(self) -> None:
        """Shows the progress bar."""
        self.progress.start()

    def advance(self, iteration: int, speed: str = "") -> None:
        """Updates the progress bar; `speed` stands before it."""
        said = f"training, {speed}" if speed else "training"
        self.progress.update(self.bar, completed=iteration, description=said)

    def _cut(self, line: str) -> str:
        width = self.console.width
        return line if len(line) <= width else line[: max(0, width - len(_CUT))] + _CUT


def _is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal on which a line can be replaced.

    A command in a notebook (`!dncx train`) has a terminal whose output the notebook only collects.
    Jupyter sets JPY_PARENT_PID for notebooks, and not for the terminals that it opens.
    """
    return stream is not None and "JPY_PARENT_PID" not in os.environ and stream.isatty()
