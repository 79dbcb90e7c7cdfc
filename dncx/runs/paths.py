"""The paths of a run and its files. No JAX here, since the command line imports it."""

from pathlib import Path

from dncx.errors import UsageError
from dncx.runs import hub

CONFIG = "config.json"  # the settings of the run
METRICS = "metrics.jsonl"  # one line per report
MODEL = "model.safetensors"  # the trained parameters
CARD = "README.md"  # the model card
FAILURE = "failure"  # folder: the state before non-finite updates
SHIPPED = Path(__file__).parent.parent / "models"  # trained models that ship with dncx


def seed_dir(run_dir: Path, seed: int) -> Path:
    """The run directory of one network of a population."""
    return run_dir / f"seed-{seed}"


def find_run(run: Path) -> Path:
    """The run directory that `run` names: a folder, a shipped model, or a model on the hub.

    A shipped model is found if there is no run directory of its name. A model on the hub
    (`hf://owner/name`) is downloaded.

    Raises:
      UsageError: if the system refuses the name or the access, or the hub has no such model.
    """
    if hub.is_on_hub(run):
        return hub.fetch(run, (CONFIG, MODEL), (CARD,))
    shipped = SHIPPED / run
    try:
        # A folder that only has the name of a model, like the output of `explore`, is not a run.
        return run if (run / CONFIG).exists() or not (shipped / CONFIG).exists() else shipped
    except OSError as error:
        raise UsageError(f"{str(run)[:300]}: {error.strerror}") from error


def shipped_models() -> list[str]:
    """The names of the models that ship with dncx."""
    return sorted(path.parent.name for path in SHIPPED.glob(f"*/{CONFIG}"))
