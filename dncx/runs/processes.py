"""Several processes that train one run together, for example one on each machine.

All of them run the same program on all devices; the first process writes the files.
"""

import dataclasses
import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

import dncx
from dncx.errors import TrainingError, UsageError
from dncx.runs import clusters
from dncx.settings.training import ScaleSettings

_JOIN_SECONDS = 300  # within which all processes must have started
_HEARTBEAT_SECONDS = 30  # without a heartbeat, after which a process counts as lost
# JAX ends the process by a signal after its own timeout, so ours must be shorter.
_NEVER_SECONDS = 10 * 365 * 86_400


def join(settings: ScaleSettings) -> None:
    """Joins the other processes of the run, if there are any, before anything is computed.

    It first prints how many processes it waits for.

    Raises:
      UsageError: if they do not join in time, or their description is invalid.
    """
    if jax.distributed.is_initialized() or settings.num_processes == 1:
        return
    address, number, count = (
        settings.coordinator_address,
        settings.process_id,
        settings.num_processes,
    )
    method, others = None, f"process {number} of {count}"
    if address:
        _check_address(address, is_here=number == 0)
        others += f" at {address}"
        # Kubernetes need not be queried, and its library may fail.
        method = "deactivate" if "KUBERNETES_SERVICE_HOST" in os.environ else None
    elif peers := clusters.find_peers():
        count, method = peers.num_processes, peers.method
        others = f"one of {count or 'several'} processes that {peers.cluster} started together"
    else:
        if reason := clusters.trains_alone_because():
            print(reason, flush=True)
        return
    print(f"{others}: waiting up to {_JOIN_SECONDS} s for all; {clusters.ALONE}", flush=True)
    _in_time(
        lambda: jax.distributed.initialize(
            address,
            count,
            number,
            cluster_detection_method=method,
            initialization_timeout=_NEVER_SECONDS,
            heartbeat_timeout_seconds=_HEARTBEAT_SECONDS,
        )
    )


def _in_time(initialize: Callable[[], None]) -> None:
    """Waits for JAX in another thread, so that Ctrl-C and our own timeout end the wait.

    Raises:
      UsageError: if it takes too long, or fails.
    """
    failures: list[Exception] = []

    def attempt() -> None:
        try:
            initialize()
        except Exception as error:  # of JAX, of the libraries of clusters, of malformed variables
            failures.append(error)

    thread = threading.Thread(target=attempt, daemon=True)
    thread.start()
    thread.join(_JOIN_SECONDS)
    if thread.is_alive():
        reason = f"not all of them started within {_JOIN_SECONDS} s"
    elif failures:
        reason = f"{type(failures[0]).__name__}: {failures[0]}"
    else:
        return
    raise UsageError(
        f"the processes of this run did not find each other: {reason}\n"
        "Describe them with --coordinator_address, --num_processes and --process_id, or "
        f"{clusters.ALONE} (docs/scaling.md)"
    ) from (failures[0] if failures else None)


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
    """Refuses processes whose settings differ from those of the first process.

    Args:
      settings: a dataclass of dataclasses with everything that a run depends on.

    Raises:
      UsageError: if settings differ; it is raised in all processes and lists the differences.
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


@contextmanager
def losses_reported(left: Callable[[], str]) -> Iterator[None]:
    """Ends the run when another process is lost; `left` describes the last checkpoint."""
    try:
        yield
    except (jax.errors.JaxRuntimeError, ValueError) as error:
        if not of_a_loss(error):
            raise
        reason = str(error).strip().partition("\n")[0][:200]
        raise TrainingError(
            f"another process of this run, or the connection to it, was lost ({reason}); {left()}. "
            "To resume from there, start all processes again with the same command."
        ) from error


def of_a_loss(error: Exception) -> bool:
    """Whether JAX raised an error because another process of the run was lost."""
    of_jax = isinstance(error, jax.errors.JaxRuntimeError) or "Gloo" in str(error)
    return jax.process_count() > 1 and of_jax and "RESOURCE_EXHAUSTED" not in str(error)


def is_primary() -> bool:
    """Whether this process writes the files."""
    return jax.process_index() == 0


def allreduce_max(*numbers: int) -> tuple[int, ...]:
    """The largest of each number in any process; the same in all processes."""
    if jax.process_count() == 1:
        return numbers
    everywhere = multihost_utils.process_allgather(np.asarray(numbers, np.int32))
    return tuple(int(number) for number in np.asarray(everywhere).max(axis=0))


def on_primary(action: Callable[[], Any]) -> Any:
    """Runs a function in the first process only, while the others wait for it.

    Returns:
      The result in the first process, None in the others.

    Raises:
      TrainingError: in the other processes, if it failed in the first, which prints the reason.
    """
    if jax.process_count() == 1:
        return action()
    result, failure = None, None
    if is_primary():
        try:
            result = action()
        except BaseException as error:  # otherwise the others would wait forever
            failure = error
    failed = any(allreduce_max(failure is not None))
    if failure:
        raise failure
    if failed:
        raise TrainingError("the first process failed; it prints the reason")
    return result
