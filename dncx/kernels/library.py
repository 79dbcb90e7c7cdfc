"""The C++ of `native/`, compiled for this machine at its first use and kept for the next.

Compiled here rather than into the package, so that it uses all that the processor can do, fits
the installed jaxlib, and the package itself runs anywhere.
"""

import ctypes
import functools
import hashlib
import logging
import os
import platform
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
_lock = threading.Lock()


def cache_folder() -> Path:
    """Where compiled kernels are kept: dncx/kernels in XDG_CACHE_HOME, or in ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "dncx" / "kernels"


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
        library = ctypes.CDLL(str(_compiled(dtype, read_heads)))
        for handler in HANDLERS:
            jax.ffi.register_ffi_target(
                target(handler, dtype, read_heads),
                jax.ffi.pycapsule(getattr(library, f"dncx_{handler}")),
                platform="cpu",
            )
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        logging.getLogger("dncx").warning("no native kernels, the plain form is used: %s", error)
        return str(error)
    return None


def _compiled(dtype: str, read_heads: int) -> Path:
    """The path of the library, compiled now if it is not there yet."""
    command = [*_compiler(), *_FLAGS, "-isystem", jax.ffi.include_dir(), str(SOURCES / "native.cc")]
    folder = cache_folder() / _fingerprint(command)[:16]
    path = folder / f"{dtype}-{read_heads}.so"
    if path.exists():
        return path
    command += [f"-DDNCX_NUMBER={NUMBERS[dtype]}", f"-DDNCX_READS={read_heads}"]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError:  # kept for this process only
        folder = Path(tempfile.mkdtemp(prefix="dncx-kernels-"))
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        made = Path(temporary) / path.name
        result = subprocess.run(
            [*command, "-o", str(made)], capture_output=True, text=True, timeout=300, check=False
        )
        if result.returncode:
            raise RuntimeError(f"{' '.join(command)} failed:\n{result.stderr[-2000:]}")
        return made.replace(folder / path.name)  # whole or not at all, whoever else compiles it


def _compiler() -> list[str]:
    asked = os.environ.get("CXX", "").split()
    for command in (asked,) if asked else (["c++"], ["g++"], ["clang++"]):
        if shutil.which(command[0]):
            return command
    raise RuntimeError(f"no C++ compiler ({' '.join(asked) or 'c++, g++ or clang++'}) found")


def _fingerprint(command: list[str]) -> str:
    """Of all that the compiled code depends on; caches are shared between machines."""
    content = hashlib.sha256(
        repr((command, jaxlib.version.__version__, platform.platform())).encode()
    )
    for path in sorted(SOURCES.iterdir()):
        content.update(path.read_bytes())
    compiler = subprocess.run([command[0], "--version"], capture_output=True, check=False)
    content.update(compiler.stdout)
    processor = Path("/proc/cpuinfo")
    if processor.exists():
        lines = processor.read_text().splitlines()
        content.update(repr([line for line in lines if line.startswith("flags")][:1]).encode())
    return content.hexdigest()
