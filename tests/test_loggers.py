"""examples/loggers.py with the real trackers, offline: each line of metrics.jsonl arrives.

The trackers are large, so `make test` does not install them; .ci/run does and requires this test.
"""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from tensorboardX.proto.event_pb2 import Event

from dncx.reporting.loggers import numbers
from dncx.runs.metrics import read_metrics

ROOT = Path(__file__).parent.parent
missing = [name for name in ("alembic", "mlflow", "wandb") if not importlib.util.find_spec(name)]
if missing:
    if "DNCX_LOGGER_TESTS" in os.environ:  # as .ci/run sets it
        raise RuntimeError(f"the tests of loggers need {', '.join(missing)}")
    pytest.skip(
        f"NOT RUN: no {', '.join(missing)}; pip install --group loggers", allow_module_level=True
    )
pytestmark = pytest.mark.second_step


def trained(tracker, folder, **variables):
    """Trains as the example does; the numbers in metrics.jsonl as {name: {iteration: value}}."""
    words = [sys.executable, str(ROOT / "examples" / "loggers.py"), tracker, "200"]
    env = os.environ | {"PYTHONPATH": str(ROOT)} | variables
    done = subprocess.run(words, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    found = {}
    for line in read_metrics(folder / "runs" / f"with-{tracker}" / "metrics.jsonl"):
        for name, value in numbers(line).items():
            found.setdefault(name, {})[line["iteration"]] = value
    assert {*found["loss"]} == {100, 200}
    return found


def test_tensorboard(tmp_path):
    expected, found = trained("tensorboard", tmp_path), {}
    (file,) = (tmp_path / "runs" / "with-tensorboard" / "tensorboard").iterdir()
    data = file.read_bytes()
    while data:
        end = struct.unpack("<Q", data[:8])[0] + 12
        event = Event.FromString(data[12:end])
        data = data[end + 4 :]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    assert found.keys() == expected.keys()
    for name, series in expected.items():
        assert found[name] == pytest.approx(series)


def test_wandb(tmp_path):
    """The file from which `wandb sync` uploads has every number."""
    expected = trained("wandb", tmp_path, WANDB_MODE="offline", WANDB_SILENT="true")
    (file,) = tmp_path.glob("wandb/offline-run-*/run-*.wandb")
    found = {}
    for line in logged(file.read_bytes()):
        for name, value in line.items():
            if not name.startswith("_"):
                found.setdefault(name, {})[line["_step"]] = value
    assert found == expected


def logged(data):
    """The logged lines in a .wandb file, as dictionaries.

    After 7 bytes, the file is a log of LevelDB: blocks of 32 KiB with records, each with a checksum
    (4 bytes), a length (2) and a type (1): a message of its own, or a first, middle or last part.
    """
    from wandb.proto.wandb_internal_pb2 import Record

    full, first, last, place, message = 1, 2, 4, 7, b""
    while place < len(data):
        if 2**15 - place % 2**15 < 7:
            place += 2**15 - place % 2**15  # the rest of a block is empty
            continue
        size, kind = struct.unpack("<HB", data[place + 4 : place + 7])
        part = data[place + 7 : place + 7 + size]
        message = part if kind in (full, first) else message + part
        place += 7 + size
        if kind in (full, last) and (items := Record.FromString(message).history.item):
            yield {"/".join(i.nested_key) or i.key: json.loads(i.value_json) for i in items}


def test_mlflow(tmp_path):
    place = f"sqlite:///{tmp_path}/mlflow.db"
    expected = trained("mlflow", tmp_path, MLFLOW_TRACKING_URI=place)
    code = (
        "import json, sys, mlflow\n"
        "client = mlflow.MlflowClient(sys.argv[1])\n"
        "(run,) = client.search_runs(['0'])\n"
        "series = lambda name: client.get_metric_history(run.info.run_id, name)\n"
        "print(json.dumps({'params': run.data.params, 'status': run.info.status, 'metrics':\n"
        "    {n: [[m.step, m.value] for m in series(n)] for n in run.data.metrics}}))\n"
    )
    words = [sys.executable, "-c", code, place]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    found = json.loads(done.stdout.splitlines()[-1])
    assert {name: dict(map(tuple, series)) for name, series in found["metrics"].items()} == expected
    assert found["status"] == "FINISHED"
    assert found["params"]["learning_rate"] == "0.001"
    assert found["params"]["memory_size"] == "16"
