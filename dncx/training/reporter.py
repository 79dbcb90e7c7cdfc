"""What training tells people."""

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn


class Reporter:
    """Prints reports: under a progress bar on a terminal, as plain lines elsewhere; or nothing."""

    def __init__(self, total: int, quiet: bool = False):
        self.console = Console(highlight=False, soft_wrap=True, quiet=quiet)
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
