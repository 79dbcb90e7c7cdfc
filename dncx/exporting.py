"""`dncx export`: a trained model as two programs that run with JAX alone, without dncx.

sequence.jax_export  the network over whole sequences
step.jax_export      one step of it
export.json          their inputs and outputs; written last: if it exists, the files are complete

`jax.export` makes the programs, as StableHLO. They contain the weights as constants, so a file is
hardly larger than the weights and needs no other file. They compute the plain equations: the native
kernel is for one machine, and "xla" differs only in gradients and in chunks of a known number of
steps.
"""

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax import export as jax_export
from jaxtyping import Array

from dncx import __version__
from dncx.dnc import DNC
from dncx.errors import UsageError
from dncx.networks.build import Network
from dncx.parts import cell_of
from dncx.runs.codec import to_plain
from dncx.runs.directory import load_run
from dncx.runs.files import check_folder, write_whole
from dncx.runs.paths import CONFIG
from dncx.sequence import unroll
from dncx.settings.commands import ExportSettings
from dncx.settings.paths import as_path

FORMAT = "dncx-export-1"
PLATFORMS = ("cpu", "cuda", "tpu")
ABOUT = "export.json"
_FILES = {"sequence": "sequence.jax_export", "step": "step.jax_export"}
_INPUTS = {"sequence": ["inputs", "lengths"], "step": ["inputs"]}


def export(
    network: Network, folder: Path | str, *, input_size: int | None = None, force: bool = False
) -> list[Path]:
    """Writes the programs of a network and export.json.

    Args:
      network: a recurrent cell, or a network with layers before its cell.
      folder: the folder for the files.
      input_size: features of a step's inputs; by default `network.input_size`.
      force: whether to replace an earlier export.

    Returns:
      The files.

    Raises:
      UsageError: if the folder contains an export already, or the network has no single steps.
        Nothing is written in that case.

    Example:
      >>> cell = dncx.DNC(6, 5, rngs=nnx.Rngs(0))
      >>> dncx.export(cell, "programs")
    """
    folder = as_path(folder)
    _check_folder(folder, force)
    size = network_input_size(network) if input_size is None else input_size
    return list(_written(folder, network, size, {}))


def export_run(settings: ExportSettings) -> Iterator[str]:
    """Writes the programs of a run and export.json; yields a line of text for each file.

    Raises:
      UsageError: if there is no such run, or as for `export`. Nothing is written in that case.
    """
    run = settings.run_dir
    own = (run / CONFIG).exists()
    out = settings.out or (run / "export" if own else Path("export") / run.name)
    _check_folder(out, settings.force)
    changes = {} if settings.memory_size is None else {"memory_size": settings.memory_size}
    loaded = load_run(run, checkpoint=settings.checkpoint, network=settings.network, **changes)
    config = loaded.config
    about = {
        "run": {"name": run.resolve().name, "id": config.id},
        "progress": to_plain(loaded.progress),
        "task": to_plain(config.task),
        "network": to_plain(config.network),
    }
    for path in _written(out, loaded.network, config.network.input_size, about):
        yield f"{path}: {path.stat().st_size:,} bytes"


def _written(
    folder: Path, network: Network, input_size: int, about: dict[str, Any]
) -> Iterator[Path]:
    """Makes the programs, then writes all files."""
    programs = export_programs(network, input_size)
    files = {_FILES[name]: bytes(program.serialize()) for name, program in programs.items()}
    about = {
        "format": FORMAT,
        **about,
        "made_with": {"dncx": __version__, "jax": jax.__version__},
        "platforms": list(PLATFORMS),
        **_interface(network.initialize_carry((1, input_size), nnx.Rngs(0)), programs),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / ABOUT).unlink(missing_ok=True)  # it would not describe the new programs
    for name, content in (files | {ABOUT: (json.dumps(about, indent=2) + "\n").encode()}).items():
        write_whole(folder / name, content)
        yield folder / name


def export_programs(network: Network, input_size: int) -> dict[str, jax_export.Exported]:
    """The programs of a network, "sequence" and "step", for batches of any size from 1 on.

    sequence(state, inputs [b, t, F], lengths [b]) and step(state, inputs [b, F]) return the new
    state and the outputs. A state is the list of the arrays of the cell's state, in their order;
    export.json has its initial values. Lengths are as in `dncx.unroll`; one above t counts as t.
    """
    _check_network(network)
    network = nnx.clone(network)
    cell = cell_of(network)
    if isinstance(cell, DNC):
        cell.access.implementation = "plain"
    # Made together: a name stands for the same size only within one call.
    batch, time = jax_export.symbolic_shape("b, t")
    first, tree = jax.tree.flatten(_first_state(network, batch, input_size))
    graph, params = nnx.split(network)

    def sequence(state: list[Array], inputs: Array, lengths: Array) -> tuple[list[Array], Array]:
        start = jax.tree.unflatten(tree, state)
        network = nnx.merge(graph, params)
        outputs, last = unroll(network, inputs, initial_state=start, lengths=lengths)
        return jax.tree.leaves(last), outputs

    def step(state: list[Array], inputs: Array) -> tuple[list[Array], Array]:
        new, outputs = nnx.merge(graph, params)(jax.tree.unflatten(tree, state), inputs)
        return jax.tree.leaves(new), outputs

    def exported(function: Any, *arrays: jax.ShapeDtypeStruct) -> jax_export.Exported:
        with _without_paths():
            return jax_export.export(jax.jit(function), platforms=PLATFORMS)(first, *arrays)

    inputs = jax.ShapeDtypeStruct((batch, time, input_size), jnp.float32)
    lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
    step_inputs = jax.ShapeDtypeStruct((batch, input_size), jnp.float32)
    return {"sequence": exported(sequence, inputs, lengths), "step": exported(step, step_inputs)}


@contextlib.contextmanager
def _without_paths() -> Iterator[None]:
    """JAX records the source file of every operation, with paths of the machine that exports."""
    name = "jax_traceback_in_locations_limit"
    before = getattr(jax.config, name)
    jax.config.update(name, 0)
    try:
        yield
    finally:
        jax.config.update(name, before)


def network_input_size(network: Network) -> int:
    """The features of a step's inputs.

    Raises:
      UsageError: if the network does not know them.
    """
    size = getattr(network, "input_size", None)
    if not isinstance(size, int):
        raise UsageError(f"a {type(network).__name__} has no input_size: pass input_size=...")
    return size


def _check_network(network: Network) -> None:
    """Refuses a network that the programs cannot describe."""
    if find_spec("flatbuffers") is None:
        raise UsageError('export needs flatbuffers: pip install "dncx[export]"')
    if not getattr(network, "step_by_step", True):
        raise UsageError(
            f"a {type(network).__name__} needs complete sequences, so it cannot be exported"
        )


def _first_state(network: Network, batch: Any, input_size: int) -> Any:
    """Shapes and dtypes of the initial state."""
    return jax.eval_shape(lambda: network.initialize_carry((batch, input_size), nnx.Rngs(0)))


def _check_folder(folder: Path, force: bool) -> None:
    """Refuses a folder that cannot be written, or has an export that may not be replaced."""
    check_folder(folder, "out")
    if not force and any((folder / name).exists() for name in [ABOUT, *_FILES.values()]):
        raise UsageError(
            f"--out: {folder} has an export already; --force replaces it, --out=OTHER writes "
            "elsewhere"
        )


def _interface(first: Any, programs: dict[str, jax_export.Exported]) -> dict[str, Any]:
    """Inputs and outputs of the programs, by name.

    Args:
      first: the initial state of one sequence.
      programs: the programs.
    """
    paths = jax.tree_util.tree_leaves_with_path(first)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    size = len(names)
    state = _arrays(names, programs["step"].in_avals[:size])
    return {
        "state": [
            {**array, "initial": _initial(np.asarray(value))}
            for array, value in zip(state, jax.tree.leaves(first), strict=True)
        ],
        "programs": {
            name: {
                "file": _FILES[name],
                "call": f"state, outputs = jax.jit({name}.call)(state, {', '.join(_INPUTS[name])})",
                "takes": _arrays(_INPUTS[name], program.in_avals[size:]),
                "gives": _arrays(["outputs"], program.out_avals[size:]),
            }
            for name, program in programs.items()
        },
    }


def _initial(value: np.ndarray) -> Any:
    """The initial value of a state's array [1, ...]: a number if it is constant, else a list."""
    constant = value.size and (value == value.flat[0]).all()
    return value.flat[0].item() if constant else value[0].tolist()


def _arrays(names: Sequence[str], like: Sequence[Any]) -> list[dict[str, Any]]:
    """Name, shape and dtype of each; axes of any size are "b" and "t"."""
    return [
        {
            "name": name,
            "shape": [axis if isinstance(axis, int) else str(axis) for axis in array.shape],
            "dtype": str(array.dtype),
        }
        for name, array in zip(names, like, strict=True)
    ]
