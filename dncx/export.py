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

FORMAT = "dncx-export-1"
PLATFORMS = ("cpu", "cuda", "tpu")
ABOUT = "export.json"
_FILES = {"sequence": "sequence.jax_export", "step": "step.jax_export"}
_INPUTS = {"sequence": ["inputs", "lengths"], "step": ["inputs"]}


def export(settings: ExportSettings) -> Iterator[str]:
    """Writes the programs of a run and export.json; yields a line of text for each file.

    Raises:
      UsageError: if there is no such run, or an export already exists; nothing is written then.
    """
    run, out = settings.run_dir, _folder(settings)
    if find_spec("flatbuffers") is None:
        raise UsageError('export needs flatbuffers: pip install "dncx[export]"')
    changes = {} if settings.memory_size is None else {"memory_size": settings.memory_size}
    _, network, config, progress = load_run(run, checkpoint=settings.checkpoint, **changes)
    if config.network.bidirectional:
        raise UsageError(
            f"{run} is bidirectional: it needs complete sequences, so it has no step to export"
        )
    programs = export_programs(network)
    files = {_FILES[name]: bytes(program.serialize()) for name, program in programs.items()}
    about = {
        "format": FORMAT,
        "run": {"name": run.resolve().name, "id": config.id},
        "progress": to_plain(progress),
        "task": to_plain(config.task),
        "network": to_plain(config.network),
        "made_with": {"dncx": __version__, "jax": jax.__version__},
        "platforms": list(PLATFORMS),
        **_interface(network, programs),
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
    }
    out.mkdir(parents=True, exist_ok=True)
    (out / ABOUT).unlink(missing_ok=True)  # it would not describe the new programs
    for name, content in (files | {ABOUT: (json.dumps(about, indent=2) + "\n").encode()}).items():
        write_whole(out / name, content)
        yield f"{out / name}: {len(content):,} bytes"


def export_programs(network: Network) -> dict[str, jax_export.Exported]:
    """The programs of a network, "sequence" and "step", for batches of any size from 1 on.

    sequence(state, inputs [b, t, F], lengths [b]) and step(state, inputs [b, F]) return the new
    state and the outputs. A state is the list of the arrays of the cell's state, in their order;
    the initial state is all zeros. Lengths are as in `dncx.unroll`; a length above t counts as t.
    """
    network = nnx.clone(network)
    cell = cell_of(network)
    if isinstance(cell, DNC):
        cell.access.implementation = "plain"
    # Made together: a name stands for the same size only within one call.
    batch, time = jax_export.symbolic_shape("b, t")
    first, tree = jax.tree.flatten(_first_state(cell, batch))
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

    features = network.input_size
    inputs = jax.ShapeDtypeStruct((batch, time, features), jnp.float32)
    lengths = jax.ShapeDtypeStruct((batch,), jnp.int32)
    step_inputs = jax.ShapeDtypeStruct((batch, features), jnp.float32)
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


def _first_state(cell: Any, batch: Any) -> Any:
    """Shapes and dtypes of the initial state."""
    return jax.eval_shape(lambda: cell.initialize_carry((batch, cell.input_size)))


def _folder(settings: ExportSettings) -> Path:
    """The folder for the files.

    Raises:
      UsageError: if it contains an earlier export and --force is not given.
    """
    run = settings.run_dir
    own = (run / CONFIG).exists()
    out = settings.out or (run / "export" if own else Path("export") / run.name)
    check_folder(out, "out")
    if not settings.force and any((out / name).exists() for name in [ABOUT, *_FILES.values()]):
        raise UsageError(
            f"--out: {out} has an export already; --force replaces it, --out=OTHER writes elsewhere"
        )
    return out


def _interface(network: Network, programs: dict[str, jax_export.Exported]) -> dict[str, Any]:
    """Inputs and outputs of the programs, by name."""
    paths = jax.tree_util.tree_leaves_with_path(_first_state(cell_of(network), 1))
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in paths]
    size = len(names)
    return {
        "state": _arrays(names, programs["step"].in_avals[:size]),
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
