"""What training writes for TensorBoard: metrics, settings, and pictures of the memory.

tensorboardX has the formats and a `RecordWriter`. Its `SummaryWriter` writes from a thread: kill -9
after a flush loses the last event, and on a full disk training would wait forever. tensorboardX and
matplotlib are loaded only when they are needed.
"""

import contextlib
import importlib.util
import io
import json
import socket
import struct
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from dncx.errors import UsageError
from dncx.explore.record import Trace
from dncx.reporting.loggers import numbers
from dncx.runs.codec import to_plain
from dncx.runs.config import RunConfig
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import METRICS

FOLDER = "tensorboard"  # in the run directory
PICTURE = "memory"  # the tag
DPI = 100  # 720 pixels wide


def check_installed() -> None:
    """Refuses to begin without the libraries, before anything is written.

    Raises:
      UsageError: one of them is not installed.
    """
    for name in ("tensorboardX", "matplotlib"):
        if importlib.util.find_spec(name) is None:
            raise UsageError(f"tensorboard: needs {name}: pip install 'dncx[tensorboard]'")


class TensorBoard:
    """Writes tensorboard/ in a run directory, and is a logger of `train`.

    What it is given is on the disk when the call returns. Where training goes back to an iteration,
    TensorBoard forgets what came after it; where a run that goes on has had no TensorBoard so far,
    it begins with the lines in metrics.jsonl.

    Args:
      run_dir: the run directory.
      config: of the run.
      iteration: from where training goes on; 0 at first.
      say: is told if a picture cannot be drawn, once.

    Raises:
      UsageError: see `check_installed`.
      OSError: the disk refuses; also from the methods.

    Example:
      >>> with TensorBoard(run_dir, config, 0) as board:  # doctest: +SKIP
      ...     board({"iteration": 100, "loss": 0.5})
    """

    def __init__(
        self,
        run_dir: Path,
        config: RunConfig,
        iteration: int,
        say: Callable[[str], object] = print,
    ):
        check_installed()
        from tensorboardX import RecordWriter
        from tensorboardX.summary import hparams

        folder, metrics = run_dir / FOLDER, run_dir / METRICS
        folder.mkdir(parents=True, exist_ok=True)
        path, is_first = _next_file(folder)
        self._say, self._told, self._iteration = say, False, iteration
        # Not the description of an experiment: TensorBoard would show only the settings and
        # metrics of one run of several. Without, it finds all of them by itself.
        _, settings, self._success = hparams(_flat(config), {})
        events = [
            _event(0, file_version="brain.Event:2"),
            _event(iteration + 1, session_log={"status": "START"}),  # forget this step and later
            _event(iteration, summary=settings),
        ]
        if is_first and metrics.exists():
            lines = read_metrics(metrics)
            events += [_scalars(line) for line in lines if line["iteration"] <= iteration]
        self._file = RecordWriter(str(path.absolute()))  # what is not absolute may be an URL to it
        self._write(*events)

    def __enter__(self) -> "TensorBoard":
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._write(_event(self._iteration, summary=self._success))
        self._file.close()

    def __call__(self, line: Mapping[str, Any]) -> None:
        """Writes the numbers of a line of metrics.jsonl (see `numbers`)."""
        self._iteration = line["iteration"]
        self._write(_scalars(line))

    def picture(self, trace: Callable[[], Trace], iteration: int) -> None:
        """Draws the first sequence of what `trace` gives; where that fails, says so once."""
        try:
            png = _draw(trace())
        except Exception as error:  # of whatever kind, as parts and tasks may be a user's own
            if not self._told:
                self._say(f"no picture for TensorBoard: {type(error).__name__}: {error}")
            self._told = True
            return
        self._write(_image(png, iteration))

    def _write(self, *events: Any) -> None:
        """Writes events and waits until the disk has them."""
        try:
            for event in events:
                self._file.write(event.SerializeToString())
            self._file.flush()
        except OSError:
            with contextlib.suppress(OSError):
                self._file.close()
            raise


def _next_file(folder: Path) -> tuple[Path, bool]:
    """Where to write next, and whether it is the first: TensorBoard reads in the order of names."""
    names = [path.name.split(".") for path in folder.glob("events.out.tfevents.*")]
    seconds = [int(name[3]) for name in names if name[3].isdecimal()]
    now = max(int(time.time()), *(second + 1 for second in seconds), 0)
    return folder / f"events.out.tfevents.{now:010d}.{socket.gethostname()}", not names


def _event(step: int, **content: Any) -> Any:
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    return Event(wall_time=time.time(), step=step, **content)


def _scalars(line: Mapping[str, Any]) -> Any:
    values = [{"tag": tag, "simple_value": number} for tag, number in numbers(line).items()]
    return _event(line["iteration"], summary={"value": values})


def _image(png: bytes, iteration: int) -> Any:
    width, height = struct.unpack(">II", png[16:24])  # of its header
    image = {"width": width, "height": height, "colorspace": 4, "encoded_image_string": png}
    return _event(iteration, summary={"value": [{"tag": PICTURE, "image": image}]})


def _draw(trace: Trace) -> bytes:
    """A PNG of what the memory did."""
    from dncx.explore import plots

    file = io.BytesIO()
    plots.overview(trace[0]).savefig(file, format="png", dpi=DPI)
    return file.getvalue()


def _flat(config: RunConfig) -> dict[str, Any]:
    """The settings by name, "task.num_bits" and so on, as the HParams tab can show them."""
    plain = to_plain(config)
    sections = {
        "task": plain["task"]["settings"],
        "network": plain["network"] | plain["network"].pop("cell"),
        "optimizer": plain["optimizer"],
        "updates": plain["updates"],
    }
    return {
        f"{section}.{name}": value if isinstance(value, str | int | float) else json.dumps(value)
        for section, settings in sections.items()
        for name, value in settings.items()
        if value is not None
    }
