"""Everything runs strict: shapes checked, no silent promotion of dtypes or ranks."""

import functools
import json
import os
import signal
from pathlib import Path

import jax
import numpy as np
import pytest
import quick_compilation
from jaxtyping import config as jaxtyping_config
from jaxtyping import install_import_hook

os.environ.setdefault("XLA_FLAGS", quick_compilation.FLAGS)

# The modules that compute with arrays. The others handle text and files; checks would slow them.
CHECKED = ["glossary", "initializers", "addressing", "interface", "access", "controllers", "config",
           "dnc", "sequence", "kernels", "networks", "tasks"]  # fmt: skip
install_import_hook([f"dncx.{name}" for name in CHECKED], "beartype.beartype")

# A shell that starts the tests in the background ignores Ctrl-C, and nohup a closed terminal;
# processes inherit this.
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)

jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_platforms", "cpu")


# The longest tests are here. They begin first: at the end, one process would wait for the other.
LONGEST = {
    "test_documented_commands.py", "test_docs.py", "test_examples.py", "test_meshes.py",
    "test_survival.py",
}  # fmt: skip


def pytest_collection_modifyitems(items):
    items.sort(key=lambda item: item.path.name not in LONGEST)


def later(*cases):
    """Cases of a parameter for .ci/run's second step: `make test` has others of their kind."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.second_step)
        for case in cases
    ]


GOLDENS = Path(__file__).parent / "goldens"


@pytest.fixture
def x64():
    """Float64 for one test."""
    with jax.enable_x64(True):
        yield


class Golden:
    """A file of the original's numbers, opened when first asked for."""

    def __init__(self, name):
        self.info = json.loads((GOLDENS / f"{name}.json").read_text())
        with np.load(GOLDENS / f"{name}.npz") as arrays:
            self.arrays = dict(arrays)

    def under(self, prefix):
        """The arrays whose names start with the prefix, without it."""
        return {k.removeprefix(prefix): v for k, v in self.arrays.items() if k.startswith(prefix)}


@pytest.fixture(scope="session")
def golden():
    """golden("a_default") -> that file, read once."""
    files = {}

    def read(name):
        if name not in files:
            files[name] = Golden(name)
        return files[name]

    return read


def original_model(golden, dtype, implementation=None):
    """The model of a golden file, in a dtype."""
    from dncx.interop.deepmind import from_variables

    config = golden.info["config"]
    cell = from_variables(
        {name: array.astype(dtype) for name, array in golden.under("var/").items()},
        memory_size=config["memory_size"],
        word_size=config["word_size"],
        num_read_heads=config["num_reads"],
        num_write_heads=config["num_writes"],
        clip_value=config["clip_value"],
    )
    cell.access.implementation = implementation
    return cell


def assert_relative(actual, expected, tolerance, name=""):
    """Largest difference, measured by the largest number expected."""
    actual, expected = np.asarray(actual, np.float64), np.asarray(expected, np.float64)
    assert actual.shape == expected.shape, name
    error = np.max(np.abs(actual - expected)) / max(np.max(np.abs(expected)), 1e-30)
    assert error <= tolerance, f"{name}: {error:.2e} > {tolerance:.0e}"


@pytest.fixture
def without_type_checks():
    """For sizes that are symbols, and for what the tests' check of types would refuse itself."""
    jaxtyping_config.update("jaxtyping_disable", True)
    yield
    jaxtyping_config.update("jaxtyping_disable", False)


@pytest.fixture(scope="module")
def shared_programs():
    """Trainings with the same configuration share one traced and compiled program.

    For modules that train the same small network many times, and change nothing of what is traced.
    """
    from dncx.training import compilation, setup, update

    makers = (setup, "make_optimizer"), (update, "make_train"), (compilation, "make_answer")
    with pytest.MonkeyPatch.context() as patch:
        for module, name in makers:
            patch.setattr(module, name, functools.cache(getattr(module, name)))
        yield


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(request):
    """The same program is compiled once, for all tests and for the next run of them."""
    folder = request.config.cache.mkdir("jax")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)  # for the programs that tests run
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"  # or JAX keeps no small ones
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
