"""The dncx command. JAX loads only once there is something to compute."""

import dataclasses
import sys
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import tyro

from dncx.errors import TrainingError, UsageError
from dncx.training.settings import Eval, TrainRepeatCopy

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
    command = tyro.cli(_COMMANDS, args=arguments, prog="dncx", **_STYLE)
    return _run(_train, command.settings) if isinstance(command, Train) else _run(_eval, command)


def train_main(arguments: Sequence[str] | None = None) -> int:
    """The original's `train.py --memory_size=64 ...`; returns the exit code."""
    return _run(_train, tyro.cli(TrainRepeatCopy, args=arguments, prog="train.py", **_STYLE))


def _run(command: Callable[[Any], None], settings: Any) -> int:
    try:
        command(settings)
    except (UsageError, TrainingError) as error:
        print(f"dncx: error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        print("dncx: stopped", file=sys.stderr)
        return 130
    return 0


def _train(settings: TrainRepeatCopy) -> None:
    from dncx.training.loop import train

    train(settings)


def _eval(settings: Eval) -> None:
    from dncx.training.evaluation import evaluate, report

    print(report(evaluate(settings)))


if __name__ == "__main__":
    sys.exit(main())
