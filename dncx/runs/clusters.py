"""Detects from the environment whether a cluster started this process together with others.

JAX finds the others itself, but it joins them whenever there is a cluster. In a shell on a cluster,
or in one of many independent jobs, it would wait for processes that never come. Therefore, JAX is
used only if the cluster reports that this job step has several processes.
"""

import os
import socket
from collections.abc import Mapping
from importlib.util import find_spec
from typing import NamedTuple

from dncx.errors import UsageError, quoted

ALONE = "use --num_processes=1 to train in this process alone"


class Peers(NamedTuple):
    """The processes that a cluster started together, including this one."""

    cluster: str  # its name, for people
    num_processes: int | None  # None: only JAX can find it out
    method: str | None = None  # JAX's cluster_detection_method; None: JAX detects it automatically


def find_peers(environment: Mapping[str, str] | None = None) -> Peers | None:
    """The processes that train together with this one; None if it trains alone.

    Clusters are detected in JAX's order.

    Args:
      environment: by default that of the process.

    Raises:
      UsageError: if a variable is malformed, or if JAX cannot find the other processes.
    """
    variables = os.environ if environment is None else environment
    return (
        _open_mpi(variables)
        or _slurm(variables)
        or _other_mpi(variables)
        or _tpu_pod(variables)
        or _kubernetes(variables)
    )


def trains_alone_because(environment: Mapping[str, str] | None = None) -> str:
    """The reason why one of several pods trains alone, which may surprise its user; or ""."""
    variables = os.environ if environment is None else environment
    if _is_indexed_pod(variables) and find_peers(variables) is None:
        return (
            "this pod of an indexed job trains alone, because the job has no headless service "
            "(docs/scaling.md)"
        )
    return ""


def _open_mpi(variables: Mapping[str, str]) -> Peers | None:
    count, *_ = _numbers(variables, "OMPI_COMM_WORLD_", "SIZE", "RANK", "LOCAL_RANK")
    if not count or count == 1:
        return None
    # Up to version 4, Open MPI provides the address of its first process, which JAX reads.
    if "OMPI_MCA_orte_hnp_uri" in variables:
        return Peers("Open MPI", count)
    return Peers("Open MPI", count, _mpi4py(f"OMPI_COMM_WORLD_SIZE={count}"))


def _slurm(variables: Mapping[str, str]) -> Peers | None:
    """A step of Slurm; SLURM_NTASKS counts the tasks of its job."""
    if "SLURM_STEP_NODELIST" not in variables:
        return None
    names = ("STEP_NUM_TASKS", "NTASKS", "PROCID", "LOCALID", "JOB_ID")
    of_step, of_job, *_ = _numbers(variables, "SLURM_", *names)
    count = of_step or of_job or 1
    return Peers("Slurm", count) if count > 1 else None


def _other_mpi(variables: Mapping[str, str]) -> Peers | None:
    """MPICH, Intel MPI and others that start processes by PMI, within a step of Slurm or not."""
    (count,) = _numbers(variables, "PMI_", "SIZE")
    if not count or count == 1:
        return None
    return Peers("MPI", count, _mpi4py(f"PMI_SIZE={count}"))


def _mpi4py(cause: str) -> str:
    """JAX's detection method for MPI launchers that it does not support itself."""
    if find_spec("mpi4py") is None:
        raise UsageError(
            f"{cause}: MPI started several processes, and JAX needs mpi4py to find them (pip "
            "install mpi4py, built for this MPI). Or give --coordinator_address, --num_processes "
            f"and --process_id (docs/scaling.md); {ALONE}"
        )
    return "mpi4py"


def _tpu_pod(variables: Mapping[str, str]) -> Peers | None:
    """Hosts of a TPU slice, counted by JAX's own detection, as Google's two ways differ."""
    try:
        from jax._src.cloud_tpu_init import running_in_cloud_tpu_vm
        from jax._src.clusters import GceTpuCluster, GkeTpuCluster
    except ImportError:  # they are not part of JAX's public API
        return None
    if not running_in_cloud_tpu_vm:
        return None
    try:
        present = (c for c in (GkeTpuCluster, GceTpuCluster) if c.is_env_present())
        count = next((cluster.get_process_count() for cluster in present), 1)
    except Exception as error:  # from their metadata server, its library, or malformed variables
        reason = f"{type(error).__name__}: {error}"
        raise UsageError(
            f"the hosts of this TPU could not be counted: {reason}; {ALONE}"
        ) from error
    return Peers("Cloud TPU", count) if count > 1 else None


def _is_indexed_pod(variables: Mapping[str, str]) -> bool:
    return "KUBERNETES_SERVICE_HOST" in variables and "JOB_COMPLETION_INDEX" in variables


def _kubernetes(variables: Mapping[str, str]) -> Peers | None:
    """Pods of an indexed job that can find each other; without a headless service they cannot."""
    if not _is_indexed_pod(variables):
        return None
    _numbers(variables, "JOB_", "COMPLETION_INDEX")
    # Such a pod has the name POD.SERVICE.NAMESPACE.svc.DOMAIN, any other one only POD.
    if ".svc." not in socket.getfqdn() and "JAX_COORDINATOR_ADDRESS" not in variables:
        return None
    if find_spec("kubernetes") is None:
        raise UsageError(
            "the pods of this job have a headless service, but JAX needs the package kubernetes to "
            f'find them (pip install "jax[k8s]"); or {ALONE}'
        )
    return Peers("Kubernetes", None)


def _numbers(variables: Mapping[str, str], prefix: str, *names: str) -> list[int | None]:
    """Variables as whole numbers; None for those that are not set.

    Raises:
      UsageError: if a variable is not a number; JAX would end with a traceback.
    """
    numbers = []
    for name in names:
        text = variables.get(prefix + name, "").strip()
        if text and not (text.isascii() and text.isdecimal()):
            raise UsageError(f"{prefix}{name}={quoted(text)}: must be a whole number; {ALONE}")
        numbers.append(int(text) if text else None)
    return numbers
