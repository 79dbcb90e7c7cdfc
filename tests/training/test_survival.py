"""Training that survives: signals, broken checkpoints, full disks, other processes, bad numbers."""

import asyncio
import contextlib
import dataclasses
import errno
import functools
import io
import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from time import sleep
from types import SimpleNamespace
from typing import ClassVar

import faults
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import tensorstore
from conftest import later

from dncx.cli.main import task_main, train_main
from dncx.errors import TrainingError, UsageError
from dncx.networks.config import NetworkConfig
from dncx.reporting.console import Reporter
from dncx.reporting.output import Output
from dncx.runs import checkpoints, processes
from dncx.runs.config import RunConfig, TaskConfig, UpdatesConfig
from dncx.runs.files import write_whole
from dncx.runs.lock import Locks
from dncx.runs.metrics import Metrics, read_metrics
from dncx.runs.progress import Progress
from dncx.runs.state import DATA, initial_state, stream
from dncx.tasks.repeat_copy import RepeatCopy
from dncx.training import loop

pytestmark = pytest.mark.usefixtures("shared_programs")
SIZES = ["--hidden_size=8", "--memory_size=6", "--word_size=4", "--num_read_heads=2"]
TRAIN = [*SIZES, "--batch_size=4", "--report_interval=10", "--seed=3", "--learning_rate=1e-3"]
ITERATIONS = "--num_training_iterations=35"

CONFIG = RunConfig(
    task=TaskConfig(name="none", settings={}),
    network=NetworkConfig(input_size=1, output_size=1),
    updates=UpdatesConfig(batch_size=1, num_training_iterations=1, seed=0),
    loss_unit="",
)


def train(run_dir, *more):
    return train_main([*TRAIN, ITERATIONS, f"--run_dir={run_dir}", *more])


def files(folder):
    """Every file below, with its content."""
    return {p.relative_to(folder): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def left(run_dir):
    """The model's bytes, and the lines of metrics but for the speed."""
    lines = read_metrics(run_dir / "metrics.jsonl")
    for line in lines:
        del line["iterations_per_second"]
    return (run_dir / "model.safetensors").read_bytes(), lines


@pytest.fixture(scope="module")
def untouched(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "untouched"
    assert train(run_dir) == 0
    return run_dir


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """The same run, stopped at 17, with checkpoints at 7, 14 and 17."""
    run_dir = tmp_path_factory.mktemp("runs") / "stopped"
    with pytest.MonkeyPatch.context() as patch:
        at_iteration(17, patch, lambda: os.kill(os.getpid(), signal.SIGTERM))
        assert train(run_dir, "--checkpoint_interval=7") == 143
    assert checkpoints.saved_iterations(run_dir / "checkpoints") == [7, 14, 17]
    return run_dir


@pytest.fixture
def run_dir(stopped, tmp_path):
    return shutil.copytree(stopped, tmp_path / "run")


def at_iteration(iteration, patch, act):
    """Calls `act` once training has come there, which is a call of its own to the device."""
    advance, next_stop = Reporter.advance, loop._Loop._next_stop

    def advancing(self, reached, speed=""):
        advance(self, reached, speed)
        if reached == iteration:
            act()

    def stops(self, now):
        stop = next_stop(self, now)
        return min(stop, iteration) if now < iteration else stop

    patch.setattr(Reporter, "advance", advancing)
    patch.setattr(loop._Loop, "_next_stop", stops)


# Interruptions


CODES = [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]


@pytest.mark.parametrize(("number", "code"), [CODES[0], *later(*CODES[1:])])
def test_a_signal_stops_with_a_checkpoint(number, code, untouched, tmp_path, monkeypatch, capsys):
    """Also where none are written otherwise; the same command goes on as if nothing had been."""
    before = [signal.getsignal(n) for n, _ in CODES]
    with monkeypatch.context() as patch:
        at_iteration(17, patch, lambda: os.kill(os.getpid(), number))
        assert train(tmp_path / "run") == code
    assert [signal.getsignal(n) for n, _ in CODES] == before
    path = tmp_path / "run" / "checkpoints" / "17"
    message = f"stopped after iteration 17; the same command resumes from the checkpoint {path}"
    assert message in capsys.readouterr().err
    assert train(tmp_path / "run") == 0
    assert left(tmp_path / "run") == left(untouched)


def test_a_signal_at_the_end_changes_nothing(untouched, tmp_path, monkeypatch):
    at_iteration(35, monkeypatch, lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert train(tmp_path / "run") == 0
    assert left(tmp_path / "run") == left(untouched)


def test_a_second_signal_ends_at_once():
    """Even where no Python runs: the main thread computes a hash for many minutes."""
    code = (
        "import hashlib\nfrom dncx.training.interruption import Interruption\n"
        "with Interruption(lambda line: print(line, flush=True)):\n"
        "    print('ready', flush=True)\n"
        "    hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGTERM)
        assert "SIGTERM: stopping after this step" in process.stdout.readline()
        process.send_signal(signal.SIGHUP)  # which is none
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(timeout=0.5)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=300) == 130


def test_two_signals_at_once_are_one(untouched, tmp_path, monkeypatch):
    """As `timeout` sends them: to the process, and to its group."""

    def twice():
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            sleep(0.01)  # or the system would send one only

    at_iteration(17, monkeypatch, twice)
    assert train(tmp_path / "run") == 130
    monkeypatch.undo()
    assert train(tmp_path / "run") == 0
    assert left(tmp_path / "run") == left(untouched)


@contextlib.contextmanager
def on_hang_up(handler):
    before = signal.signal(signal.SIGHUP, handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)


@contextlib.contextmanager
def reader(monkeypatch):
    """Of what is printed; gives what lets it go away."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w", buffering=1) as stdout, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stdout)
        yield lambda: os.close(reading)


def in_a_thread(action):
    """What it gives in another than the main thread."""
    codes = []
    thread = threading.Thread(target=lambda: codes.append(action()))
    thread.start()
    thread.join()
    return codes[0]


WAYS = {
    "": (signal.SIG_DFL, lambda action: action(), 17, 20),
    "under nohup": (signal.SIG_IGN, lambda action: action(), 17, None),
    "in a thread": (signal.SIG_DFL, in_a_thread, 17, 20),
    "before the first step": (signal.SIG_DFL, lambda action: action(), 0, 1),
}


@pytest.mark.parametrize("way", ["", *later(*(way for way in WAYS if way))])
def test_a_reader_that_goes_away(way, untouched, tmp_path, monkeypatch, capsys):
    """Nothing is lost: training stops with a checkpoint, or goes on without a word."""
    handler, place, iteration, stopped = WAYS[way]
    run = functools.partial(train, tmp_path / "run")
    with on_hang_up(handler), reader(monkeypatch) as leave, monkeypatch.context() as patch:
        if iteration:
            at_iteration(iteration, patch, leave)
        else:
            leave()
        assert place(run) == (129 if stopped else 0)
    error, path = capsys.readouterr().err, tmp_path / "run" / "checkpoints" / str(stopped)
    left_off = f"dncx: stopped after iteration {stopped}; the same command resumes from the "
    assert error == (f"{left_off}checkpoint {path}\n" if stopped else "")
    assert run() == 0
    assert left(tmp_path / "run") == left(untouched)


class Elsewhere(io.TextIOBase):
    """A stream that is none of the system's; nobody reads it."""

    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "gone")


def test_a_reader_of_another_kind_of_stream(tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", Elsewhere())
        assert train(tmp_path / "run") == 129
    assert checkpoints.saved_iterations(tmp_path / "run" / "checkpoints") == [1]


def test_without_any_output(untouched, tmp_path, monkeypatch):
    """As daemons train."""
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", None)
        assert train(tmp_path / "run") == 0
    assert left(tmp_path / "run") == left(untouched)


def test_no_file_stays_open_where_nobody_reads(monkeypatch):
    with reader(monkeypatch) as leave:
        leave()
        before, output = len(os.listdir("/dev/fd")), Output(sys.stdout)
        output.write("lost\n")
        output.write("lost, too\n")
        assert output.lost
        assert len(os.listdir("/dev/fd")) == before


@pytest.mark.second_step
def test_training_outside_the_main_thread(untouched, tmp_path):
    """Where no signal may be handled."""
    assert in_a_thread(lambda: train(tmp_path / "run")) == 0
    assert left(tmp_path / "run") == left(untouched)


@pytest.mark.second_step
def test_calls_to_the_device_are_short(tmp_path, monkeypatch):
    """They grow from one iteration on, to as many as take a second, and no further."""
    lengths, advance = [0], Reporter.advance

    def note(self, iteration, speed=""):
        lengths.append(iteration)
        advance(self, iteration, speed)

    monkeypatch.setattr(Reporter, "advance", note)
    monkeypatch.setattr(loop, "CALL_SECONDS", 1e9)  # however slow this machine is
    assert train(tmp_path / "run", "--report_interval=1000") == 0
    assert np.diff(lengths).tolist() == [1, 2, 4, 8, 16, 4]
    monkeypatch.setattr(loop, "CALL_SECONDS", 0.0)
    lengths[:] = [0]
    assert train(tmp_path / "run", "--no-resume") == 0
    assert np.diff(lengths).tolist() == 35 * [1]


# Broken checkpoints


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def largest(folder):
    return max(
        (p for p in folder.rglob("*") if p.is_file() and p.name != "manifest"),
        key=lambda p: p.stat().st_size,
    )


def stray_folder(path):
    shutil.rmtree(path)
    path.mkdir()


def stray_file(path):
    shutil.rmtree(path)
    path.write_text("notes")


def foreign(path):
    shutil.rmtree(path)
    checkpoints.ocp.save(str(path), {"x": jnp.ones(3)}, custom_metadata={"theirs": 1})


def of_another_time(path):
    """The manifest of one checkpoint on the state of another."""
    shutil.copy(path.with_name("14") / "manifest", path)


BROKEN = {
    "flipped": (lambda p: flip(largest(p)), "is corrupt"),
    "cut short": (lambda p: os.truncate(largest(p), 9), "is corrupt"),
    "deleted": (lambda p: largest(p).unlink(), "is missing"),
    "manifest flipped": (lambda p: flip(p / "manifest"), "its manifest is corrupt"),
    "manifest empty": (lambda p: os.truncate(p / "manifest", 0), "its manifest is corrupt"),
    "of another time": (of_another_time, "17: state/"),
    "an empty folder": (stray_folder, "it has no manifest"),
    "a file": (stray_file, "it is not a folder"),
    "foreign": (foreign, "it has no manifest"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_training_goes_back_to_the_newest_whole_checkpoint(
    kind, run_dir, untouched, capsys, monkeypatch
):
    """It says which were not, and keeps them; the run ends as if nothing had been."""
    damage, reason = BROKEN[kind]
    folder = run_dir / "checkpoints"
    damage(folder / "17")
    (folder / "corrupt-17").mkdir()  # of an earlier time
    kept = files(folder / "17") or (folder / "17").is_file()
    assert train(run_dir) == 0
    told = capsys.readouterr().out
    assert f"skipping the checkpoint {folder / '17'}: " in told
    assert reason in told
    assert f"resuming from {folder / '14'}" in told
    aside = folder / "corrupt-17-2"
    assert (files(aside) or aside.is_file()) == kept
    assert left(run_dir) == left(untouched)


def test_where_no_checkpoint_is_whole_it_stops(run_dir, capsys):
    """A run must not begin again by itself, nor change anything."""
    folder = run_dir / "checkpoints"
    for name in ("7", "14", "17"):
        flip(folder / name / "manifest")
    before = files(run_dir)
    assert train(run_dir) == 2
    message = capsys.readouterr().err
    assert f"no checkpoint in {folder} is intact:" in message
    assert all(f"  {name}: its manifest is corrupt" in message for name in ("7", "14", "17"))
    assert files(run_dir) == before
    assert train(run_dir, "--no-resume") == 0
    assert sorted(p.name for p in (run_dir / "earlier-1" / "checkpoints").iterdir()) == [
        "14", "17", "7"
    ]  # fmt: skip


def test_no_checkpoint_goes_before_the_next_is_verified(run_dir, monkeypatch, capsys):
    """The disk gives back other numbers than were written."""
    read = checkpoints._read

    def other(path, like):
        state = read(path, like)
        return state._replace(loss_sum=state.loss_sum + 1) if "saving-" in str(path) else state

    monkeypatch.setattr(checkpoints, "_read", other)
    before = files(run_dir / "checkpoints")
    assert train(run_dir, "--checkpoint_interval=7", "--keep_checkpoints=1") == 1
    error = capsys.readouterr().err
    assert "read back" in error
    assert "the last good checkpoint is" in error
    assert files(run_dir / "checkpoints") == before


def test_what_a_power_cut_leaves(tmp_path, monkeypatch):
    """A checkpoint gets its name, and older ones go, once it and the metrics are on the disk.

    So are the folders that they are in, down from the first that was there before.
    """
    lasting, fsync, rename, mkdir = set(), os.fsync, Path.rename, Path.mkdir
    run_dir, named = tmp_path / "runs" / "run", []
    above = [tmp_path, tmp_path / "runs", run_dir]

    def written(file):
        lasting.add(os.fstat(file).st_ino)
        fsync(file)

    def renaming(self, target):
        if self.name.startswith("saving-"):
            parts = [self, *self.rglob("*"), run_dir / "metrics.jsonl", *above]
            assert [part for part in parts if part.stat().st_ino not in lasting] == []
            named.append(target.name)
            lasting.discard(self.parent.stat().st_ino)
        if str(target.name).startswith("discarded-"):
            assert self.parent.stat().st_ino in lasting
            named.append(target.name)
        return rename(self, target)

    def making(self, *args, **options):
        mkdir(self, *args, **options)
        lasting.discard(self.parent.stat().st_ino)

    def reported(self, line):
        append(self, line)
        for part in (self.path, self.path.parent):
            lasting.discard(part.stat().st_ino)

    append = Metrics.append
    monkeypatch.setattr(os, "fsync", written)
    monkeypatch.setattr(Path, "rename", renaming)
    monkeypatch.setattr(Path, "mkdir", making)
    monkeypatch.setattr(Metrics, "append", reported)
    assert train(run_dir, "--checkpoint_interval=15", "--keep_checkpoints=1") == 0
    assert named == ["15", "30", "discarded-15", "35", "discarded-30"]


def test_a_folder_that_may_only_be_written_to(tmp_path, monkeypatch):
    """A file in it is complete, and that is no error, though nobody can wait for its name."""
    path, opened = tmp_path / "file", os.open

    def opening(path, *how):
        if Path(path).is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, *how)

    monkeypatch.setattr(os, "open", opening)
    write_whole(path, b"all of it")
    assert path.read_bytes() == b"all of it"


# Full and read-only disks


def check_refusal(run_dir, untouched, capfd, reason):
    """What is left after a disk refused to save at 21; and that training goes on from it."""
    error = capfd.readouterr().err
    assert reason in error
    assert len(error.splitlines()) == 1, error
    assert f"the last good checkpoint is {run_dir / 'checkpoints' / '14'}" in error
    assert sorted(p.name for p in (run_dir / "checkpoints").iterdir()) == ["14", "7"]


@pytest.fixture
def limit():
    """Sets the largest size of a file, until the test ends."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.second_step
def test_a_file_that_cannot_be_written(untouched, tmp_path, limit, monkeypatch, capfd):
    with monkeypatch.context() as patch:
        at_iteration(20, patch, lambda: limit(2**12))
        assert train(tmp_path / "run", "--checkpoint_interval=7") == 1
    limit(resource.RLIM_INFINITY)
    check_refusal(tmp_path / "run", untouched, capfd, "File too large")
    assert train(tmp_path / "run", "--checkpoint_interval=7") == 0
    assert left(tmp_path / "run") == left(untouched)


@pytest.fixture
def disk(tmp_path):
    """A small one."""
    with contextlib.ExitStack() as stack:
        try:
            folder = stack.enter_context(faults.small_disk(tmp_path / "disk"))
        except (OSError, subprocess.CalledProcessError) as error:
            pytest.skip(f"no small disk can be mounted here: {error}")
        yield folder


def fill(disk):
    with (disk / "others").open("wb", buffering=0) as file:
        try:
            while file.write(bytes(1024)):
                pass
        except OSError:
            return


def make_read_only(disk):
    """The folder of checkpoints, mounted upon itself: a disk in use cannot become so."""
    folder = str(disk / "run" / "checkpoints")
    subprocess.run(["mount", "--bind", folder, folder], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", folder], check=True)


def make_writable(disk):
    subprocess.run(["umount", str(disk / "run" / "checkpoints")], check=True)


def make_room(disk):
    (disk / "others").unlink()


@pytest.mark.parametrize(
    ("spoil", "mend", "iteration", "reason"),
    [
        (fill, make_room, 20, "No space left on device"),
        *later(
            (fill, make_room, 19, "No space left on device"),
            (make_read_only, make_writable, 15, "Read-only file system"),
        ),
    ],
)
def test_a_disk_that_refuses(spoil, mend, iteration, reason, disk, untouched, monkeypatch, capfd):
    """While saving, and while adding to the metrics."""
    with monkeypatch.context() as patch:
        at_iteration(iteration, patch, lambda: spoil(disk))
        assert train(disk / "run", "--checkpoint_interval=7") == 1
    check_refusal(disk / "run", untouched, capfd, reason)
    mend(disk)
    assert train(disk / "run", "--checkpoint_interval=7") == 0
    assert left(disk / "run") == left(untouched)


def test_a_disk_that_fills_up_in_a_save(disk, untouched, monkeypatch, capfd):
    """Which Orbax calls something else."""
    save = checkpoints.ocp.save

    def saving(path, *content):
        if "saving-21" in path:
            fill(disk)
            raise ValueError("RESOURCE_EXHAUSTED: Failed to write 23")
        save(path, *content)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoints.ocp, "save", saving)
        assert train(disk / "run", "--checkpoint_interval=7") == 1
    said = "No space left on device (ValueError: RESOURCE_EXHAUSTED: Failed to write 23)"
    check_refusal(disk / "run", untouched, capfd, f"checkpoints/21: {said}")


@pytest.mark.parametrize(
    ("error", "free", "reason"),
    [
        (OSError(errno.EROFS, "Read-only"), 0, "OSError: [Errno 30] Read-only; there is"),
        (TrainingError("the first one stopped"), 0, "TrainingError: the first one stopped; there"),
        (ValueError("of Orbax"), 0, "No space left on device (ValueError: of Orbax); there is"),
        (ValueError("of Orbax"), 2**20, "ValueError: of Orbax; there is"),
    ],
)
def test_why_a_save_failed(error, free, reason, tmp_path, monkeypatch):
    """A cause that is known is said. The room that a draft took was free for it."""

    def refuse(*_):
        raise error

    def usage(folder):
        return whole._replace(free=0 if (folder / "saving-0").exists() else free)

    whole = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(checkpoints.ocp, "save", refuse)
    monkeypatch.setattr(checkpoints.shutil, "disk_usage", usage)
    state = initial_state({"w": jnp.zeros(3)}, optax.sgd(0.1))
    with pytest.raises(TrainingError, match=re.escape(f"checkpoint {tmp_path / '0'}: {reason}")):
        checkpoints.save(tmp_path, state, CONFIG, Progress(), checkpoints.ALL)


def test_writes_that_end_after_a_failed_save(tmp_path, monkeypatch):
    """TensorStore cannot report them: Orbax has closed its event loop. Nobody need read that."""
    writes, shown = [], []

    async def write():
        promise, future = tensorstore.Promise.new()
        writes.append((promise, future.__await__()))

    def refuse(*_):
        asyncio.run(write())
        raise ValueError("of Orbax")

    monkeypatch.setattr(sys, "unraisablehook", lambda error: shown.append(error.exc_value))
    monkeypatch.setattr(checkpoints.ocp, "save", refuse)
    state = initial_state({"w": jnp.zeros(3)}, optax.sgd(0.1))
    for _ in range(2):
        with pytest.raises(TrainingError):
            checkpoints.save(tmp_path, state, CONFIG, Progress(), checkpoints.ALL)
    for promise, _ in writes:
        promise.set_result(0)
    sys.unraisablehook(SimpleNamespace(object=None, exc_value=OSError("another")))
    assert [str(error) for error in shown] == ["another"]


def test_a_read_only_disk_is_refused_at_the_start(disk, capsys):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert train(disk / "run") == 2
    assert f"--run_dir: {disk} is on a read-only file system" in capsys.readouterr().err


# Two processes


def held(folder):
    locks = Locks(print)
    folder.mkdir(exist_ok=True)
    locks.take([folder])
    return locks


def test_a_second_process_is_refused(run_dir, capsys):
    """It names the first, and changes nothing."""
    with held(run_dir):
        before = files(run_dir)
        assert train(run_dir) == 2
        message = f"{run_dir} is in use: process {os.getpid()} on "
        assert message in capsys.readouterr().err
        assert files(run_dir) == before
    assert not (run_dir / "lock").exists()
    assert train(run_dir) == 0


@pytest.mark.parametrize("own", [True, False], ids=["its own folder", "another run's"])
def test_checkpoints_elsewhere_are_for_one_process(own, run_dir, tmp_path, capsys):
    elsewhere = tmp_path / "elsewhere" if own else run_dir / "checkpoints"
    with held(elsewhere if own else run_dir):
        assert train(tmp_path / "new", f"--checkpoint_dir={elsewhere}") == 2
    assert f"{elsewhere if own else run_dir} is in use" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_lock_does_not_survive_its_process(tmp_path):
    code = (
        "import os, sys\nfrom pathlib import Path\nfrom dncx.runs.lock import Locks\n"
        "Locks(print).take([Path(sys.argv[1])])\nos._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)]).returncode == 9
    assert (tmp_path / "lock").exists()
    with held(tmp_path), pytest.raises(UsageError, match=f"process {os.getpid()} on"):
        held(tmp_path)
    assert not (tmp_path / "lock").exists()


def test_a_disk_without_locks(tmp_path, monkeypatch, capsys):
    """Training goes on and says so."""

    def refuse(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr("fcntl.flock", refuse)
    with held(tmp_path):
        assert "cannot be locked (Operation not supported)" in capsys.readouterr().out


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_lock_that_cannot_be_signed(number, tmp_path, monkeypatch):
    """On a full disk it is held all the same; a broken one is said."""

    def refuse(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "write", refuse)
    with contextlib.ExitStack() as stack:
        if number == errno.EIO:
            stack.enter_context(pytest.raises(OSError, match="Input/output error"))
        with held(tmp_path), pytest.raises(UsageError, match="another process is training there"):
            held(tmp_path)


# Bad numbers


@dataclasses.dataclass(frozen=True)
class Poisoned(RepeatCopy):
    """Repeat copy with a share of batches that are not numbers."""

    name: ClassVar[str] = "poisoned"
    percent: int = 30

    def sample(self, key, batch_size):
        episode = super().sample(key, batch_size)
        factor = jnp.where(self.is_bad(key), jnp.nan, 1.0).astype(episode.inputs.dtype)
        return episode._replace(inputs=episode.inputs * factor)

    def is_bad(self, key):
        return jax.random.bernoulli(jax.random.fold_in(key, 99), self.percent / 100)


def train_poisoned(run_dir, *more):
    arguments = ["train", *TRAIN, ITERATIONS, f"--run_dir={run_dir}", *more]
    return task_main(Poisoned, arguments)


def bad_iterations():
    """Those, counted from 1, whose batch is bad."""
    data = stream(3, DATA)
    return [i + 1 for i in range(35) if Poisoned().is_bad(jax.random.fold_in(data, i))]


def test_updates_that_are_not_finite_are_skipped_and_counted(tmp_path, monkeypatch, capsys):
    bad = bad_iterations()
    assert train_poisoned(tmp_path / "run") == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    expected = [sum(i - 10 < n <= min(i, 35) for n in bad) for i in (10, 20, 30, 40)]
    assert [line["skipped"] for line in lines] == expected
    assert min(expected) > 0
    assert all(5 < line["loss"] < 20 for line in lines)  # the average of the others
    assert f"{expected[0]} non-finite updates skipped, average loss" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        at_iteration(bad[5], patch, lambda: os.kill(os.getpid(), signal.SIGINT))
        assert train_poisoned(tmp_path / "stopped") == 130
    assert train_poisoned(tmp_path / "stopped") == 0
    assert left(tmp_path / "stopped") == left(tmp_path / "run")


@pytest.mark.second_step
def test_a_report_without_any_update(tmp_path):
    """It has no average loss, which is null, and a line of JSON all the same."""
    assert train_poisoned(tmp_path / "run", "--report_interval=1") == 0
    lines = read_metrics(tmp_path / "run" / "metrics.jsonl")
    assert [line["iteration"] for line in lines if line["loss"] is None] == bad_iterations()


@pytest.mark.second_step
def test_too_many_in_a_row_stop_with_what_was_seen(tmp_path, capsys):
    """The state before the first of them is saved; from there the same happens again."""
    bad = bad_iterations()
    first = next(n for n in bad if n + 1 in bad)
    flags = ["--max_skipped_updates=2", "--checkpoint_interval=2"]
    for time in (1, 2):
        assert train_poisoned(tmp_path / "run", *flags) == 1
        message = capsys.readouterr().err
        assert f"not finite, in iterations {first} to {first + 1}" in message
        assert "the loss is nan; non-finite norms of gradients: " in message
        assert "controller.gates.kernel (nan)" in message
        failure = tmp_path / "run" / "failure"
        assert f"in {failure / str(first - 1)};" in message
        assert "`python your_task.py debug " in message
        assert "; the last good checkpoint is " in message
        assert (tmp_path / "run" / f"earlier-{time - 1}" / "failure").exists() is (time == 2)
    found, broken = checkpoints.newest_intact(failure)
    assert not broken
    assert found.manifest.failure.gradient["controller.gates.kernel"] == "nan"
    saved = checkpoints.saved_iterations(tmp_path / "run" / "checkpoints")
    assert saved[-1] in (first - 1, first)
    # as a checkpoint, it leads there again
    again = shutil.copytree(failure, tmp_path / "again" / "checkpoints")
    assert train_poisoned(again.parent, *flags) == 1
    assert f"in iterations {first} to {first + 1}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (
            TrainingError("cannot save the checkpoint 3: the disk is full; there is no other"),
            "cannot save the checkpoint 3: the disk is full",
        ),
        (ValueError("Gloo AllGather failed: reset by peer\nmore"), "Gloo AllGather failed: reset"),
    ],
    ids=["disk", "lost process"],
)
def test_a_failure_that_cannot_be_saved(error, reason, tmp_path, monkeypatch, capsys):
    """What was seen is said all the same."""

    def refuse(*_, **__):
        raise error

    monkeypatch.setattr(processes, "of_a_loss", lambda error: "Gloo" in str(error))
    monkeypatch.setattr(checkpoints, "save", refuse)
    assert train_poisoned(tmp_path / "run", "--max_skipped_updates=2") == 1
    message = capsys.readouterr().err
    assert "2 updates in a row are not finite" in message
    assert "non-finite norms of gradients: " in message
    assert f"The state before it could not be saved ({reason}" in message
    assert "); there is no checkpoint yet" in message


# All of it together


@pytest.mark.second_step
def test_killed_and_damaged_again_and_again(tmp_path):
    """The short form of `python -m tests.faults`."""
    counts = faults.inject(Path(tmp_path), faults=6, iterations=8000, seed=2)
    assert counts["kills"] == 6
    assert counts["damages"] > 0
    assert counts["runs equal to the untouched one"] > 0


@pytest.mark.second_step
def test_a_disk_that_fills_up_again_and_again(disk, tmp_path):
    """Likewise of its `--full_disks`."""
    counts = faults.fill_disks(tmp_path / "runs", disk, full_disks=2, iterations=6000, seed=2)
    assert counts["disks filled"] == 2
