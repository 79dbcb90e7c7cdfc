"""Several processes that train one run together, such as one a machine.

All of them compute the same program on the devices of all; the first one writes.
"""

import dataclasses
import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

import dncx
from dncx.errors import TrainingError, UsageError
from dncx.settings.training import ScaleSettings

_JOIN_SECONDS = 300  # in which all have to be there
_HEARTBEAT_SECONDS = 30  # without a sign of life, after which a process counts as lost


def join(settings: ScaleSettings) -> None:
    """Joins the other processes of the run, if there are any. Before anything is computed.

    It waits for them, and says so where no cluster started them.

    Raises:
      UsageError: they were not found.
    """
    if jax.distributed.is_initialized() or settings.num_processes == 1:
        return
    try:
        if settings.coordinator_address:
            _check_address(settings.coordinator_address, is_here=settings.process_id == 0)
            print(
                f"process {settings.process_id} of {settings.num_processes}: waiting up to "
                f"{_JOIN_SECONDS} s for all of them at {settings.coordinator_address}",
                flush=True,
            )
            jax.distributed.initialize(
                settings.coordinator_address,
                settings.num_processes,
                settings.process_id,
                initialization_timeout=_JOIN_SECONDS,
                heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
            )
        elif _is_one_of_many(os.environ):
            jax.distributed.initialize(heartbeat_timeout_seconds=_HEARTBEAT_SECONDS)
    except (RuntimeError, ValueError) as error:
        raise UsageError(
            f"the processes of this run did not find each other: {error}\n"
            "--coordinator_address, --num_processes and --process_id tell them; "
            "--num_processes=1 trains in each by itself (docs/scaling.md)"
        ) from error


def _check_address(address: str, *, is_here: bool) -> None:
    """Refuses an address that cannot be used; JAX would wait for it, or end by a signal."""
    host, _, port = address.rpartition(":")
    try:
        socket.getaddrinfo(host, int(port))
        if is_here:
            socket.create_server(("", int(port))).close()
    except OSError as error:
        raise UsageError(f"coordinator_address={address}: {error.strerror}") from error


def agree(settings: Any) -> None:
    """Refuses processes that were not started with the settings of the first.

    Args:
      settings: a dataclass of dataclasses with all that a run depends on.

    Raises:
      UsageError: in all of them, with a list of what differs.
    """
    if jax.process_count() == 1:
        return
    sections = {"versions": {"dncx": dncx.__version__, "jax": jax.__version__}}
    sections |= dataclasses.asdict(settings)
    named = {f"{s}.{name}": value for s, part in sections.items() for name, value in part.items()}
    named.pop("scale.process_id")
    text = np.frombuffer(json.dumps(named, default=str).encode(), np.uint8)
    (longest,) = allreduce_max(len(text))
    padded = np.pad(text, (0, longest - len(text)), constant_values=ord(" "))
    rows = np.asarray(multihost_utils.process_allgather(padded))
    first, *others = [json.loads(row.tobytes()) for row in rows]
    differences = [
        f"{name.partition('.')[2]}: {value} in process 0, {other.get(name)} in process {number}"
        for number, other in enumerate(others, start=1)
        for name, value in first.items()
        if other.get(name) != value
    ]
    if differences:
        raise UsageError(
            "the processes of a run need the same settings:\n  " + "\n  ".join(differences)
        )


def _is_one_of_many(environment: Mapping[str, str]) -> bool:
    """Whether a cluster started this process together with others.

    JAX knows where they are, or ends with what it lacks, as under Open MPI 5.
    """
    slurm = "SLURM_STEP_NODELIST" in environment and int(environment.get("SLURM_NTASKS", 1)) > 1
    open_mpi = int(environment.get("OMPI_COMM_WORLD_SIZE", 1)) > 1
    pod, index = "KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"
    return slurm or open_mpi or (pod in environment and index in environment)


@contextmanager
def losses_reported(left: Callable[[], str]) -> Iterator[None]:
    """Ends the run where another process of it is gone; `left` says what there is then."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not of_a_loss(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200]
        raise TrainingError(
            f"another process of this run was lost, or the way to it ({reason}); {left()}. Once "
            "all processes are started again, the same command goes on from there."
        ) from error


def of_a_loss(error: Exception) -> bool:
    """Whether an error is what JAX raises where another process of the run is gone."""
    of_jax = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
    return jax.process_count() > 1 and of_jax and "RESOURCE_EXHAUSTED" not in str(error)


def is_primary() -> bool:
    """Whether this process is the one that writes."""
    return jax.process_index() == 0


def allreduce_max(*numbers: int) -> tuple[int, ...]:
    """The largest of each number in any process: the same in all of them."""
    if jax.process_count() == 1:
        return numbers
    everywhere = multihost_utils.process_allgather(np.asarray(numbers, np.int32))
    return tuple(int(number) for number in np.asarray(everywhere).max(axis=0))


def on_primary(action: Callable[[], Any]) -> Any:
    """Lets the first process do what is done once, while the others wait for it.

    Returns:
      What it gives in the first process, None in the others.

    Raises:
      TrainingError: in the others, if it failed in the first, which says why.
    """
    if jax.process_count() == 1:
        return action()
    result, failure = None, None
    if is_primary():
        try:
            result = action()
        except BaseException as error:  # the others must not wait for ever
            failure = error
    failed = any(allreduce_max(failure is not None))
    if failure:
        raise failure
    if failed:
        raise TrainingError("the first process stopped, and says why")
    return result
