"""The dncx command. JAX loads only once there is something to compute."""

import dataclasses
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

import dncx
from dncx.errors import TrainingError, UsageError
from dncx.training.settings import Eval, TrainRepeatCopy

INTERRUPTED = 130
_STYLE: dict[str, Any] = {
    "use_underscores": True,
    "config": (
        tyro.conf.OmitArgPrefixes,
        tyro.conf.OmitSubcommandPrefixes,
        tyro.conf.DisallowNone,
        tyro.conf.PositionalMetavarFromFieldName,
    ),
}


@dataclasses.dataclass(frozen=True)
class Train:
    """Train a DNC on a task.

    Options are spelled with _ or with -, and take their value after = or a space.
    """

    task: Annotated[Literal["repeat-copy"], tyro.conf.Positional]
    """What to learn."""
    settings: TrainRepeatCopy


_COMMANDS: Any = (
    Annotated[Train, tyro.conf.subcommand("train")] | Annotated[Eval, tyro.conf.subcommand("eval")]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """`dncx train TASK` and `dncx eval RUN`; returns the exit code."""
    if (sys.argv[1:] if arguments is None else [*arguments]) == ["--version"]:
        print(f"dncx {dncx.__version__}")
        return 0
    command = tyro.cli(_COMMANDS, args=arguments, prog="dncx", **_STYLE)
    return _run(_train, command.settings) if isinstance(command, Train) else _run(_eval, command)


def train_main(arguments: Sequence[str] | None = None) -> int:
    """The original's `train.py --memory_size=64 ...`; returns the exit code."""
    return _run(_train, tyro.cli(TrainRepeatCopy, args=arguments, prog="train.py", **_STYLE))


def console() -> None:
    """The command as installed."""
    leave(main())


def leave(code: int) -> None:
    """Ends the process, at once after Ctrl-C: JAX's threads may not survive an orderly end."""
    if code == INTERRUPTED:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _run(command: Callable[[Any], None], settings: Any) -> int:
    try:
        command(settings)
    except KeyboardInterrupt as interrupt:
        return _say(str(interrupt) or "stopped", INTERRUPTED)
    except UsageError as error:
        return _say(f"error: {error}", 2)
    except (TrainingError, OSError) as error:
        return _say(f"error: {error}", 1)
    except (MemoryError, RuntimeError) as error:  # JAX's own errors are RuntimeErrors
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            advice = "a smaller --batch_size, --memory_size or --hidden_size, shorter sequences"
            return _say(f"error: this does not fit into memory; try {advice}", 1)
        raise
    return 0


def _say(message: str, code: int) -> int:
    print(f"dncx: {message}", file=sys.stderr)
    return code


def _train(settings: TrainRepeatCopy) -> None:
    _cache_compilations(settings.run.compilation_cache)
    from dncx.training.loop import train

    train(settings)


def _eval(settings: Eval) -> None:
    _cache_compilations(settings.compilation_cache)
    from dncx.training.evaluation import evaluate, report

    print(report(evaluate(settings)))


def _cache_compilations(on: bool) -> None:
    """Before JAX loads: compiled programs stay in the user's cache, unless a place is set."""
    if not on:
        os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    os.environ.setdefault("JAX_COMPILATION_CACHE_DIR", str(home / "dncx"))
    # The small programs that make the first weights are worth keeping, too.
    os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")


if __name__ == "__main__":
    console()
