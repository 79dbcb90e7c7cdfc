"""What training tells people."""

import contextlib
import errno
import os
import signal
import sys
from collections.abc import Iterator
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Prints reports: under a progress bar on a terminal, as plain lines elsewhere; or nothing."""

    def __init__(self, total: int, quiet: bool = False):
        output: Any = _Output()
        self.console = Console(file=output, highlight=False, soft_wrap=True, quiet=quiet)
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

    def say(self, text: str) -> None:
        """A line, or several."""
        self.console.print(text, markup=False)

    def advance(self, iteration: int) -> None:
        """Moves the bar."""
        self.progress.update(self.bar, completed=iteration)


class _Output:
    """Standard output, whose terminal or reader may go away.

    That is a hang-up, which stops training with a checkpoint as a signal does, and under nohup
    nothing at all; what is said afterwards is lost, and no error.
    """

    def __init__(self) -> None:
        self._gone = False

    @property
    def _stream(self) -> Any:
        """The present one, below what rich puts in its place while there is a bar."""
        return getattr(sys.stdout, "rich_proxied_file", sys.stdout)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """All of it, or nothing."""
        with self._lasting():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """If there is somebody to read."""
        with self._lasting():
            self._stream.flush()

    @contextlib.contextmanager
    def _lasting(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            if error.errno not in (errno.EPIPE, errno.EIO):
                raise
            os.dup2(os.open(os.devnull, os.O_WRONLY), self._stream.fileno())
            if not self._gone:
                self._gone = True
                os.kill(os.getpid(), signal.SIGHUP)
