"""Options of later publications through the commands: train, resume, eval, explore."""

import numpy as np
import pytest
import safetensors.numpy

from dncx import DNCConfig
from dncx.cli.main import main
from dncx.explore import archive
from dncx.networks.config import network_config
from dncx.runs.directory import load_run
from dncx.settings.presets import PRESETS

SMALL = {"memory_size": 4, "word_size": 3, "num_read_heads": 1, "hidden_size": 5}
TINY = [f"--{name}={value}" for name, value in SMALL.items()]
TINY += [
    "--batch_size=2",
    "--num_bits=2",
    "--min_length=1",
    "--max_length=2",
    "--report_interval=2",
]
ALL = {
    "content_mask": True, "least_mask": 0.1, "wipe_freed": True, "sharpen_links": True,
    "interface_norm": True, "controller_norm": True,
}  # fmt: skip
GROUPS = {
    "all": ALL,
    "adnc": {"linkage": "none", "interface_norm": True, "controller_norm": True},
}


def flags(options):
    return [
        f"--{name}" if value is True else f"--{name}={value}" for name, value in options.items()
    ]


@pytest.mark.second_step
@pytest.mark.parametrize("group", GROUPS)
def test_a_run_with_options(group, tmp_path, capsys):
    """A run that is resumed equals one that is not; every command reads its options."""
    options = flags(GROUPS[group])

    def train(name, iterations):
        run = [f"--run_dir={tmp_path / name}", f"--num_training_iterations={iterations}"]
        return main(["train", "copy", *TINY, *options, *run, "--checkpoint_interval=2"])

    assert [train("straight", 4), train("resumed", 2), train("resumed", 4)] == [0, 0, 0]
    kept = [
        safetensors.numpy.load_file(tmp_path / name / "model.safetensors")
        for name in ("straight", "resumed")
    ]
    assert kept[0].keys() == kept[1].keys()
    for name, array in kept[0].items():
        np.testing.assert_array_equal(array, kept[1][name], err_msg=name)

    run = tmp_path / "resumed"
    _, _, config, _ = load_run(run)
    assert config.network.cell == DNCConfig(**SMALL, **GROUPS[group])
    assert main(["eval", str(run), "--num_episodes=2", "--batch_size=2"]) == 0
    out = tmp_path / "shown"
    assert main(["explore", str(run), "--num_episodes=1", f"--out={out}"]) == 0
    episode = archive.load(next(out.rglob("trace.npz")))[0]
    assert (episode.read_masks is None) == ("content_mask" not in GROUPS[group])


@pytest.mark.parametrize(
    ("line", "flag"),
    [
        *((["--model=lstm", f"--{name}"], name) for name in ALL if name != "controller_norm"),
        *((["--model=ntm", f"--{name}"], name) for name in ALL if name != "controller_norm"),
        (["--controller=feedforward", "--controller_norm"], "controller_norm"),
        (["--least_mask=0.1"], "least_mask"),
        (["--content_mask", "--least_mask=1"], "least_mask"),
        (["--content_mask", "--least_mask=-0.1"], "least_mask"),
        (["--content_mask", "--least_mask=nan"], "least_mask"),
        (["--linkage=none", "--sharpen_links"], "sharpen_links"),
        (["--num_write_heads=2", "--implementation=native"], "write head"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else value,
)
def test_options_without_effect_are_refused(line, flag, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    line = [word + "=0.1" if word == "--least_mask" else word for word in line]
    assert main(["train", "copy", *line]) == 2
    assert flag in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["dnc-md", "dnc-mds", "adnc"])
def test_presets_are_the_variants(name):
    model = PRESETS[name].settings.model
    cell = network_config(model, 6, 5).cell
    sizes = {size: getattr(model, size) for size in SMALL}
    assert cell == getattr(DNCConfig, name.replace("-", "_"))(**sizes)
