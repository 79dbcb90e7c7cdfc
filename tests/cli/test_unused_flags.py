"""No flag is ignored: it changes what is computed, or it is refused when it is given."""

import dataclasses

import jax
import pytest
from flax import nnx

from dncx.cli.main import main
from dncx.errors import UsageError
from dncx.networks.build import make_network
from dncx.networks.config import network_config
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import ModelSettings, TrainSettings
from dncx.settings.unused import unused_flags
from dncx.tasks.settings import CopySettings

# A value for each flag of the network that is not its default.
OTHER = {
    "memory_size": 17,
    "word_size": 15,
    "num_read_heads": 3,
    "num_write_heads": 2,
    "hidden_size": 63,
    "num_layers": 2,
    "controller": "feedforward",
    "equations": "nature",
    "clip_value": 19.0,
    "embedding_size": 7,
    "bidirectional": True,
    "linkage": "none",
    "controller_dtype": "bfloat16",
    "controller_norm": True,
    "interface_norm": True,
    "content_mask": True,
    "least_mask": 0.1,
    "wipe_freed": True,
    "sharpen_links": True,
}


def computed(model):
    """What a network computes: its structure with all options, and the shapes of its weights."""
    config = network_config(model, 6, 5)
    network = nnx.eval_shape(lambda: make_network(config, nnx.Rngs(0)))
    graph, state = nnx.split(network)
    return repr(graph), repr(jax.tree.map(lambda x: x.shape, nnx.to_pure_dict(state)))


@pytest.mark.parametrize("equations", ["deepmind", "nature"])
def test_an_lstm_has_layers(equations):
    """Of any equations, as its controller cannot be chosen."""
    one, two = (ModelSettings(model="lstm", equations=equations, num_layers=n) for n in (1, 2))
    assert computed(one) != computed(two)


def test_every_flag_of_the_network_is_tried():
    fields = {field.name for field in dataclasses.fields(ModelSettings)}
    assert set(OTHER) == fields - {"model", "network"}


STARTS = [{"model": model} for model in ("dnc", "lstm", "ntm", "stack", "tape")]
STARTS += [start | {"equations": "nature"} for start in STARTS]
STARTS += [{"model": model, "controller": "feedforward"} for model in ("dnc", "ntm")]


@pytest.mark.parametrize("start", STARTS, ids=lambda start: " ".join(start.values()))
def test_a_flag_of_the_network_counts_or_is_refused(start):
    before = computed(ModelSettings(**start))
    for flag, value in OTHER.items():
        if flag in start or flag in unused_flags(settings_of(**start)):
            continue
        try:
            after = computed(ModelSettings(**start, **{flag: value}))
        except UsageError:
            continue
        assert after != before, f"--{flag} changes nothing with {start}"


def settings_of(**model):
    return TrainSettings(task=CopySettings(), model=ModelSettings(**model))


@pytest.mark.parametrize(
    "line",
    [
        ["train", "repeat-copy", "--equations=nature", "--clip_value=20"],
        ["train", "repeat-copy", "--clip-value", "20", "--equations", "nature"],
        ["train", "copy", "--model=lstm", "--memory_size=32"],
        ["train", "copy", "--model=lstm", "--num_read_heads=1"],
        ["train", "copy", "--model=ntm", "--implementation=native"],
        ["train", "copy", "--model=ntm", "--linkage=none"],
        ["train", "copy", "--model=lstm", "--linkage=temporal"],
        ["train", "copy", "--preset=ntm-copy", "--implementation=fastest"],
        ["explore", "trace.npz", "--seed=1"],
        ["train", "traversal", "--graph=underground", "--path_length=3", "--last_lesson=14"],
        ["train", "inference", "--graph=family-tree", "--path_length=3", "--last_lesson=1"],
        ["eval", "traversal", "--graph=underground", "--path_length=3", "--last_lesson=3"],
        ["train", "babi", "--data_dir=x", "--language=en-valid-10k", "--validation_seed=1"],
        ["train", "babi", "--data_dir=x", "--auxiliary_word=present"],
        ["train", "babi", "--data_dir=x", "--validation_share=0", "--validation_seed=1"],
        ["train", "babi", "--data_dir=x", "--tasks=1", "--task_sampling=uniform"],
        ["eval", "memory-reuse", "--show_errors=3"],
    ],
)
def test_a_given_flag_without_effect_is_refused(line, tmp_path, monkeypatch, capsys):
    """Also with the value that it has by default, as it does not have it here."""
    monkeypatch.chdir(tmp_path)
    assert main(line) == 2
    given = [word.partition("=")[0].replace("-", "_").strip("_") for word in line]
    error = capsys.readouterr().err
    assert any(flag in error for flag in given[2:])
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("task", DEFAULTS)
def test_the_defaults_of_a_task_are_not_refused(task):
    """The sizes of its memory are defaults, and nobody gave them."""
    settings = dataclasses.replace(
        DEFAULTS[task], model=dataclasses.replace(DEFAULTS[task].model, model="lstm")
    )
    network_config(settings.model, 6, 5)
