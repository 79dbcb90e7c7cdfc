"""Several devices for one run: they share the batch or the seeds, and the slots of a memory."""

import logging
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from dncx.addressing import TemporalLinkageState
from dncx.dnc import DNCState
from dncx.errors import UsageError, did_you_mean
from dncx.settings.training import ScaleSettings

BATCH, MEMORY = "batch", "memory"


class Devices(NamedTuple):
    """A mesh of devices: rows share the batch, the devices in a row share the slots of a memory."""

    mesh: Mesh

    @property
    def everywhere(self) -> NamedSharding:
        """The sharding of an array that is replicated on every device."""
        return NamedSharding(self.mesh, PartitionSpec())

    def place(self, tree: Any) -> Any:
        """The same arrays on every device."""

        def put(x: jax.Array) -> jax.Array:
            if jnp.issubdtype(
                x.dtype, jax.dtypes.prng_key
            ):  # JAX cannot send keys to other processes
                return jax.random.wrap_key_data(put(jax.random.key_data(x)))
            return jax.device_put(x, self.everywhere)

        return jax.tree.map(put, tree)

    def spread(self, batch: Any) -> Any:
        """A batch drawn inside jit, with each row of devices drawing its part."""
        return jax.lax.with_sharding_constraint(
            batch, NamedSharding(self.mesh, PartitionSpec(BATCH))
        )

    def mean_over_batch(self, gradient: Callable[..., Any]) -> Callable[..., Any]:
        """A function (params, *batch), as the mean of its results for the parts of the batch."""

        def mean(params: Any, *part: Any) -> Any:
            return jax.lax.pmean(gradient(params, *part), BATCH)

        def shared(params: Any, *batch: Any) -> Any:
            parts = PartitionSpec(), *(PartitionSpec(BATCH) for _ in batch)
            return self._by_rows(mean, parts, PartitionSpec())(params, *batch)

        return shared

    def over_seeds(self, train: Callable[..., Any]) -> Callable[..., Any]:
        """A function (states, keys, ...) of a population, with the seeds divided among the rows."""
        seeds, whole = PartitionSpec(BATCH), PartitionSpec()

        def shared(states: Any, keys: Any, *rest: Any) -> Any:
            parts = seeds, seeds, *(whole for _ in rest)
            return self._by_rows(train, parts, seeds)(states, keys, *rest)

        return shared

    def share_memory(self, state: Any) -> Any:
        """An initial state whose slots are divided; the division carries over to later states."""
        if self.mesh.shape[MEMORY] == 1 or not isinstance(state, DNCState):
            return state
        here = jax.sharding.get_abstract_mesh()  # inside shard_map, which has divided the batch
        here = self.mesh if here.empty else here
        access = state.access_state
        memory = jax.lax.with_sharding_constraint(
            access.memory, NamedSharding(here, PartitionSpec(None, MEMORY, None))
        )
        access = access._replace(memory=memory)
        if isinstance(access.linkage, TemporalLinkageState):
            link = jax.lax.with_sharding_constraint(
                access.linkage.link, NamedSharding(here, PartitionSpec(None, None, MEMORY, None))
            )
            access = access._replace(linkage=access.linkage._replace(link=link))
        return state._replace(access_state=access)

    def _by_rows(self, function: Callable[..., Any], given: Any, result: Any) -> Any:
        return jax.shard_map(
            function,
            mesh=self.mesh,
            in_specs=given,
            out_specs=result,
            axis_names={BATCH},
            check_vma=False,
        )


def check_devices() -> None:
    """Refuses a platform that JAX cannot use, before anything is computed.

    Raises:
      UsageError: if JAX_PLATFORMS selects it, or its plugin fails; the message names the remedy.
    """
    log = logging.getLogger("jax._src.xla_bridge")
    log.addFilter(_one_line)
    try:
        jax.devices()
    except (AssertionError, RuntimeError) as error:  # without any device JAX fails an assertion
        raise UsageError(_no_device(_platforms(), str(error))) from error
    finally:
        log.removeFilter(_one_line)


_INSTALL = {
    "cuda": 'install the NVIDIA driver and pip install "jax[cuda13]"',
    "tpu": 'pip install "jax[tpu]"',
}
_PLATFORMS = ("cpu", "gpu", "cuda", "rocm", "tpu")


def _platforms() -> str | None:
    """JAX_PLATFORMS, as JAX has read it."""
    return jax.config.values["jax_platforms"]


def _no_device(asked: str | None, error: str) -> str:
    """The remedy for JAX's error, on one line.

    Args:
      asked: JAX_PLATFORMS.
      error: JAX's message.
    """
    reason = error.partition("\n")[0].partition(" (set JAX")[0].partition(" (you may")[0]
    reason = reason.partition("': ")[2] or reason
    detail = f" ({reason[:200].rstrip('.')})" if reason else ""
    if not asked:
        return f"JAX cannot use a device of this machine{detail}; JAX_PLATFORMS=cpu uses the CPU"
    if asked != asked.lower():
        return f"JAX_PLATFORMS={asked}: must be in lower case, JAX_PLATFORMS={asked.lower()}"
    names = asked.replace("gpu", "cuda").split(",")
    advice = [text for name, text in _INSTALL.items() if name in names]
    unknown = next((name for name in names if name not in _PLATFORMS), "")
    return (
        f"JAX_PLATFORMS={asked}: JAX finds no such device{detail}; "
        f"{', or '.join([*advice, 'unset JAX_PLATFORMS'])}{did_you_mean(unknown, _PLATFORMS)}"
    )


def _one_line(record: logging.LogRecord) -> bool:
    """Shortens JAX's log of a failed plugin to its reason, without the stack trace."""
    if record.exc_info and record.exc_info[1]:
        error = record.exc_info[1]
        record.msg = f"{record.getMessage()}: {type(error).__name__}: {error}".partition("\n")[0]
        record.args, record.exc_info = None, None
    return True


def find_devices(settings: ScaleSettings, batch_size: int, memory_size: int) -> Devices | None:
    """The devices that a run uses; None for a single one.

    Args:
      settings: the numbers of devices.
      batch_size: batch size of the run.
      memory_size: slots of its memory.

    Raises:
      UsageError: if there are too few devices, or the work cannot be divided among them.
    """
    shares = _shares(settings, batch_size)
    there, columns = jax.devices(), settings.memory_devices
    if memory_size % columns:
        raise UsageError(
            f"memory_devices={columns}: must divide memory_size, which is {memory_size}"
        )
    if columns > 1 and settings.num_seeds > 1:
        raise UsageError(f"memory_devices={columns}: needs num_seeds=1")
    for name, number in (("num_devices", settings.num_devices), ("memory_devices", columns)):
        if number > len(there):
            known = "is 1 device" if len(there) == 1 else f"are {len(there)} devices"
            raise UsageError(f"{name}={number}: there {known}")
    wanted = settings.num_devices or len(there)
    rows = wanted // columns
    if settings.num_devices and wanted % columns:
        raise UsageError(
            f"num_devices={wanted}: must be a multiple of memory_devices, which is {columns}"
        )
    if settings.num_devices and shares.number % rows:
        divided = f"divided by memory_devices, {columns}, it " if columns > 1 else ""
        raise UsageError(
            f"num_devices={wanted}: {divided}must divide {shares.what}, which is {shares.number}"
        )
    rows = max(n for n in range(1, rows + 1) if shares.number % n == 0)
    if jax.process_count() > 1 and rows * columns != len(there):
        raise UsageError(
            f"{shares.what}, which is {shares.number}, must be a multiple of "
            f"{len(there) // columns}, as {jax.process_count()} processes have {len(there)} devices"
        )
    if rows * columns == 1:
        return None
    axes = (AxisType.Auto,) * 2
    used = there[: rows * columns]
    return Devices(jax.make_mesh((rows, columns), (BATCH, MEMORY), axes, devices=used))


def in_words(devices: Devices | None) -> str:
    """A description of the devices of a run: "cpu", or "2 of 8 devices (cpu)"."""
    there, used = jax.devices(), devices.mesh.size if devices else 1
    if len(there) == 1:
        return there[0].platform
    of = f"{used} of " if used < len(there) else ""
    return f"{of}{len(there)} devices ({there[0].platform})"


class _Shares(NamedTuple):
    what: str
    number: int


def _shares(settings: ScaleSettings, batch_size: int) -> _Shares:
    if settings.num_seeds > 1:
        return _Shares("num_seeds", settings.num_seeds)
    if settings.gradient_accumulation > 1:
        return _Shares(
            "batch_size / gradient_accumulation", batch_size // settings.gradient_accumulation
        )
    return _Shares("batch_size", batch_size)
