"""TensorBoard: the numbers of metrics.jsonl, the settings, and pictures of the memory.

tensorboardX and matplotlib are loaded only when they are needed.
"""

import contextlib
import importlib.util
import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.explore.tracing import trace_task
from dncx.reporting.loggers import numbers
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import CONFIG, METRICS

FOLDER = "tensorboard"  # in the run directory
PICTURE = "memory"  # the tag
DPI = 100  # 720 pixels wide


def check_installed() -> None:
    """Checks that the libraries are installed, before anything is written.

    Raises:
      UsageError: if one of them is missing.
    """
    for name in ("tensorboardX", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"tensorboard: needs {name}: pip install 'dncx[tensorboard]'")


class TensorBoard:
    """A logger for `train` that writes tensorboard/ in a run directory.

    It opens its file at the first line. If training has resumed, TensorBoard hides the numbers
    after the checkpoint; if the run had no TensorBoard before, the earlier lines of metrics.jsonl
    are added.

    Args:
      run_dir: the run directory.
      say: called once if a picture cannot be drawn.

    Raises:
      UsageError: see `check_installed`.
      OSError: if the disk is full or read-only; the methods can raise it, too.

    Example:
      >>> with TensorBoard(run_dir) as board:  # doctest: +SKIP
      ...     train(settings, loggers=[board], picture=board.picture)
    """

    def __init__(self, run_dir: Path, say: Callable[[str], object] = print):
        check_installed()
        self._run_dir, self._say = run_dir, say
        self._writer: Any = None
        self._has_failed = False  # whether drawing a picture has failed

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if self._writer is None:
            return
        if kind is None:
            self._writer.file_writer.add_summary(self._success)
            self._writer.close()
            return
        with contextlib.suppress(OSError):  # the first error is more useful
            self._writer.close()

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Writes the numbers of a line of metrics.jsonl (see `numbers`)."""
        self._writer = self._writer or self._open()
        _add(self._writer, line)
        self._writer.flush()

    def picture(self, task: Any, network: Any, iteration: int) -> None:
        """Draws the memory at work on a fresh sequence of the task, always the same one.

        An error is reported once and does not end the training, since parts of the network and
        the task may be custom.
        """
        from matplotlib.image import imread

        try:
            pixels = imread(_draw(trace_task(task, network, num_episodes=1)))
        except Exception as error:
            if not self._has_failed:
                self._say(f"no picture for TensorBoard: {type(error).__name__}: {error}")
            self._has_failed = True
            return
        self._writer = self._writer or self._open()
        self._writer.add_image(PICTURE, pixels, iteration, dataformats="HWC")
        self._writer.flush()

    def _open(self) -> Any:
        from tensorboardX import SummaryWriter
        from tensorboardX.summary import hparams

        folder, metrics = self._run_dir / FOLDER, self._run_dir / METRICS
        is_new = not folder.exists()
        # The last line is the one that is being logged.
        earlier = read_metrics(metrics)[:-1] if metrics.exists() else []
        kept = earlier[-1]["iteration"] if earlier else 0
        writer: Any = SummaryWriter(
            str(folder.absolute()),  # a relative path may be taken for a URL
            purge_step=None if is_new else kept + 1,
            # A thread writes the events, and ends if the disk is full. A limited queue would then
            # make training wait for that thread forever.
            max_queue=0,
            flush_secs=1,
        )
        config = json.loads((self._run_dir / CONFIG).read_bytes())
        # TensorBoard finds the settings of all runs itself, without the description of an
        # experiment, which would apply to one run only.
        _, settings, self._success = hparams(_flat(config), {})
        writer.file_writer.add_summary(settings, kept)
        for line in earlier if is_new else ():
            _add(writer, line)
        return writer


def _add(writer: Any, line: Mapping[str, Any]) -> None:
    for tag, number in numbers(line).items():
        writer.add_scalar(tag, number, line["iteration"])


def _draw(trace: Any) -> io.BytesIO:
    """A PNG of the memory at work."""
    from dncx.explore import plots

    file = io.BytesIO()
    plots.overview(trace[0]).savefig(file, format="png", dpi=DPI)
    file.seek(0)
    return file


def _flat(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings in config.json by name, "task.num_bits" and so on, for the HParams tab."""
    sections = {
        "task": config["task"]["settings"],
        "network": config["network"] | config["network"]["cell"],
        "optimizer": config["optimizer"],
        "updates": config["updates"],
    }
    return {
        f"{section}.{name}": value if isinstance(value, str | int | float) else json.dumps(value)
        for section, settings in sections.items()
        for name, value in settings.items()
        if value is not None and name != "cell"
    }
