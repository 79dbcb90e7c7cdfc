"""The C++ of `native/`, compiled for this machine at its first use and kept for the next.

Compiled here rather than into the package, so that it uses all that the processor can do, fits
the installed jaxlib, and the package itself runs anywhere.
"""

import atexit
import ctypes
import functools
import hashlib
import logging
import os
import shlex
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import jax
import jaxlib.version

SOURCES = Path(__file__).parent / "native"
HANDLERS = ("step", "step_backward", "sequence", "sequence_backward")
NUMBERS = {"float32": "float", "float64": "double"}
_FLAGS = ("-std=c++17", "-O3", "-march=native", "-fPIC", "-shared")
_FLAGS += ("-fno-math-errno", "-fno-trapping-math", "-ffp-contract=fast")
_LOG = logging.getLogger("dncx")
_lock = threading.Lock()


def cache_folder() -> Path:
    """Where compiled kernels are kept: dncx/kernels in XDG_CACHE_HOME, or in ~/.cache."""
    asked = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (asked if asked.is_absolute() else Path.home() / ".cache") / "dncx" / "kernels"


def target(handler: str, dtype: str, read_heads: int) -> str:
    """The name by which XLA knows a handler, once `load` has been called."""
    return f"dncx_{handler}_{dtype}_{read_heads}"


def load(dtype: str, read_heads: int) -> str | None:
    """Makes the kernels for a dtype and a number of read heads known to XLA.

    Returns:
      None, or why there are none.
    """
    with _lock:
        return _load(dtype, read_heads)


@functools.cache
def _load(dtype: str, read_heads: int) -> str | None:
    try:
        path = compiled(dtype, read_heads)
        try:
            library = ctypes.CDLL(str(path))
        except OSError:  # cut short by a full disk, say, or on a disk that runs no programs
            library = ctypes.CDLL(str(compiled(dtype, read_heads, Path(_temporary_folder()))))
        for handler in HANDLERS:
            jax.ffi.register_ffi_target(
                target(handler, dtype, read_heads),
                jax.ffi.pycapsule(getattr(library, f"dncx_{handler}")),
                platform="cpu",
            )
    except (AttributeError, OSError, RuntimeError, subprocess.SubprocessError) as error:
        _LOG.warning("no native kernels, the xla form is used: %s", error)
        return str(error)
    return None


def compiled(dtype: str, read_heads: int, folder: Path | None = None) -> Path:
    """The path of the library, compiled now if it is not there yet.

    Args:
      dtype: "float32" or "float64".
      read_heads: R.
      folder: where it is kept; by default in `cache_folder()`, or where that cannot be written
        in a folder for this process only.

    Raises:
      RuntimeError: there is no compiler, or it failed.
    """
    command = [*_compiler(), *_FLAGS, "-isystem", jax.ffi.include_dir(), str(SOURCES / "native.cc")]
    name = f"{dtype}-{read_heads}.so"
    defines = [f"-DDNCX_NUMBER={NUMBERS[dtype]}", f"-DDNCX_READS={read_heads}"]
    try:
        path = (folder or cache_folder() / _fingerprint(command)[:16]) / name
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            _compile([*command, *defines], path)
        return path
    except OSError:
        if folder:
            raise
        return compiled(dtype, read_heads, Path(_temporary_folder()))


def _compile(command: list[str], path: Path) -> None:
    _LOG.info("compiling the kernels for this machine: %s", path)
    with tempfile.TemporaryDirectory(dir=path.parent) as temporary:
        made = Path(temporary) / path.name
        _output([*command, "-o", str(made)])
        made.replace(path)  # whole or not at all, whoever else compiles it


@functools.cache
def _temporary_folder() -> str:
    folder = tempfile.mkdtemp(prefix="dncx-kernels-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def _compiler() -> list[str]:
    asked = shlex.split(os.environ.get("CXX", ""))
    for command in (asked,) if asked else (["c++"], ["g++"], ["clang++"]):
        if shutil.which(command[0]):
            return command
    raise RuntimeError(f"no C++ compiler ({' '.join(asked) or 'c++, g++ or clang++'}) found")


def _fingerprint(command: list[str]) -> str:
    """Of all that the compiled code depends on; a cache may be shared between machines."""
    content = hashlib.sha256(repr((command, jaxlib.version.__version__)).encode())
    for path in sorted(SOURCES.iterdir()):
        content.update(path.read_bytes())
    macros = ["-march=native", "-dM", "-E", "-x", "c++", os.devnull]
    content.update(_output([*_compiler(), *macros]).encode())  # compiler and processor
    return content.hexdigest()


def _output(command: list[str]) -> str:
    result = subprocess.run(
        command, capture_output=True, text=True, errors="replace", timeout=300, check=False
    )
    if result.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
    return result.stdout
