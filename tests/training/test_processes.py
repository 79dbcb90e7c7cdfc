"""Two processes that train one run together: the same network, whatever becomes of one of them."""

import contextlib
import os
import random
import signal
import socket
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from conftest import later

from dncx.cli.main import train_main
from dncx.errors import TrainingError
from dncx.runs import checkpoints, clusters, processes
from dncx.runs.config import read_config
from dncx.runs.directory import load_model
from dncx.runs.metrics import read_metrics
from dncx.runs.paths import CONFIG, SHIPPED
from dncx.runs.progress import Progress
from dncx.runs.state import initial_state
from dncx.settings.training import ScaleSettings

SIZES = ["--hidden_size=8", "--memory_size=8", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=8", "--report_interval=10", "--learning_rate=1e-3"]
TRAIN += ["--num_training_iterations=120", "--checkpoint_interval=40"]


def start(run_dir, *own, by):
    """Both of them, that find each other by flags and environment; with flags of their own."""
    pair = []
    for number in range(2):
        flags, variables = by(number)
        command = [sys.executable, "train.py", *TRAIN, f"--run_dir={run_dir}", *flags]
        pair.append(
            subprocess.Popen(
                [*command, *own[number : number + 1]],
                env=os.environ | {"JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "1"} | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return pair


def free_port(ports=(0,)):
    for port in ports:
        with contextlib.suppress(OSError), socket.create_server(("localhost", port)) as probe:
            return probe.getsockname()[1]
    raise AssertionError("none is free")


def by_flags():
    address = f"--coordinator_address=localhost:{free_port()}"
    return lambda number: ([address, "--num_processes=2", f"--process_id={number}"], {})


def by_slurm():
    """What `srun` tells each of its processes; JAX makes a port of the job's number."""
    first = 2**16 - 2**12
    job = free_port(random.sample(range(first, 2**16), 100)) - first
    told = {"JOB_ID": job, "STEP_NODELIST": "localhost", "NTASKS": 2, "STEP_NUM_NODES": 1}

    def of(number):
        own = told | {"PROCID": number, "LOCALID": number}
        return [], {f"SLURM_{name}": str(value) for name, value in own.items()}

    return of


def test_an_address_that_cannot_be_used(capsys, tmp_path):
    def refused(address):
        flags = ["--num_processes=2", "--process_id=0", f"--run_dir={tmp_path / 'run'}"]
        assert train_main([*TRAIN, *flags, f"--coordinator_address={address}"]) == 2
        return capsys.readouterr().err

    with socket.create_server(("", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        assert f"coordinator_address={address}: Address already in use" in refused(address)
    assert "coordinator_address=nowhere.invalid:1: " in refused("nowhere.invalid:1")
    assert "must be HOST:PORT" in refused("localhost:99999")
    assert not (tmp_path / "run").exists()


def ends(pair):
    """The exit codes of both, and what they print."""
    said = [process.communicate(timeout=600) for process in pair]
    return [process.returncode for process in pair], said


def until_saved(run_dir, pair):
    """Waits for the first checkpoint and the report after it."""
    metrics = run_dir / "metrics.jsonl"
    while not metrics.exists() or not any(x["iteration"] == 50 for x in read_metrics(metrics)):
        assert all(process.poll() is None for process in pair), ends(pair)
        time.sleep(0.02)


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "alone"
    assert train_main([*TRAIN, f"--run_dir={run_dir}"]) == 0
    return run_dir


def assert_same_run(run_dir, other):
    lines, expected = (read_metrics(run / "metrics.jsonl") for run in (run_dir, other))
    assert [x["iteration"] for x in lines] == [x["iteration"] for x in expected]
    np.testing.assert_allclose([x["loss"] for x in lines], [x["loss"] for x in expected], 1e-4)
    model, whole = (load_model(run / "model.safetensors") for run in (run_dir, other))
    for name, value in whole.items():
        np.testing.assert_allclose(model[name], value, atol=1e-3, err_msg=name)


def test_only_the_errors_of_jax_are_lost_processes(monkeypatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    with pytest.raises(RuntimeError, match="a logger's"), processes.losses_reported(str):
        raise RuntimeError("a logger's")
    with pytest.raises(TrainingError, match="was lost"), processes.losses_reported(str):
        raise jax.errors.JaxRuntimeError


def test_a_process_lost_in_a_save_is_no_broken_disk(monkeypatch, tmp_path):
    def refuse(*_):
        raise ValueError("UNKNOWN: Gloo AllGather failed: Connection reset by peer")

    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(processes, "on_primary", refuse)
    state = initial_state({"w": jnp.zeros(3)}, optax.sgd(0.1))
    config = read_config(SHIPPED / "memory-reuse" / CONFIG)
    with pytest.raises(TrainingError, match="was lost"), processes.losses_reported(str):
        checkpoints.save(tmp_path, state, config, Progress(), checkpoints.ALL)


@pytest.mark.second_step
def test_both_need_the_same_settings(tmp_path):
    codes, said = ends(start(tmp_path / "run", "--hidden_size=8", "--hidden_size=9", by=by_flags()))
    assert codes == [2, 2]
    for _, error in said:
        assert "need the same settings:\n  hidden_size: 8 in process 0, 9 in process 1" in error
    assert not (tmp_path / "run").exists()


@pytest.mark.second_step
def test_one_is_killed_and_both_are_started_again(alone, tmp_path):
    """The other one ends by itself, and says what happened; nothing is lost or doubled."""
    pair = start(tmp_path / "run", by=by_flags())
    until_saved(tmp_path / "run", pair)
    pair[1].kill()
    (code, killed), said = ends(pair)
    assert killed == -signal.SIGKILL
    assert code in (1, -signal.SIGABRT), said[0]  # JAX may be quicker to end it than we are
    if code == 1:
        assert "the last good checkpoint is" in said[0][1]
    codes, said = ends(start(tmp_path / "run", by=by_flags()))
    assert codes == [0, 0], said
    assert "resuming from" in said[0][0]
    assert "for 2 devices" in said[0][0]
    assert "iteration" not in said[1][0]  # the first one speaks for both
    assert_same_run(tmp_path / "run", alone)


@pytest.mark.second_step
def test_a_signal_to_one_stops_both_with_a_checkpoint(alone, tmp_path):
    """They are started as Slurm does."""
    pair = start(tmp_path / "run", by=by_slurm())
    until_saved(tmp_path / "run", pair)
    pair[1].send_signal(signal.SIGTERM)
    codes, said = ends(pair)
    assert codes == [143, 143], said
    saved = checkpoints.saved_iterations(tmp_path / "run" / "checkpoints")
    assert f"checkpoints/{saved[-1]}" in said[1][1]
    # What several began, one alone may end.
    assert train_main([*TRAIN, f"--run_dir={tmp_path / 'run'}"]) == 0
    assert_same_run(tmp_path / "run", alone)


STEP = {"SLURM_JOB_ID": "77", "SLURM_PROCID": "0", "SLURM_LOCALID": "0",
        "SLURM_STEP_NODELIST": "localhost", "SLURM_STEP_NUM_NODES": "1"}  # fmt: skip
SHELL = STEP | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "1", "SLURM_JOB_NAME": "bash"}
POD = {"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "3"}
URI = {"OMPI_MCA_orte_hnp_uri": "1.0;tcp://1.2.3.4:5"}
OF_POD = "dnc-3.dnc.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        ({}, None),
        (STEP | {"SLURM_NTASKS": "2"}, ("Slurm", 2, None)),
        (STEP | {"SLURM_NTASKS": "4", "SLURM_STEP_NUM_TASKS": "2"}, ("Slurm", 2, None)),
        (SHELL, None),  # of salloc, in a job of four tasks
        (SHELL | {"SLURM_STEP_NUM_TASKS": ""}, ("Slurm", 4, None)),
        ({"SLURM_NTASKS": "2"}, None),  # in the script of a job, before srun
        (STEP | {"SLURM_NTASKS": "1"}, None),
        (URI | {"OMPI_COMM_WORLD_SIZE": "4"}, ("Open MPI", 4, None)),
        (URI | {"OMPI_COMM_WORLD_SIZE": "1"}, None),
        (SHELL | URI | {"OMPI_COMM_WORLD_SIZE": "4"}, ("Open MPI", 4, None)),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, ("Open MPI", 2, "mpi4py")),  # version 5
        ({"PMI_SIZE": "3", "PMI_RANK": "0"}, ("MPI", 3, "mpi4py")),
        ({"PMI_SIZE": "1", "PMI_RANK": "0"}, None),
        (SHELL | {"PMI_SIZE": "4", "PMI_RANK": "0"}, ("MPI", 4, "mpi4py")),  # mpiexec in salloc
        (POD, None),  # of independent ones
        (POD | {"JAX_COORDINATOR_ADDRESS": "dnc-0:1234"}, ("Kubernetes", None, None)),
        (POD | {"hostname": OF_POD}, ("Kubernetes", None, None)),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "hostname": OF_POD}, None),
        ({"TPU_WORKER_HOSTNAMES": "a,b"}, None),  # not on a TPU's machine
        ({"TPU_WORKER_HOSTNAMES": "a,b", "tpu": "here"}, ("Cloud TPU", 2, None)),
        ({"TPU_WORKER_HOSTNAMES": "a", "tpu": "here"}, None),
        (
            {"TPU_PROCESS_ADDRESSES": "a,b", "tpu": "here", "MEGASCALE_NUM_SLICES": "3"},
            ("Cloud TPU", 6, None),
        ),
    ],
)
def test_which_clusters_are_found(environment, found, monkeypatch):
    """As if all the libraries that JAX needs were installed."""
    variables = dict(environment)
    fqdn, on_tpu = variables.pop("hostname", "dnc-3"), bool(variables.pop("tpu", ""))
    monkeypatch.setattr(clusters.socket, "getfqdn", lambda: fqdn)
    monkeypatch.setattr(clusters, "find_spec", lambda _: True)
    monkeypatch.setattr("jax._src.cloud_tpu_init.running_in_cloud_tpu_vm", on_tpu)
    monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", on_tpu)
    for name in ("TPU_WORKER_HOSTNAMES", "TPU_PROCESS_ADDRESSES"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MEGASCALE_NUM_SLICES", "1")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert clusters.find_peers(variables) == found


@pytest.mark.parametrize(
    "environment",
    [
        SHELL | {"SLURM_STEP_NUM_TASKS": "four"},
        STEP | {"SLURM_NTASKS": "2(x3)"},
        STEP | {"SLURM_NTASKS": "2", "SLURM_PROCID": "-1"},
        STEP | {"SLURM_NTASKS": "2", "SLURM_JOB_ID": "ü"},
        {"OMPI_COMM_WORLD_SIZE": "2.0"},
        URI | {"OMPI_COMM_WORLD_SIZE": "2", "OMPI_COMM_WORLD_RANK": "x"},
        {"OMPI_MCA_orte_hnp_uri": "garbage", "OMPI_COMM_WORLD_SIZE": "2"},
        {"OMPI_COMM_WORLD_SIZE": "2"},
        {"PMI_SIZE": "two"},
        {"PMI_SIZE": "2"},
        {"TPU_WORKER_HOSTNAMES": "a,b", "MEGASCALE_NUM_SLICES": "x"},
        POD | {"JOB_COMPLETION_INDEX": "first"},
        POD | {"JAX_COORDINATOR_ADDRESS": "dnc-0:1234"},  # without its library
        STEP | {"SLURM_NTASKS": "2", "SLURM_STEP_NODELIST": ""},
    ],
)
def test_a_cluster_that_makes_no_sense(environment, tmp_path, monkeypatch, capsys):
    """Exit code 2 and one message, which names how to train alone."""
    monkeypatch.setattr(clusters, "find_spec", lambda _: None)
    monkeypatch.setattr(processes, "_JOIN_SECONDS", 0.5)
    if "MEGASCALE_NUM_SLICES" in environment:
        monkeypatch.setattr("jax._src.cloud_tpu_init.running_in_cloud_tpu_vm", True)
        monkeypatch.setattr("jax._src.clusters.cloud_tpu_cluster.running_in_cloud_tpu_vm", True)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    with monkeypatch.context() as patch:
        if environment.get("SLURM_STEP_NODELIST") == "":
            patch.setattr(jax.distributed, "initialize", lambda *_, **__: {}["no nodes"])
        assert train_main([*TRAIN, f"--run_dir={tmp_path / 'run'}"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dncx: error: ")
    assert "--num_processes=1" in error
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("environment", [SHELL, POD])
def test_a_process_that_trains_alone_on_a_cluster(environment, monkeypatch, capsys):
    """In a shell of Slurm, and in a pod of many independent ones: it waits for nobody."""

    def joined(*_, **__):
        raise AssertionError("it would wait")

    monkeypatch.setattr(jax.distributed, "initialize", joined)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    processes.join(ScaleSettings())
    assert ("headless" in capsys.readouterr().out) is (environment is POD)


WAIT = """
import sys
from dncx.cli.main import leave, train_main
from dncx.runs import processes
processes._JOIN_SECONDS = 1.5
leave(train_main(sys.argv[1:]))
"""


@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("way", ["Slurm", *later("flags")])
def test_others_that_do_not_come(number, way, tmp_path):
    """It says at once for whom it waits, and ends by itself, not by JAX's signal."""
    flags, variables = by_flags()(number) if way == "flags" else by_slurm()(number)
    result = subprocess.run(
        [sys.executable, "-c", WAIT, *TRAIN, *flags, f"--run_dir={tmp_path / 'run'}"],
        env=os.environ | {"JAX_PLATFORMS": "cpu"} | variables,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 2, result.stderr
    assert "--num_processes=1" in result.stdout
    assert "2" in result.stdout.splitlines()[0]
    (message,) = [line for line in result.stderr.splitlines() if "1.5 s" in line]
    assert message.startswith("dncx: error: ")
    assert "Traceback" not in result.stderr
    assert not any(tmp_path.iterdir())


def test_ctrl_c_ends_the_wait(tmp_path):
    flags, _ = by_flags()(0)
    command = [sys.executable, "train.py", *TRAIN, *flags, f"--run_dir={tmp_path / 'run'}"]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        assert "waiting" in process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130


def test_a_coordinator_that_is_not_there(tmp_path, capsys, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError("DEADLINE_EXCEEDED: no coordinator")

    monkeypatch.setattr(processes.jax.distributed, "initialize", refuse)
    address = ["--coordinator_address=localhost:1", "--num_processes=2", "--process_id=1"]
    assert train_main([*TRAIN, *address, f"--run_dir={tmp_path / 'run'}"]) == 2
    assert "DEADLINE_EXCEEDED: no coordinator" in capsys.readouterr().err
    assert not any(tmp_path.iterdir())
