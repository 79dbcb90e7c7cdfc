"""Settings that Python code fills in: values of another type are refused at once."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from dncx.settings.commands import EvalSettings, ExportSettings
from dncx.settings.presets import DEFAULTS
from dncx.settings.training import (
    ModelSettings,
    OptimizerSettings,
    RunSettings,
    ScaleSettings,
    TrainSettings,
)
from dncx.training.loop import train

WRONG = [
    (RunSettings, {"batch_size": "16"}),
    (RunSettings, {"num_training_iterations": 2.5}),
    (RunSettings, {"seed": True}),
    (RunSettings, {"resume": "no"}),
    (RunSettings, {"run_dir": None}),
    (RunSettings, {"run_dir": 3}),
    (RunSettings, {"checkpoint_dir": 3}),
    (RunSettings, {"preset": 3}),
    (RunSettings, {"implementation": 3}),
    (ModelSettings, {"memory_size": "8"}),
    (ModelSettings, {"clip_value": "20"}),
    (OptimizerSettings, {"learning_rate": "1e-3"}),
    (OptimizerSettings, {"momentum": None}),
    (ScaleSettings, {"num_seeds": 2.0}),
    (ExportSettings, {"run_dir": "x", "memory_size": "8"}),
    (EvalSettings, {"run_dir": "x", "task": None, "sweep": (3,)}),
    (TrainSettings, {"task": None, "run": "runs/x"}),
    (TrainSettings, {"task": None, "model": {"memory_size": 3}}),
]


@pytest.mark.parametrize(("settings", "values"), WRONG)
def test_a_value_of_another_type(settings, values):
    name = [*values][-1]
    with pytest.raises(TypeError, match=f"{name}="):
        settings(**values)


def test_values_that_fit():
    run = RunSettings(run_dir="here", batch_size=np.int64(4), skip_spikes=3)
    assert (run.run_dir, run.batch_size, run.skip_spikes) == (Path("here"), 4, 3)
    assert type(run.batch_size) is int
    rate = OptimizerSettings(learning_rate=np.float32(0.5)).learning_rate
    assert (rate, type(rate)) == (0.5, float)


@pytest.mark.parametrize("given", [{}, "copy", DEFAULTS["copy"].run, None])
def test_training_takes_settings(given):
    with pytest.raises(TypeError, match="TrainSettings"):
        train(given)


@pytest.mark.parametrize("settings", DEFAULTS.values(), ids=DEFAULTS)
def test_presets_fit(settings):
    assert dataclasses.replace(settings) == settings
