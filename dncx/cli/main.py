"""The dncx command. JAX loads only once there is something to compute."""

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dncx
from dncx.cli import parsing as commands
from dncx.errors import TrainingError, UsageError
from dncx.reporting.output import discard
from dncx.settings import presets
from dncx.settings.commands import (
    DebugSettings,
    EvalSettings,
    ExploreSettings,
    ExportSettings,
    RunsSettings,
)
from dncx.settings.training import (
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScaleSettings,
    TrainSettings,
)

FAILED, INTERRUPTED = 1, 130
_FLAGS = (ModelSettings, OptimizerSettings, RunSettings, ScaleSettings)
_FLAGS += (EvalSettings, ExploreSettings)


def main(arguments: Sequence[str] | None = None) -> int:
    """`dncx train TASK`, `eval RUN`, `explore RUN`, ..., `runs`; returns the exit code."""
    return _main(presets.DEFAULTS, arguments, "dncx")


def train_main(arguments: Sequence[str] | None = None) -> int:
    """The original's `train.py --memory_size=64 ...`; returns the exit code."""
    default = presets.DEFAULTS["repeat-copy"]
    return _run(lambda: _train(commands.parse_training(default, arguments, "train.py")))


def task_main(task: Any, arguments: Sequence[str] | None = None) -> int:
    """A command line for one task, your own: `train`, `eval RUN` and `explore RUN`.

    Returns the exit code.

    Args:
      task: a class that is a `dncx.tasks.base.Task`: a frozen dataclass whose fields, the flags,
        have defaults, with a class variable `name`.
      arguments: by default those of the process.
    """
    from dncx.runs import directory as runs
    from dncx.tasks.base import Bucketed, Objective, Task

    contract = (Objective, Bucketed if hasattr(task, "buckets") else Task)
    needed = ["name", *(name for part in contract for name in vars(part) if name[0] != "_")]
    if missing := [name for name in needed if not hasattr(task, name)]:
        return _say(
            f"error: {task.__name__} has no {', '.join(missing)}; see dncx/tasks/base.py for what "
            "a task is",
            2,
        )
    taken = {field.name for kind in _FLAGS for field in dataclasses.fields(kind)}
    if clash := sorted(taken & {field.name for field in dataclasses.fields(task)}):
        return _say(
            f"error: {', '.join(clash)}: dncx has flags of these names; call the fields of "
            f"{task.__name__} otherwise",
            2,
        )
    runs.TASKS[task.name] = task
    # The flags are parsed first and checked afterwards, so that errors look like all others.
    unchecked = {"__post_init__": lambda self: None, "__doc__": task.__doc__}
    settings = dataclasses.dataclass(frozen=True)(type(task.__name__, (task,), unchecked))
    own = {task.name: presets.settings_of(settings())}
    return _main(own, arguments, Path(sys.argv[0]).name)


def _main(tasks: dict[str, Any], arguments: Sequence[str] | None, program: str) -> int:
    given = [*(sys.argv[1:] if arguments is None else arguments)]
    if given == ["--version"]:
        print(f"dncx {dncx.__version__}")
        return 0

    def command() -> None:
        settings = commands.parse(tasks, given, program)
        if isinstance(settings, EvalSettings):
            _eval(settings)
        elif isinstance(settings, ExploreSettings):
            _explore(settings)
        elif isinstance(settings, ExportSettings):
            _export(settings)
        elif isinstance(settings, DebugSettings):
            _debug(settings)
        elif isinstance(settings, RunsSettings):
            _runs(settings)
        else:
            _train(settings)

    return _run(command)


def console() -> None:
    """The command as installed."""
    leave(main())


def leave(code: int) -> None:
    """Ends the process, at once after a failure: other libraries' threads may hold up its end."""
    if code:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _run(command: Callable[[], None]) -> int:
    try:
        command()
        if sys.stdout:  # which a daemon has not
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has seen enough, as in `dncx runs | head`
        discard(sys.stdout)
        return 128 + signal.SIGPIPE
    except KeyboardInterrupt as interrupt:
        return _say(str(interrupt) or "stopped", getattr(interrupt, "exit_code", INTERRUPTED))
    except UsageError as error:
        return _say(f"error: {error}", 2)
    except (TrainingError, OSError) as error:
        return _say(f"error: {error}", FAILED)
    except (MemoryError, RuntimeError) as error:  # JAX's own errors are RuntimeErrors
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            advice = "a smaller --batch_size, --memory_size or --hidden_size, shorter sequences"
            return _say(f"error: this does not fit into memory; try {advice}", FAILED)
        raise
    return 0


def _say(message: str, code: int) -> int:
    with suppress(OSError):  # the terminal may be closed
        print(f"dncx: {message}", file=sys.stderr)
    return code


def _train(settings: TrainSettings[Any]) -> None:
    _cache_compilations(settings.run.compilation_cache)
    with _ctrl_c_ends_at_once():
        from dncx.training.loop import train

    if not settings.run.tensorboard:
        train(settings)
        return
    from dncx.explore.tensorboard import TensorBoard

    with TensorBoard(settings.run.run_dir) as board:
        train(settings, loggers=[board], picture=board.picture)


def _eval(settings: EvalSettings[Any]) -> None:
    _cache_compilations(settings.compilation_cache)
    from dncx.training.evaluation import evaluate, report

    print(report(evaluate(settings)))


def _explore(settings: ExploreSettings[Any]) -> None:
    _cache_compilations(settings.compilation_cache)
    from dncx.explore.command import explore

    for line in explore(settings):
        print(line, flush=True)


def _export(settings: ExportSettings) -> None:
    _cache_compilations(settings.compilation_cache)
    from dncx.export import export

    for line in export(settings):
        print(line, flush=True)


def _debug(settings: DebugSettings) -> None:
    _cache_compilations(settings.compilation_cache)
    from dncx.debugging.command import debug

    print(debug(settings))


def _runs(settings: RunsSettings) -> None:
    from dncx.cli.listing import show_runs

    print(show_runs(settings))


@contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """While JAX loads, which cannot bear a KeyboardInterrupt; there is nothing to lose yet."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _cache_compilations(on: bool) -> None:
    """Before JAX loads: compiled programs stay in the user's cache, unless a place is set."""
    if not on:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "dncx"))
    # The small programs that make the first weights are worth keeping, too.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
    if "jax" in sys.modules:  # a task of one's own has loaded it, and the environment is read
        import jax

        jax.config.update("jax_compilation_cache_dir", os.environ["JAX_COMPILATION_CACHE_DIR"])
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
        if not on:
            jax.config.update("jax_enable_compilation_cache", False)


if __name__ == "__main__":
    console()
