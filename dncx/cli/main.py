"""The dncx command. JAX is loaded only when there is something to compute."""

import dataclasses
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import dncx
from dncx.cli import parsing
from dncx.cli.help import Help
from dncx.cli.programs import damaged_programs_replaced, keep_programs
from dncx.errors import TrainingError, UsageError
from dncx.reporting.logs import log_shown
from dncx.reporting.output import discard, replace_unprintable
from dncx.settings import presets
from dncx.settings.commands import (
    CardSettings,
    DebugSettings,
    EvalSettings,
    ExploreSettings,
    ExportSettings,
    ProbeSettings,
    PushSettings,
    RunsSettings,
)
from dncx.settings.training import (
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScaleSettings,
    TrainSettings,
)
from dncx.tasks.acting.settings import ActingSettings

FAILED, INTERRUPTED = 1, 130
_SECTIONS = (
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScaleSettings,
    EvalSettings,
    ExploreSettings,
    ProbeSettings,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """`dncx train TASK`, `eval RUN`, `explore RUN`, ..., `runs`; returns the exit code."""
    return _main(presets.DEFAULTS, arguments, "dncx")


def train_main(arguments: Sequence[str] | None = None) -> int:
    """The original's `train.py --memory_size=64 ...`; returns the exit code."""
    default, given = presets.DEFAULTS["repeat-copy"], _given(arguments)
    return _run(lambda: _carry_out(parsing.parse_training(default, given, "train.py")))


def task_main(
    task: Any,
    arguments: Sequence[str] | None = None,
    *,
    network: Callable[..., Any] | None = None,
) -> int:
    """A command line for one custom task: `train`, `eval RUN`, `explore RUN` and so on.

    Args:
      task: a class that is a `dncx.tasks.base.Task`: a frozen dataclass whose fields, the flags,
        have defaults, with a class variable `name`.
      arguments: by default those of the process.
      network: makes a custom network instead of a DNC; takes the arguments of `dncx.DNC`.

    Returns:
      The exit code.
    """
    return _run(lambda: _main_of_task(task, arguments, network))


def _main_of_task(
    task: Any, arguments: Sequence[str] | None, network: Callable[..., Any] | None
) -> None:
    from dncx.networks.custom import custom_network
    from dncx.tasks.base import Bucketed, Objective, Task
    from dncx.tasks.registry import TASKS

    contract = (Objective, Bucketed if hasattr(task, "buckets") else Task)
    needed = ["name", *(name for part in contract for name in vars(part) if name[0] != "_")]
    if missing := [name for name in needed if not hasattr(task, name)]:
        raise UsageError(
            f"{task.__name__} has no {', '.join(missing)}; see dncx/tasks/base.py for the members"
        )
    taken = {field.name for kind in _SECTIONS for field in dataclasses.fields(kind)}
    if clash := sorted(taken & {field.name for field in dataclasses.fields(task)}):
        raise UsageError(
            f"{', '.join(clash)}: dncx already has flags with these names; rename the fields of "
            f"{task.__name__}"
        )
    TASKS[task.name] = task
    # The flags are parsed first and checked afterwards, so that all errors look alike.
    unchecked = {"__post_init__": lambda self: None, "__doc__": task.__doc__}
    settings = dataclasses.dataclass(frozen=True)(type(task.__name__, (task,), unchecked))
    own = presets.settings_of(settings())
    if network is not None:
        model = dataclasses.replace(own.model, network=custom_network(network).name)
        own = dataclasses.replace(own, model=model)
    _carry_out(parsing.parse({task.name: own}, _given(arguments), Path(sys.argv[0]).name))


def _main(
    tasks: Mapping[str, TrainSettings[Any]], arguments: Sequence[str] | None, program: str
) -> int:
    given = _given(arguments)
    if given == ["--version"]:
        return _run(lambda: print(f"dncx {dncx.__version__}"))
    return _run(lambda: _carry_out(parsing.parse(tasks, given, program)))


def _given(arguments: Sequence[str] | None) -> list[str]:
    return [*(sys.argv[1:] if arguments is None else arguments)]


def _carry_out(asked: Any) -> None:
    """Carries out a parsed command line."""
    commands: dict[type, Callable[[Any], None]] = {
        Help: Help.show,
        TrainSettings: _train,
        EvalSettings: _eval,
        ExploreSettings: _explore,
        ProbeSettings: _probe,
        ExportSettings: _export,
        CardSettings: _card,
        PushSettings: _push,
        DebugSettings: _debug,
        RunsSettings: _runs,
    }
    with damaged_programs_replaced():
        commands[type(asked)](asked)


def console() -> None:
    """The command as installed."""
    leave(main())


def leave(code: int) -> None:
    """Ends the process; after a failure at once, since threads of libraries may delay the end."""
    if code:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            with suppress(OSError):
                stream.flush()
        os._exit(code)
    sys.exit(code)


def _run(command: Callable[[], None]) -> int:
    replace_unprintable(sys.stdout, sys.stderr)
    try:
        command()
        if sys.stdout:  # a daemon has none
            sys.stdout.flush()
    except BrokenPipeError:  # the reader has exited, as in `dncx runs | head`
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
    _warn(message)
    return code


def _warn(message: str) -> None:
    with suppress(OSError):  # the terminal may be closed
        print(f"dncx: {message}", file=sys.stderr, flush=True)


def _train(settings: TrainSettings[Any]) -> None:
    _load_jax(settings.run.compilation_cache)
    if isinstance(settings.task, ActingSettings):
        from dncx.rl.train import train
    else:
        from dncx.training.loop import train

    if not settings.run.tensorboard:
        train(settings)
        return
    from dncx.explore.tensorboard import TensorBoard

    with TensorBoard(settings.run.run_dir) as board:
        train(settings, loggers=[board], picture=board.picture)


def _eval(settings: EvalSettings[Any]) -> None:
    _load_jax(settings.compilation_cache, alone=True)
    from dncx.training.evaluation import evaluate, report

    with log_shown(_warn):
        print(report(evaluate(settings)))


def _explore(settings: ExploreSettings[Any]) -> None:
    _load_jax(settings.compilation_cache, alone=True)
    from dncx.explore.command import explore

    with log_shown(_warn):
        for line in explore(settings):
            print(line, flush=True)


def _probe(settings: ProbeSettings[Any]) -> None:
    _load_jax(settings.compilation_cache, alone=True)
    from dncx.explore.probe import probe

    with log_shown(_warn):
        for line in probe(settings):
            print(line, flush=True)


def _export(settings: ExportSettings) -> None:
    _load_jax(settings.compilation_cache, alone=True)
    from dncx.exporting import export_run

    with log_shown(_warn):
        for line in export_run(settings):
            print(line, flush=True)


def _card(settings: CardSettings) -> None:
    _load_jax(compilation_cache=True)
    from dncx.sharing.card import write_card

    for line in write_card(settings):
        print(line, flush=True)


def _push(settings: PushSettings) -> None:
    _load_jax(compilation_cache=True)
    from dncx.sharing.push import push

    for line in push(settings):
        print(line, flush=True)


def _debug(settings: DebugSettings) -> None:
    _load_jax(settings.compilation_cache, alone=True)
    from dncx.debugging.command import debug

    with log_shown(_warn):
        print(debug(settings))


def _runs(settings: RunsSettings) -> None:
    from dncx.cli.listing import show_runs

    print(show_runs(settings))


def _load_jax(compilation_cache: bool, *, alone: bool = False) -> None:
    """Loads JAX, and the devices if the command computes in this process alone.

    Raises:
      UsageError: if JAX rejects an environment variable or finds no device.
    """
    keep_programs(compilation_cache)
    with _ctrl_c_ends_at_once():
        try:
            from dncx.training.devices import check_devices
        except ValueError as error:  # of JAX, such as JAX_ENABLE_X64=maybe
            raise UsageError(f"JAX cannot start: {error}") from error
        if alone:
            check_devices()


@contextmanager
def _ctrl_c_ends_at_once() -> Iterator[None]:
    """Ends the process at Ctrl-C while JAX loads: a KeyboardInterrupt would break the import."""
    usual = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if not usual or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


if __name__ == "__main__":
    console()
