"""`dncx card`: the model card of a run, with the metadata that the Hugging Face hub reads.

Everything in a card comes from the files of the run and from measurements of `dncx eval`; a value
that is not recorded is left out.
"""

import dataclasses
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from dncx.config import DNCConfig
from dncx.errors import UsageError
from dncx.runs.codec import from_json, to_plain
from dncx.runs.config import RunConfig, read_config
from dncx.runs.directory import load_model
from dncx.runs.files import check_folder, make_folder, write_whole
from dncx.runs.metrics import losses, read_metrics
from dncx.runs.paths import CARD, CONFIG, METRICS, MODEL, SHIPPED, find_run
from dncx.runs.progress import Progress
from dncx.runs.trained import find_trained
from dncx.runs.weights import weights_digest
from dncx.settings import presets
from dncx.settings.commands import CardSettings
from dncx.settings.training import MEMORY_RNN, NO_MEMORY
from dncx.training.evaluation import Measurement

PLACE = "hf://OWNER/NAME"  # in a card that is not on the hub yet; `dncx push` puts the name there
_NETWORKS = {
    "dnc": "Differentiable Neural Computer (DNC, Graves et al. 2016)",
    "lstm": "LSTM",
    "gru": "GRU",
    "ntm": "Neural Turing Machine (NTM, Graves et al. 2014)",
    "stack": "stack-RNN (Joulin and Mikolov 2015)",
    "tape": "tape-RNN (Delétang et al. 2023)",
    "custom": "custom network",
}
_TAGS = {
    "dnc": ["differentiable-neural-computer", "memory-augmented-neural-network"],
    "lstm": ["lstm"],
    "gru": ["gru"],
    "ntm": ["neural-turing-machine", "memory-augmented-neural-network"],
    "stack": ["stack-rnn", "memory-augmented-neural-network"],
    "tape": ["tape-rnn", "memory-augmented-neural-network"],
    "custom": ["recurrent-neural-network"],
}
_PIPELINES = {"babi": "question-answering"}  # the hub has no kind of model for the other tasks
_SIZES = ("memory_size", "word_size", "num_read_heads", "num_write_heads", "hidden_size",
          "num_layers", "controller")  # fmt: skip
_IN_A_REPORT = {"iteration", "lesson", "loss", "losses", "grad_norm_max", "skipped", "spikes",
                "iterations_per_second", "validation_error"}  # fmt: skip
_CHECKSUM = "checksum of the weights"  # a row
_LISTED = 20  # values of a list in a table; a vocabulary has hundreds

Rows = Sequence[tuple[str, object]]


class MeasuredScore(NamedTuple):
    """A measured score.

    Attributes:
      on: the episodes that were measured.
      name: the kind of score.
      value: an error between 0 (perfect) and 1.
    """

    on: str
    name: str
    value: float


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
    """The recorded facts about a trained model.

    Attributes:
      name: its title.
      config: the settings of its run, without the folders of this machine.
      progress: the progress of its run.
      num_parameters: the number of its weights.
      weights: their `weights_digest`.
      metrics: the lines of metrics.jsonl, if the run has this file.
      scores: its measured scores.
      license: an identifier of the hub, such as "mit"; None: not stated.
    """

    name: str
    config: RunConfig
    progress: Progress
    num_parameters: int
    weights: str
    metrics: list[dict[str, Any]]
    scores: tuple[MeasuredScore, ...]
    license: str | None


def write_card(settings: CardSettings) -> Iterator[str]:
    """Writes the model card of a run, and yields lines of text about it.

    Raises:
      UsageError: if there is no trained model, the file exists and --force is not given, or the
        measurements are of another model; nothing is written then.
    """
    settings.check()
    out = _file(settings)
    model = describe(settings.run_dir, settings.license, map(Path, settings.scores))
    make_folder(out.parent)
    write_whole(out, card(model).encode())
    yield f"model card: {out}"
    if not model.scores:
        yield (
            f"no scores are recorded; run `dncx eval {settings.run_dir} --out=FILE`, then repeat "
            "this command with --scores=FILE --force"
        )
    if model.license is None:
        yield (
            "no licence is stated; to state one, such as mit, repeat this command with "
            "--license=NAME --force"
        )


def _file(settings: CardSettings) -> Path:
    """The file of the card.

    Raises:
      UsageError: if it exists and --force is not given, or cannot be written.
    """
    own = (settings.run_dir / CONFIG).exists()
    folder = settings.run_dir if own else Path("card") / settings.run_dir.name
    out = settings.out or folder / CARD
    check_folder(out.parent, "out")
    if out.is_dir():
        raise UsageError(f"--out: {out} is a folder; name a file, such as {out / CARD}")
    if out.exists() and not settings.force:
        raise UsageError(f"--out: {out} exists; --force replaces it, --out=OTHER writes elsewhere")
    return out


def describe(place: Path, license: str | None = None, files: Iterable[Path] = ()) -> Model:
    """The recorded facts about a trained model.

    Args:
      place: a run, a model that ships with dncx, or a model on the hub.
      license: an identifier of the hub; by default that of dncx for a model that ships with it.
      files: files written by `dncx eval --out`.

    Raises:
      UsageError: if there is no trained model, or the files are of another one.
    """
    run = find_run(place)
    found = find_trained(run)
    if found.checkpoint is not None:
        raise UsageError(f"{found.note}; only a finished run can be described or uploaded")
    config, progress = read_config(run / CONFIG), found.progress
    arrays = load_model(run / MODEL)
    metrics = read_metrics(run / METRICS) if (run / METRICS).is_file() else []
    scores, weights = [*_recorded(config, progress, metrics)], weights_digest(arrays)
    for file in files:
        scores += _measured(file, config, weights)
    return Model(
        name=place.resolve().name,
        config=published(config),
        progress=progress,
        num_parameters=sum(array.size for array in arrays.values()),
        weights=weights,
        metrics=metrics,
        scores=tuple(scores),
        license=license or ("apache-2.0" if run.parent == SHIPPED else None),
    )


def published(config: RunConfig) -> RunConfig:
    """The settings of a run with names instead of this machine's paths.

    Settings of tasks contain absolute paths, which mean nothing elsewhere.
    """
    settings = {name: _nameless(value) for name, value in config.task.settings.items()}
    initial = config.initial_model
    if initial is not None:
        initial = dataclasses.replace(initial, name=_nameless(initial.name))
    task, network = dataclasses.replace(config.task, settings=settings), config.network
    if network.source is not None:
        source = dataclasses.replace(network.source, file=_nameless(network.source.file))
        network = dataclasses.replace(network, source=source)
    return dataclasses.replace(
        config, task=task, network=network, initial_model=initial, checkpoint_dir=None
    )


def _nameless(value: Any) -> Any:
    """The last part of an absolute path; other values are returned unchanged."""
    if isinstance(value, list):
        return [_nameless(part) for part in value]
    return Path(value).name if isinstance(value, str) and Path(value).is_absolute() else value


def _recorded(
    config: RunConfig, progress: Progress, metrics: Sequence[Mapping[str, Any]]
) -> Iterator[MeasuredScore]:
    """The scores that training has recorded: of the best validation, and of the last lesson."""
    best = progress.validation
    if best and best.error is not None:
        on = f"{config.task.name}, validation set (iteration {best.iteration:,})"
        yield MeasuredScore(on, "mean_error", best.error / 100)
    learned = [line for line in metrics if "lesson" in line and "loss" not in line]
    for line in learned[-1:]:
        on = f"{config.task.name}, lesson {line['lesson']} (iteration {line['iteration']:,})"
        for name in sorted(line.keys() - _IN_A_REPORT):
            yield MeasuredScore(on, name, line[name])


def _measured(file: Path, config: RunConfig, weights: str) -> Iterator[MeasuredScore]:
    """The scores in a file of `dncx eval --out`.

    Raises:
      UsageError: if the file is invalid, or the measurements are of other weights.
    """
    try:
        content = file.read_bytes()
    except OSError as error:
        raise UsageError(f"--scores: {file}: {error.strerror}") from error
    for one in from_json(content, list[Measurement], file):
        if one.weights != weights:
            raise UsageError(
                f"--scores: {file} does not measure this model: measure it with `dncx eval "
                "RUN --out=FILE`"
            )
        for name, value in one.scores.items():
            if math.isfinite(value):
                yield MeasuredScore(_episodes(one, config), name, value)


def _episodes(one: Measurement, config: RunConfig) -> str:
    """The episodes of a measurement, with the settings that differ from training."""
    trained = {**config.task.settings, "name": config.task.name}
    changed = {name: value for name, value in one.task.items() if value != trained.get(name)}
    if one.memory_size != config.network.memory_size:
        changed["memory_size"] = one.memory_size
    episodes = f"{one.num_episodes:,} episodes" if one.num_episodes else "test set"
    return ", ".join(
        [config.task.name, episodes, *(f"{n} {_nameless(value)}" for n, value in changed.items())]
    )


def card(model: Model, place: str = PLACE) -> str:
    """The text of a model card.

    Args:
      model: the facts.
      place: the name under which it can be loaded.
    """
    task = model.config.task
    about = presets.ABOUT.get(task.name, "").partition(" (")[0].rstrip(".")
    title = f"A {_NETWORKS[model.config.network.kind]}, trained with dncx on the task `{task.name}`"
    parts = [
        _front_matter(_metadata(model)),
        f"# {model.name}",
        f"{title}: {about[0].lower()}{about[1:]}." if about else f"{title}.",
        "## Task",
        _table([("task", task.name), *sorted(task.settings.items())]),
        "## Network",
        _table([*_network(model)]),
        "## Training",
        _table([*_training(model)]),
        "## Scores",
        _scores(model),
        "## Use",
        _use(model, place),
        "## Licence",
        f"`{model.license}`" if model.license else "The owner of this model has not stated one.",
    ]
    return "\n\n".join(parts) + "\n"


def _metadata(model: Model) -> dict[str, Any]:
    """The metadata by the names of the hub."""
    task, kind = model.config.task.name, model.config.network.kind
    found: dict[str, Any] = {"library_name": "dncx"}
    if model.license:
        found["license"] = model.license
    if task in _PIPELINES:
        found["pipeline_tag"] = _PIPELINES[task]
    found["tags"] = ["dncx", "jax", "flax", *_TAGS[kind], task]
    if model.scores:
        results = [_result(model, score) for score in model.scores]
        found["model-index"] = [{"name": model.name, "results": results}]
    return found


def _result(model: Model, score: MeasuredScore) -> dict[str, Any]:
    task = model.config.task.name
    return {
        "task": {"type": _PIPELINES.get(task, "other"), "name": task},
        "dataset": {"type": task, "name": score.on},
        "metrics": [{"type": score.name, "name": _words(score.name), "value": score.value}],
    }


def _front_matter(metadata: Mapping[str, Any]) -> str:
    """Metadata between two lines of ---, as YAML."""
    return "\n".join(["---", *_yaml(metadata), "---"])


def _yaml(value: Any) -> Iterator[str]:
    """The lines of a tree of dictionaries and lists as YAML, of which JSON's values are a part."""
    pairs = value.items() if isinstance(value, Mapping) else [(None, one) for one in value]
    for name, one in pairs:
        start = "-" if name is None else f"{name}:"
        if not isinstance(one, Mapping | list):
            yield f"{start} {json.dumps(one)}"
        elif name is None:
            first, *rest = _yaml(one)
            yield from [f"- {first}", *(f"  {line}" for line in rest)]
        else:
            yield from [start, *(f"  {line}" for line in _yaml(one))]


def _network(model: Model) -> Iterator[tuple[str, object]]:
    """The sizes, and the options that differ from google-deepmind/dnc."""
    network = to_plain(model.config.network)
    cell, usual = network.pop("cell"), to_plain(DNCConfig())
    yield "kind", network["kind"]
    yield "parameters", f"{model.num_parameters:,}"
    yield from ((name, network[name]) for name in ("input_size", "output_size"))
    sizes = _SIZES
    if network["kind"] in NO_MEMORY:
        sizes = ("hidden_size", "num_layers")
    elif network["kind"] in MEMORY_RNN:
        sizes = ("memory_size", "word_size", "hidden_size")
    yield from ((name, cell[name]) for name in sizes)
    yield from ((n, network[n]) for n in ("embedding_size", "bidirectional") if network[n])
    if network["kind"] == "dnc":
        others = [n for n in cell if n not in _SIZES and cell[n] != usual[n]]
        yield from ((name, cell[name]) for name in others)


def _training(model: Model) -> Iterator[tuple[str, object]]:
    config, progress, updates = model.config, model.progress, model.config.updates
    changes = [line for one in progress.resumed for line in one.changed]
    yield "iterations", f"{progress.iteration:,}"
    if progress.validation and progress.validation.error is not None:
        yield "weights of iteration", f"{progress.validation.iteration:,} (best validation)"
    yield "batch_size", updates.batch_size
    if not any(line.startswith("batch_size:") for line in changes):
        yield "sequences seen", f"{progress.iteration * updates.batch_size:,}"
    yield "optimiser", "RMSProp"
    for name, value in to_plain(config.optimizer).items():
        if value:  # 0 turns an option off
            yield name, value
    yield "seed", updates.seed
    if progress.lesson:
        yield "lesson reached", progress.lesson
    if config.initial_model:
        yield "initial weights", config.initial_model.name
    for one in progress.resumed:
        for line in one.changed:
            without_folders = re.sub(r"(?<=\s)/\S*/", "", line)
            yield f"changed at iteration {one.iteration:,}", without_folders
    if last := losses(model.metrics):
        iteration = max(last)
        text = f"{last[iteration]:.4g} {config.loss_unit} (iteration {iteration:,})"
        yield "loss in the last report", text
    if (seconds := _seconds(model)) is not None:
        yield "minutes of updates", f"{seconds / 60:.1f} (from the speeds in metrics.jsonl)"
    versions = to_plain(config.versions)
    yield "versions", ", ".join(f"{name} {version}" for name, version in versions.items())
    yield _CHECKSUM, model.weights


def describes_other_weights(text: str, model: Model) -> bool:
    """Whether a card was written for other weights; a card without a checksum is for any."""
    found = re.search(rf"^\| {_CHECKSUM} \| (\w+) \|$", text, re.M)
    return found is not None and found[1] != model.weights


def _seconds(model: Model) -> float | None:
    """The duration of all updates; None unless the reports cover all of them."""
    seconds, before = 0.0, 0
    for line in model.metrics:
        speed = line.get("iterations_per_second")
        if isinstance(speed, int | float) and speed > 0:
            seconds, before = seconds + (line["iteration"] - before) / speed, line["iteration"]
    return seconds if 0 < before == model.progress.iteration else None


def _scores(model: Model) -> str:
    if not model.scores:
        return "No scores are recorded."
    rows = [(score.on, _words(score.name), f"{score.value:.4%}") for score in model.scores]
    return "\n".join(["| measured on | score | value |", "|---|---|---|", *map(_row, rows)])


def _use(model: Model, place: str) -> str:
    task, source = model.config.task.name, model.config.network.source
    if task not in presets.ABOUT:
        return (
            f"The task `{task}` is not part of dncx. Load the model with the program that defines "
            f"the task, as `{place}`."
        )
    if source is not None:
        return (
            f"The network is the custom `{source.name}`, which is not part of dncx. Load the model "
            f'with that function: `dncx.load_run("{place}", network=...)`.'
        )
    return "\n".join(
        [
            "```sh",
            'pip install "dncx[hub]"',
            f"dncx eval {place}",
            f"dncx explore {place}",
            "```",
            "",
            "```python",
            "import dncx",
            "",
            f'run = dncx.load_run("{place}")',
            "print(run.task, run.network)",
            "```",
            "",
            f"The files were written by dncx {model.config.versions.dncx} and contain no code: the "
            f"weights are in `{MODEL}`, the settings in `{CONFIG}`.",
        ]
    )


def _table(rows: Rows) -> str:
    return "\n".join(["| setting | value |", "|---|---|", *map(_row, rows)])


def _row(cells: Sequence[object]) -> str:
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(value: object) -> str:
    """A value within a line of a table."""
    if isinstance(value, list) and len(value) > _LISTED:
        return f"{len(value)} values"
    text = value if isinstance(value, str) else json.dumps(value)
    return re.sub(r"\s+", " ", text).replace("|", "\\|")


def _words(name: str) -> str:
    return name.replace("_", " ")
